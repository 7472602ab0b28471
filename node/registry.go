package node

import (
	"fmt"
	"net/url"
	"strings"
)

// Registry says how to reach one registry. Its text is HOST=URL[,ca=FILE][,insecure].
type Registry struct {
	// Host is the name in references: harbor.example:8443, docker.io.
	Host string
	// URL is where it answers: https://harbor.example:8443, or http:// for one without TLS. No path, no userinfo.
	URL string
	// CA is a PEM file of certificates trusted for this registry besides the system's. Default "".
	CA string
	// Insecure turns the check of its TLS certificate off. Default false.
	Insecure bool
}

// ParseRegistry reads HOST=URL[,ca=FILE][,insecure].
func ParseRegistry(s string) (Registry, error) {
	host, rest, ok := strings.Cut(s, "=")
	if !ok {
		return Registry{}, fmt.Errorf("%q: want HOST=URL[,ca=FILE][,insecure]", s)
	}
	parts := strings.Split(rest, ",")
	r := Registry{Host: host, URL: parts[0]}
	for _, p := range parts[1:] {
		switch k, v, _ := strings.Cut(p, "="); {
		case k == "ca" && v != "":
			r.CA = v
		case p == "insecure":
			r.Insecure = true
		default:
			return Registry{}, fmt.Errorf("%s: unknown option %q: want ca=FILE or insecure", host, p)
		}
	}
	return r, r.validate()
}

func (r Registry) validate() error {
	if r.Host == "" || strings.ContainsAny(r.Host, "/ ?#@,=") {
		return fmt.Errorf("%q is not a registry host", r.Host)
	}
	u, err := url.Parse(r.URL)
	if err != nil {
		return fmt.Errorf("%s: the URL does not parse", r.Host) // not err: it would repeat userinfo
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%s: want a URL http(s)://HOST[:PORT]", r.Host)
	case u.User != nil:
		return fmt.Errorf("%s: credentials do not belong into the URL", r.Host)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%s: %s://%s must have no path or query", r.Host, u.Scheme, u.Host)
	}
	return nil
}

// String is the text form.
func (r Registry) String() string {
	s := r.Host + "=" + r.URL
	if r.CA != "" {
		s += ",ca=" + r.CA
	}
	if r.Insecure {
		s += ",insecure"
	}
	return s
}

// UnmarshalText implements encoding.TextUnmarshaler by ParseRegistry.
func (r *Registry) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRegistry(string(text))
	return err
}

// MarshalText is the inverse of UnmarshalText.
func (r Registry) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
