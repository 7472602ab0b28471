package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/meshd-project/meshd/node/admin"
)

// minToken is the least length of an admin token in bytes.
const minToken = 16

// adminRoutes is all that the admin API answers.
func (n *node) adminRoutes() []admin.Route {
	metrics := promhttp.HandlerFor(newMetrics(n), promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
	return slices.Concat(n.preheatRoutes(), n.pinRoutes(), n.cacheRoutes(), []admin.Route{
		{Method: http.MethodGet, Path: "/healthz", Handle: admin.Probe("ok", func() error { return nil })},
		{Method: http.MethodGet, Path: "/readyz", Handle: admin.Probe("ready", n.ready)},
		{Method: http.MethodGet, Path: "/v1/status", Handle: admin.Show(func(context.Context) any { return n.status() })},
		{Method: http.MethodGet, Path: "/v1/peers", Handle: admin.Show(func(context.Context) any { return n.peers() })},
		{Method: http.MethodGet, Path: "/v1/evidence", Handle: n.showEvidence},
		{Method: http.MethodGet, Path: "/v1/revoked", Handle: admin.Show(func(context.Context) any { return n.revoked() })},
		{Method: http.MethodPut, Path: "/v1/revoked", Handle: n.takeRevoked},
		{Method: http.MethodGet, Path: "/v1/doctor", Handle: admin.OneAtATime(0, admin.Show(func(ctx context.Context) any { return n.doctor(ctx) }))},
		{Method: http.MethodGet, Path: "/v1/scrub", Handle: admin.Show(func(context.Context) any { return n.scrubStatus() })},
		{Method: http.MethodPut, Path: "/v1/scrub", Handle: n.putScrub},
		{Method: http.MethodGet, Path: "/v1/limits", Handle: admin.Show(n.showLimits)},
		{Method: http.MethodPut, Path: "/v1/limits", Handle: n.putLimits},
		{Method: http.MethodPost, Path: "/v1/files", Handle: n.serveFile},
		{Method: http.MethodGet, Path: "/metrics", Handle: admin.Plain(metrics)},
	})
}

// openAdmin makes the server of the admin API; its listener is there already.
func (n *node) openAdmin() error {
	token, err := loadAdminToken(n.cfg.Admin.TokenFile, n.path(AdminTokenFile))
	if err != nil {
		return err
	}
	n.adminServer = admin.NewServer(admin.New(n.cfg.Admin.guard(token), n.adminRoutes()))
	newAnswering(maxAdminConns).bound(n.adminServer)
	n.adminServer.TLSConfig, err = loadTLS("admin", n.cfg.Admin.Cert, n.cfg.Admin.Key)
	return err
}

// serveAdmin answers until the server is closed.
func (n *node) serveAdmin() error {
	l := n.adminListener
	if conf := n.adminServer.TLSConfig; conf != nil {
		l = tls.NewListener(l, conf)
	}
	return serve(n.adminServer, l)
}

// guard is who may ask, by where the API listens and whether the operator gave a token.
func (c AdminConfig) guard(token string) admin.Guard {
	_, socket := unixPath(c.Addr)
	here := socket || loopbackHostPort(c.Addr)
	return admin.Guard{
		Token:     token,
		OpenRead:  here && c.TokenFile == "",
		OpenWrite: socket && c.TokenFile == "",
		AnyHost:   socket || !here,
	}
}

// loadTLS reads the certificate of an address and its key; nil without one.
func loadTLS(address, cert, key string) (*tls.Config, error) {
	if cert == "" {
		return nil, nil
	}
	if _, err := readSecret(key, givenSecret); err != nil {
		return nil, fmt.Errorf("--%s-key: %w", address, err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("--%s-cert, --%s-key: %w", address, address, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, nil
}

// validate reports each mistake to bad.
func (c AdminConfig) validate(bad func(flag, format string, args ...any)) {
	if path, socket := unixPath(c.Addr); socket {
		if !strings.HasPrefix(path, "/") || len(path) > 100 {
			bad("admin-addr", "%q: want unix: and an absolute path of at most 100 bytes", c.Addr)
		}
	} else if err := checkHostPort(c.Addr); err != nil {
		bad("admin-addr", "%v, nor unix:PATH", err)
	} else if !loopbackHostPort(c.Addr) && (c.TokenFile == "" || c.Cert == "") {
		bad("admin-addr", "%s is not loopback: give --admin-token-file, --admin-cert and --admin-key as well", c.Addr)
	}
	if (c.Cert == "") != (c.Key == "") {
		bad("admin-cert", "want --admin-cert and --admin-key, or neither")
	}
}

// unixPath is the path in an address unix:PATH.
func unixPath(addr string) (path string, ok bool) { return strings.CutPrefix(addr, "unix:") }

// loadAdminToken reads the token that the operator gave, or, with given "", the node's own, made on the first start.
func loadAdminToken(given, own string) (string, error) {
	path, forbid := given, givenSecret
	if given == "" {
		path, forbid = own, ownSecret
	}
	raw, err := readSecret(path, forbid)
	if given == "" && errors.Is(err, fs.ErrNotExist) {
		raw = []byte(rand.Text() + "\n")
		err = writeFile(own, raw, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("--admin-token-file: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if len(token) < minToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("--admin-token-file: %s: want one line of %d or more letters, digits and signs", path, minToken)
	}
	return token, nil
}

// ownPort is the TCP port of a listener, if it has one.
func ownPort(l net.Listener) (uint16, bool) {
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, false
	}
	return uint16(a.Port), true
}
