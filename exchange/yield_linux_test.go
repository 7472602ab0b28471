package exchange

import (
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Uploads go behind what else the host sends, whether or not they are encrypted.
func TestUploadsYield(t *testing.T) {
	for name, accept := range map[string]func(*Exchange, net.Listener) net.Conn{
		"encrypted": func(x *Exchange, l net.Listener) net.Conn {
			c, err := x.secured(l).Accept()
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		"sorted": func(x *Exchange, l net.Listener) net.Conn {
			f := x.newFork(l)
			done := make(chan struct{})
			go func() { defer close(done); f.run(t.Context()) }()
			c, err := f.plain.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
			<-done
			return c
		},
	} {
		n := startNode(t, nodeConfig{zone: "a"})
		l := &lastConn{}
		var err error
		if l.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		out, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte("G")); err != nil {
			t.Fatal(err)
		}
		in := accept(n.Exchange, l)
		raw, err := l.last.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		got := -1
		if err := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY) }); err != nil || got != prioBulk {
			t.Errorf("%s: priority %d, %v", name, got, err)
		}
		_, _, _ = in.Close(), out.Close(), l.Close()
	}
}

// lastConn keeps the last connection that it accepted.
type lastConn struct {
	net.Listener
	last net.Conn
}

func (l *lastConn) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.last = c
	}
	return c, err
}
