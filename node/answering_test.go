package node

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
)

// The connection that is one too many takes the place of a quiet one, whatever the client does with it, and is turned away
// if all are being answered.
func TestConnectionsOfClientsAreBounded(t *testing.T) {
	for _, says := range []string{"", "GET / HTTP/1.1\r\nHost: a\r\n"} {
		t.Run(strconv.Quote(says), func(t *testing.T) { boundConnections(t, says) })
	}
	busy := newAnswering(1)
	all, _ := net.Pipe()
	defer all.Close()
	busy.state(all, http.StateActive)
	in, out := net.Pipe()
	defer out.Close()
	busy.state(in, http.StateNew)
	if _, err := in.Write([]byte("x")); err == nil {
		t.Error("one too many is taken though all others are being answered")
	}
}

// boundConnections opens more connections than there may be, on which a client says something that is no whole request.
func boundConnections(t *testing.T, says string) {
	a := newAnswering(3)
	server := &http.Server{Handler: http.NotFoundHandler()}
	a.bound(server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() { server.Close(); <-served }()
	for range 20 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, says) // it may be closed already
	}
	eventually(t, "all but three are closed", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.quiet) == 3
	})
	if resp, err := http.Get("http://" + l.Addr().String()); err != nil {
		t.Errorf("a client beside them: %v", err)
	} else {
		resp.Body.Close()
	}
}
