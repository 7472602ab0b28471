package origin

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"

	logging "github.com/ipfs/go-log/v2"
)

var log = logging.Logger("meshd/origin")

// Client talks to registries. See the package comment.
type Client struct {
	cfg     Config
	listed  map[string]*endpoint // by canonical name; read only
	unnamed *network             // of the registries that are not listed
	tokens  *tokens

	throttles throttles
}

// endpoint is a registry and how it is reached.
type endpoint struct {
	name       string
	base       *url.URL // no slash at its end
	configured bool
	plain      bool // may lead to http
	net        *network

	addresses   []*address // of a configured one, base among them
	certified   *network   // to base itself, with a client certificate; nil: net
	credentials string     // Registry.Credentials
}

// network is what carries requests to u.
func (ep *endpoint) network(u *url.URL) *network {
	if ep.certified != nil && sameOrigin(u, ep.base) {
		return ep.certified
	}
	return ep.net
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
	c := &Client{cfg: cfg, listed: make(map[string]*endpoint)}
	c.throttles.all = make(map[throttleKey]throttled)
	c.tokens = newTokens(c.fetchToken, cfg.HeaderTimeout)
	c.unnamed = newNetwork(cfg, dial, &tls.Config{MinVersion: tls.VersionTLS12})
	for key, r := range cfg.Registries {
		name, err := canonicalRegistry(key)
		if err != nil {
			return nil, err
		}
		if c.listed[name], err = newEndpoint(cfg, dial, name, r); err != nil {
			return nil, fmt.Errorf("origin: registry %s: %w", name, err)
		}
	}
	return c, nil
}

// newEndpoint makes a registry that is named in the configuration.
func newEndpoint(cfg Config, dial dialer, name string, r Registry) (*endpoint, error) {
	base, err := r.base(name)
	if err != nil {
		return nil, err
	}
	addresses, err := r.addresses(name)
	if err != nil {
		return nil, err
	}
	trust, err := r.tls()
	if err != nil {
		return nil, err
	}
	ep := &endpoint{
		name: name, base: base, configured: true, plain: r.Insecure || base.Scheme == "http", net: newNetwork(cfg, dial, trust),
		addresses: addresses, credentials: r.Credentials,
	}
	certified, err := r.certificate(trust)
	if err != nil {
		return nil, err
	}
	if certified != nil {
		ep.certified = newNetwork(cfg, dial, certified)
	}
	return ep, nil
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
		if ep.certified != nil {
			ep.certified.close()
		}
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
