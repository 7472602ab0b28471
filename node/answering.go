package node

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// How many connections of clients the ports have at most; more than requests are answered at once.
const (
	maxMirrorConns = 4096
	maxAdminConns  = 256 // also of --preheat-addr
)

// answering are the connections of a port and its open tunnels: those on which a request is being answered, and those that
// are quiet, also in the middle of a header. When there are too many, a quiet one is closed for the one that comes: keeping a
// port's connections open, or half a request on each, keeps nobody else out of it. Its methods may be called concurrently.
type answering struct {
	most int

	mu    sync.Mutex
	conns map[net.Conn]bool // answered
	quiet map[net.Conn]bool // before the first request, or between two
}

func newAnswering(most int) *answering {
	return &answering{most: most, conns: make(map[net.Conn]bool), quiet: make(map[net.Conn]bool)}
}

type connKey struct{}

// bound has a server's connections counted: as answered from the end of a request's header on.
func (a *answering) bound(s *http.Server) {
	s.ConnState = func(c net.Conn, state http.ConnState) {
		if state != http.StateActive { // which it is from the first byte on
			a.state(c, state)
		}
	}
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	next := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			a.state(c, http.StateActive)
		}
		next.ServeHTTP(w, r)
	})
}

// state notes a connection's state, as an http.Server tells it.
func (a *answering) state(c net.Conn, s http.ConnState) {
	if tooMany := a.note(c, s); tooMany != nil {
		if t, ok := tooMany.(*tls.Conn); ok {
			tooMany = t.NetConn() // no farewell, which might wait
		}
		tooMany.Close() //nolint:errcheck // it is gone either way
	}
}

// note returns the connection to close for a new one: a quiet one, or the new one if none is; nil if there is room.
func (a *answering) note(c net.Conn, s http.ConnState) (tooMany net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.conns, c)
	delete(a.quiet, c)
	switch s {
	case http.StateNew, http.StateIdle:
		a.quiet[c] = true
	case http.StateActive:
		a.conns[c] = true
	}
	if s != http.StateNew || len(a.conns)+len(a.quiet) <= a.most {
		return nil
	}
	for tooMany = range a.quiet {
		if tooMany != c {
			break
		}
	}
	delete(a.quiet, tooMany)
	return tooMany
}

func (a *answering) none() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.conns) == 0
}
