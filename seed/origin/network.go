package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// network holds the connections made with one trust, apart by where they may lead: a connection that one
// rule allowed is never found by a request under a stricter one.
type network struct {
	make func(reach) *http.Transport

	mu      sync.Mutex
	byReach map[reach]*http.Transport
}

func newNetwork(cfg Config, dial dialer, trust *tls.Config) *network {
	return &network{
		byReach: make(map[reach]*http.Transport),
		make: func(r reach) *http.Transport {
			t := &http.Transport{
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					return dial(ctx, network, address, r)
				},
				TLSClientConfig:        trust.Clone(),
				TLSHandshakeTimeout:    cfg.DialTimeout,
				DisableCompression:     true, // a blob's bytes are what the digest says, and Content-Length counts
				MaxConnsPerHost:        cfg.MaxConns,
				MaxIdleConnsPerHost:    16,
				MaxIdleConns:           64,
				IdleConnTimeout:        time.Minute,
				MaxResponseHeaderBytes: 64 << 10,
				Protocols:              new(http.Protocols),
			}
			t.Protocols.SetHTTP1(true)
			return t
		},
	}
}

func (n *network) transport(r reach) *http.Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.byReach[r]
	if t == nil {
		t = n.make(r)
		n.byReach[r] = t
	}
	return t
}

func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.byReach {
		t.CloseIdleConnections()
	}
}

func dialGuarded(timeout time.Duration) dialer {
	return func(ctx context.Context, network, address string, r reach) (net.Conn, error) {
		d := net.Dialer{Timeout: timeout, Control: r.guard}
		return d.DialContext(ctx, network, address)
	}
}

// clipped bounds the text of an error that may quote what a server sent.
type clipped struct{ error }

func (c clipped) Error() string { return clip(c.error.Error()) }
func (c clipped) Unwrap() error { return c.error }

// networkError makes the error of a request that got no answer, or lost it. ended is how the caller's context
// ended, cause why our own did; nil if they did not.
func networkError(ended error, q *query, cause, err error) *Error {
	e := &Error{Registry: q.ep.name, Op: q.op()}
	var already *Error
	var timeout net.Error
	var dns *net.DNSError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.Is(ended, context.DeadlineExceeded):
		e.Err, e.Temporary = fmt.Errorf("%w: %w", ErrTimeout, ended), true
	case ended != nil:
		e.Err = ended
	case cause != nil:
		e.Err, e.Temporary = cause, errors.Is(cause, ErrUnreachable)
	case errors.As(err, &already):
		return already
	case errors.Is(err, ErrRefused), errors.Is(err, ErrInvalid), errors.Is(err, ErrClosed):
		e.Err = clipped{err}
	case errors.As(err, &timeout) && timeout.Timeout():
		e.Err, e.Temporary = fmt.Errorf("%w: %w", ErrTimeout, clipped{err}), true
	case errors.As(err, &dns) && dns.IsNotFound, errors.As(err, &verify):
		e.Err = fmt.Errorf("%w: %w", ErrUnreachable, clipped{err})
	default:
		e.Err, e.Temporary, e.retry = fmt.Errorf("%w: %w", ErrUnreachable, clipped{err}), true, true
	}
	return e
}
