package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	logging "github.com/ipfs/go-log/v2"
)

var log = logging.Logger("meshd/proxy")

// Config says what the proxy does. A zero duration or number means its default.
type Config struct {
	// Rules are looked through in order. Default none.
	Rules []Rule
	// Registries go through the mesh if no rule fits. Default none.
	Registries []Registry
	// CA signs for the hosts that go through the mesh. Required.
	CA *CA

	// DialTimeout bounds reaching the other end of a tunnel. Default 10 s.
	DialTimeout time.Duration
	// IdleTimeout bounds the time without a byte in either direction, of a tunnel and of a request that is passed
	// on: a registry may take long to put a large layer together. Default 10 min.
	IdleTimeout time.Duration
	// LastTimeout is IdleTimeout of tunnels while the proxy stops. Default 2 s.
	LastTimeout time.Duration
	// ConnState, if not nil, is told of connections inside CONNECT: of intercepted ones as an http.Server does, of
	// tunnels that they are active from their start and closed at their end. It must not block.
	ConnState func(net.Conn, http.ConnState)
	// MaxTunnels bounds the CONNECTs served at once, intercepted ones included. Default 1024.
	MaxTunnels int
}

func (c Config) withDefaults() Config {
	or(&c.DialTimeout, 10*time.Second)
	or(&c.IdleTimeout, 10*time.Minute)
	or(&c.LastTimeout, 2*time.Second)
	or(&c.MaxTunnels, 1024)
	if c.ConnState == nil {
		c.ConnState = func(net.Conn, http.ConnState) {}
	}
	return c
}

func or[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}

// Mirror answers pulls.
type Mirror interface {
	http.Handler
	// Pulls reports whether ServeHTTP has an answer to a request to a registry, be it no.
	Pulls(r *http.Request) bool
}

// Origin is the way to registries. Implementations are safe for concurrent use.
type Origin interface {
	// Direct returns the address of a registry's API, what stands before /v2/, and what carries a request there
	// and nowhere else: redirects and challenges come back.
	Direct(registry string) (*url.URL, http.RoundTripper, error)
}

// Dialer connects to HOST:PORT for a client. It refuses, after name resolution, addresses that no client may be led
// to; if named, the operator has named the host, and loopback and link-local addresses are allowed. It is safe for
// concurrent use and keeps within ctx.
type Dialer func(ctx context.Context, address string, named bool) (net.Conn, error)

// Proxy is the handler of the mirror's port. See the package comment.
type Proxy struct {
	cfg    Config
	policy *policy
	mirror Mirror
	origin Origin
	dial   Dialer
	plain  *http.Transport // for what is passed on without TLS
	named  *http.Transport // the same for hosts that are named

	tunnels *tunnels
	inner   *http.Server // of intercepted connections
	queue   *queue
}

// New returns a proxy before a mirror. It fails on registries whose name or address is no host.
func New(cfg Config, m Mirror, o Origin, dial Dialer) (*Proxy, error) {
	cfg = cfg.withDefaults()
	policy, err := newPolicy(cfg.Rules, cfg.Registries)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{
		cfg: cfg, policy: policy, mirror: m, origin: o, dial: dial,
		tunnels: newTunnels(cfg.MaxTunnels), queue: newQueue(),
	}
	p.plain, p.named = p.transport(false), p.transport(true)
	p.inner = p.newInner()
	return p, nil
}

// Serve serves intercepted connections until Shutdown, and returns when that has begun.
func (p *Proxy) Serve() error {
	if err := p.inner.Serve(p.queue); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown refuses new tunnels and waits for what runs, at most until ctx ends: then everything is cut. Tunnels end
// as well when nothing passes for LastTimeout.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.tunnels.drain(p.cfg.LastTimeout)
	err := p.inner.Shutdown(ctx)
	if err != nil {
		err = p.inner.Close()
	}
	p.tunnels.wait(ctx)
	p.plain.CloseIdleConnections()
	p.named.CloseIdleConnections()
	return err
}

// ServeHTTP implements [http.Handler].
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		p.connect(w, r)
	case r.URL.IsAbs():
		p.absolute(w, r)
	default:
		p.mirror.ServeHTTP(w, r)
	}
}

// connect serves CONNECT HOST:PORT.
func (p *Proxy) connect(w http.ResponseWriter, r *http.Request) {
	t, err := parseTarget(r.Host, "")
	if err == nil && t.port == "" {
		err = errTarget
	}
	if err != nil {
		refusef(http.StatusBadRequest, "CONNECT %s: want HOST:PORT", r.Host).writeConnect(w)
		return
	}
	d, err := p.policy.decide(t, "", r.RemoteAddr)
	switch {
	case err != nil:
	case d.action == Mesh:
		err = p.intercept(w, d)
	default:
		err = p.tunnel(w, r, d)
	}
	if err != nil {
		log.Debugw("tunnel refused", "addr", t.String(), "peer", r.RemoteAddr, "err", err)
		refusalOf(t, err).writeConnect(w)
	}
}

// absolute serves a request for http://HOST/…
func (p *Proxy) absolute(w http.ResponseWriter, r *http.Request) {
	t, err := parseTarget(r.URL.Host, "80")
	if err != nil || r.URL.Scheme != "http" {
		refusef(http.StatusBadRequest, "want http://HOST[:PORT]/ or CONNECT HOST:PORT").write(w)
		return
	}
	d, err := p.policy.decide(t, "80", r.RemoteAddr)
	switch {
	case err != nil:
		log.Debugw("request refused", "addr", t.String(), "peer", r.RemoteAddr, "err", err)
		refusalOf(t, err).write(w)
	case d.action == Mesh:
		p.registry(w, r, d)
	default:
		p.passOn(w, r, d)
	}
}
