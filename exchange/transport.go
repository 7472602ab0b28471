package exchange

import (
	"context"
	"net"
)

// Transport is the network under the data port: TCP between hosts, links in memory and in virtual time in tests. Who is at
// the other end is proven above it. Its methods may be called concurrently.
type Transport interface {
	// Listener is where peers fetch pieces.
	net.Listener
	// DialContext connects to the data port of a peer, at Member.DataAddr. It bounds its own wait.
	DialContext(ctx context.Context, addr string) (net.Conn, error)
}

// TCP is the Transport of hosts. It dials for at most 5 s.
type TCP struct{ net.Listener }

// DialContext implements Transport.
func (TCP) DialContext(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", addr)
}
