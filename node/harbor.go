package node

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/meshd-project/meshd/node/admin"
	"github.com/meshd-project/meshd/seed/harbor"
	"github.com/meshd-project/meshd/seed/notify"
	"github.com/meshd-project/meshd/seed/preheat"
)

// PreheatRule says where what is pushed is preheated. Its text is [HOST/]NAME[:TAG]=SCOPE[,platform=OS/ARCH].
type PreheatRule = notify.Rule

// openHarbor makes the server of the preheat address, if there is one, and what deals with pushes.
func (n *node) openHarbor() error {
	c := n.cfg.Preheat
	n.news = notify.New(notify.Config{Rules: c.Rules, Platforms: c.Platforms, Registry: n.registryAt}, n.preheat)
	if c.Addr == "" {
		return nil
	}
	auth, err := c.auth()
	if err != nil {
		return fmt.Errorf("--preheat-auth: %w", err)
	}
	n.preheatServer = admin.NewServer(harbor.New(harbor.Config{
		Auth: auth, Platforms: c.Platforms, DefaultRegistry: n.cfg.Mirror.DefaultRegistry, Registry: n.registryAt,
	}, n.preheat, n.news))
	newAnswering(maxAdminConns).bound(n.preheatServer)
	n.preheatServer.TLSConfig, err = loadTLS("preheat", c.Cert, c.Key)
	return err
}

// auth reads who may ask. Without a file everybody may, which validate allows on loopback only.
func (c PreheatConfig) auth() (harbor.Auth, error) {
	if c.Auth == "" {
		return harbor.ParseAuth([]byte("none"))
	}
	data, err := readSecret(c.Auth, givenSecret)
	if err != nil {
		return harbor.Auth{}, err
	}
	auth, err := harbor.ParseAuth(data)
	if err != nil {
		return harbor.Auth{}, fmt.Errorf("%s: %w", c.Auth, err)
	}
	return auth, nil
}

// servePreheat answers until the server is closed.
func (n *node) servePreheat() error {
	l := n.preheatListener
	if conf := n.preheatServer.TLSConfig; conf != nil {
		l = tls.NewListener(l, conf)
	}
	return serve(n.preheatServer, l)
}

func (n *node) closePreheat() error {
	if n.preheatServer == nil {
		return nil
	}
	return n.preheatServer.Close()
}

// validate reports each mistake to bad.
func (c PreheatConfig) validate(bad func(flag, format string, args ...any)) {
	if c.Addr == "" {
		if c.Auth != "" || c.Cert != "" || c.Key != "" {
			bad("preheat-addr", "is missing: --preheat-auth, --preheat-cert and --preheat-key are for it")
		}
	} else if err := checkHostPort(c.Addr); err != nil {
		bad("preheat-addr", "%v", err)
	} else if !loopbackHostPort(c.Addr) && c.Auth == "" {
		bad("preheat-addr", "%s is not loopback: say by --preheat-auth who may ask there (a line none lets everybody)", c.Addr)
	}
	if (c.Cert == "") != (c.Key == "") {
		bad("preheat-cert", "want --preheat-cert and --preheat-key, or neither")
	}
	if err := preheat.CheckPlatforms(c.Platforms); err != nil {
		bad("preheat-platform", "%v", err)
	}
}

// registryAt returns the name of the registry that answers at a host: one of the configuration, by its name or one of its own
// addresses, or the default one. A port that goes without saying may be there.
func (n *node) registryAt(host string) (string, bool) {
	host = strings.ToLower(host)
	bare := host
	if h, port, err := net.SplitHostPort(host); err == nil && (port == "443" || port == "80") {
		bare = h
	}
	for _, r := range n.cfg.Origin.Registries {
		if r.Host == host || r.Host == bare {
			return strings.ToLower(r.Host), true
		}
	}
	for _, r := range n.cfg.Origin.Registries {
		for _, a := range append([]string{r.URL}, r.URLs...) {
			if u, err := url.Parse(a); err == nil && (u.Host == host || u.Host == bare) {
				return strings.ToLower(r.Host), true
			}
		}
	}
	if d := strings.ToLower(n.cfg.Mirror.DefaultRegistry); d == host || d == bare {
		return d, true
	}
	return "", false
}
