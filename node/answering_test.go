package node

import (
	"net"
	"net/http"
	"testing"
)

// The connection that is one too many takes the place of a quiet one, whatever the client does with it, and is turned away
// if all are being answered.
func TestConnectionsOfClientsAreBounded(t *testing.T) {
	a := newAnswering(3)
	server := &http.Server{ConnState: a.state, Handler: http.NotFoundHandler()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() { server.Close(); <-served }()
	var silent []net.Conn
	for range 20 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
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
	busy := newAnswering(1)
	busy.state(silent[0], http.StateActive)
	in, out := net.Pipe()
	defer out.Close()
	busy.state(in, http.StateNew)
	if _, err := in.Write([]byte("x")); err == nil {
		t.Error("one too many is taken though all others are being answered")
	}
}
