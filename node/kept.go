package node

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// kept is a listener that outlives its servers: Close ends Accept and leaves the socket open, so that clients queue
// in the kernel until the next server accepts.
type kept struct {
	socket
	closed chan struct{}
	once   func()
}

// keep lends a socket out. The one that it was lent to before has to be closed and out of Accept.
func keep(l socket) (*kept, error) {
	k := &kept{socket: l, closed: make(chan struct{})}
	k.once = sync.OnceFunc(func() { close(k.closed) })
	return k, l.SetDeadline(time.Time{})
}

// Accept implements net.Listener.
func (k *kept) Accept() (net.Conn, error) {
	select {
	case <-k.closed:
		return nil, net.ErrClosed
	default:
	}
	c, err := k.socket.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, net.ErrClosed
	}
	return c, err
}

// Close implements net.Listener.
func (k *kept) Close() error {
	k.once()
	if err := k.SetDeadline(time.Unix(1, 0)); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
