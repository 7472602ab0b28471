package origin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"
)

// Config says which registries there are and how patient the client is. Zero fields take the values of Default.
type Config struct {
	// Registries maps a registry's name, as in an image reference ("docker.io", "harbor.example:8443"), to
	// where and how it is reached. Others are reached at https://NAME, docker.io at its API host.
	Registries map[string]Registry

	// DialTimeout bounds making one connection, and again its TLS handshake. Default 5 s.
	DialTimeout time.Duration
	// HeaderTimeout bounds one try of one hop, from its start to the end of the answer's header: waiting
	// for a free connection and dialling are inside. It bounds fetching a token as a whole. Default 15 s.
	HeaderTimeout time.Duration
	// IdleTimeout bounds the wait for the next byte of a body while somebody reads. Default 15 s.
	IdleTimeout time.Duration

	// Attempts is how often a request is tried at most, before its first body byte. Default 3.
	Attempts int
	// Backoff is the mean wait before the second try; it triples each time and is jittered by half. Default 200 ms.
	Backoff time.Duration
	// MaxRetryAfter is the longest Retry-After that is waited for here; a longer one goes to the caller. Default 2 s.
	MaxRetryAfter time.Duration

	// MaxConns bounds the connections per host. Default 64.
	MaxConns int
	// UserAgent is sent with each request. Default "meshd".
	UserAgent string
}

// Registry says how one registry is reached.
type Registry struct {
	// URL is the API's address, https://HOST[:PORT][/PATH] or http://…; what stands before /v2/. Empty: https://NAME.
	URL string
	// URLs are further addresses of the registry: asked in this order when the ones before give no answer, 429 or 5xx.
	URLs []string
	// Mirrors are asked before the registry, in this order, without credentials; what they refuse or do not have, the
	// registry is asked for. What a mirror gives to everybody counts as public.
	Mirrors []string
	// CA names a PEM file of certificates that are trusted beside the system's, for this registry and the
	// hosts that it refers to.
	CA string
	// Cert and Key name PEM files of a client certificate and its key, mode 0600, that the registry's own addresses are
	// shown. Both or none.
	Cert, Key string
	// Credentials are the operator's own: a file with USER:PASSWORD or docker's config.json, mode 0600, or
	// DockerCredentials. See Client.Authorization.
	Credentials string
	// Insecure does not verify TLS for this registry and the hosts that it refers to, and lets it refer to http.
	Insecure bool
}

// Default returns the configuration that a zero Config stands for.
func Default() Config {
	return Config{
		DialTimeout:   5 * time.Second,
		HeaderTimeout: 15 * time.Second,
		IdleTimeout:   15 * time.Second,
		Attempts:      3,
		Backoff:       200 * time.Millisecond,
		MaxRetryAfter: 2 * time.Second,
		MaxConns:      64,
		UserAgent:     "meshd",
	}
}

// Validate reports all that is wrong with c. It does not open CA files; New does.
func (c Config) Validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"dial time-out", int64(c.DialTimeout)},
		{"header time-out", int64(c.HeaderTimeout)},
		{"idle time-out", int64(c.IdleTimeout)},
		{"attempts", int64(c.Attempts)},
		{"back-off", int64(c.Backoff)},
		{"longest retry-after", int64(c.MaxRetryAfter)},
		{"connections per host", int64(c.MaxConns)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("origin: %s is negative", f.name))
		}
	}
	names := make(map[string]string)
	for name, r := range c.Registries {
		canonical, err := canonicalRegistry(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if other, twice := names[canonical]; twice {
			errs = append(errs, fmt.Errorf("origin: registries %q and %q are the same", other, name))
		}
		names[canonical] = name
		if _, err := r.addresses(canonical); err != nil {
			errs = append(errs, err)
		}
		if (r.Cert == "") != (r.Key == "") {
			errs = append(errs, fmt.Errorf("origin: registry %s: a client certificate needs its key, and the key its certificate", name))
		}
	}
	return errors.Join(errs...)
}

// withDefaults fills the zero fields of c.
func (c Config) withDefaults() Config {
	d := Default()
	fill(&c.DialTimeout, d.DialTimeout)
	fill(&c.HeaderTimeout, d.HeaderTimeout)
	fill(&c.IdleTimeout, d.IdleTimeout)
	fill(&c.Attempts, d.Attempts)
	fill(&c.Backoff, d.Backoff)
	fill(&c.MaxRetryAfter, d.MaxRetryAfter)
	fill(&c.MaxConns, d.MaxConns)
	fill(&c.UserAgent, d.UserAgent)
	return c
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// base is the address that /v2/ is appended to; its path has no slash at the end.
func (r Registry) base(name string) (*url.URL, error) {
	if r.URL == "" {
		return defaultBase(name), nil
	}
	u, err := url.Parse(r.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("origin: registry %s: its address is not a URL", name) // err quotes it, and it may hold a password
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("origin: registry %s: address %s: want https:// or http://", name, redact(u))
	case u.User != nil:
		return nil, fmt.Errorf("origin: registry %s: address %s: credentials do not belong there", name, redact(u))
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("origin: registry %s: address %s: no query or fragment allowed", name, redact(u))
	}
	if _, err := checkHost(u.Host); err != nil {
		return nil, fmt.Errorf("origin: registry %s: address %s: %w", name, redact(u), err)
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host), Path: strings.TrimRight(u.Path, "/")}, nil
}

// tls builds what the registry's TLS connections trust.
func (r Registry) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: r.Insecure}
	if r.CA == "" {
		return cfg, nil
	}
	var err error
	cfg.RootCAs, err = Authorities(r.CA)
	return cfg, err
}

// Authorities are those of a PEM file, besides the system's.
func Authorities(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // no system roots: the given ones still count
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read CA: %s holds no certificate", path)
	}
	return pool, nil
}

// certificate adds the client certificate to what the registry's TLS connections trust; nil if there is none.
func (r Registry) certificate(trust *tls.Config) (*tls.Config, error) {
	if r.Cert == "" {
		return nil, nil
	}
	key, err := readPrivate(r.Key)
	if err != nil {
		return nil, fmt.Errorf("read client key: %w", err)
	}
	cert, err := os.ReadFile(r.Cert)
	if err != nil {
		return nil, fmt.Errorf("read client certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("client certificate %s and key %s do not belong together, or are damaged", r.Cert, r.Key)
	}
	cfg := trust.Clone()
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}
