package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	logging "github.com/ipfs/go-log/v2"
	"golang.org/x/time/rate"
)

var log = logging.Logger("meshd/origin")

// Client talks to registries. See the package comment.
type Client struct {
	cfg     Config
	limit   *rate.Limiter        // nil: none
	listed  map[string]*endpoint // by canonical name; read only
	unnamed *network             // of the registries that are not listed
	tokens  *tokens
}

// endpoint is a registry and how it is reached.
type endpoint struct {
	name       string
	base       *url.URL // no slash at its end
	configured bool
	plain      bool // may lead to http
	net        *network
}

// New makes a client. It fails on a configuration that Validate refuses and on CA files that cannot be read.
func New(cfg Config) (*Client, error) {
	return newClient(cfg, nil)
}

// dialer opens a connection to an address of one of the kinds in r. Tests put their own in.
type dialer func(ctx context.Context, network, address string, r reach) (net.Conn, error)

func newClient(cfg Config, dial dialer) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if dial == nil {
		dial = dialGuarded(cfg.DialTimeout)
	}
	c := &Client{cfg: cfg, limit: newLimiter(cfg.Limit), listed: make(map[string]*endpoint)}
	c.tokens = newTokens(c.fetchToken, cfg.HeaderTimeout)
	c.unnamed = newNetwork(cfg, dial, &tls.Config{MinVersion: tls.VersionTLS12})
	for key, r := range cfg.Registries {
		name, err := canonicalRegistry(key)
		if err != nil {
			return nil, err
		}
		base, err := r.base(name)
		if err != nil {
			return nil, err
		}
		trust, err := r.tls()
		if err != nil {
			return nil, fmt.Errorf("origin: registry %s: %w", name, err)
		}
		c.listed[name] = &endpoint{
			name:       name,
			base:       base,
			configured: true,
			plain:      r.Insecure || base.Scheme == "http",
			net:        newNetwork(cfg, dial, trust),
		}
	}
	return c, nil
}

// Listed tells whether a registry is named in the configuration. Docker Hub's names are the same registry.
func (c *Client) Listed(registry string) bool {
	name, err := canonicalRegistry(registry)
	return err == nil && c.listed[name] != nil
}

// Close ends token fetches, waits for their goroutines and closes idle connections. Open bodies stay readable;
// requests made afterwards that need a token fail with ErrClosed.
func (c *Client) Close() error {
	c.tokens.close()
	c.unnamed.close()
	for _, ep := range c.listed {
		ep.net.close()
	}
	return nil
}

// endpoint finds where a registry is.
func (c *Client) endpoint(registry string) (*endpoint, error) {
	name, err := canonicalRegistry(registry)
	if err != nil {
		return nil, err
	}
	if ep := c.listed[name]; ep != nil {
		return ep, nil
	}
	return &endpoint{name: name, base: defaultBase(name), net: c.unnamed}, nil
}

// direct is where the registry's own address may lie.
func (ep *endpoint) direct() reach {
	if !ep.configured {
		return public | private
	}
	r := public | private | loopback
	if ip, err := netip.ParseAddr(ep.base.Hostname()); err == nil {
		r |= kindOf(ip)
	}
	return r
}

// beyond is where another host that the registry refers to may lie; home is the kind of the registry's own address.
func (ep *endpoint) beyond(home reach) reach {
	switch {
	case ep.configured:
		return public | private | home
	case home == private:
		return public | private
	}
	return public
}

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

// networkError makes the error of a request that got no answer, or lost it. ctx is the caller's, cause why
// our own context ended, if it did.
func networkError(ctx context.Context, q *query, cause, err error) *Error {
	e := &Error{Registry: q.ep.name, Op: q.op()}
	var already *Error
	var timeout net.Error
	var dns *net.DNSError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Err, e.Temporary = fmt.Errorf("%w: %w", ErrTimeout, ctx.Err()), true
	case ctx.Err() != nil:
		e.Err = ctx.Err()
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
