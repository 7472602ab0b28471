package node

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Registry says how to reach one registry. Its text is HOST=URL, followed by options, each after a comma: url=URL,
// mirror=URL, ca=FILE, cert=FILE, key=FILE, credentials=FILE|docker, insecure.
type Registry struct {
	// Host is the name in references: harbor.example:8443, docker.io.
	Host string
	// URL is where it answers: https://harbor.example:8443, or http:// for one without TLS. No path, no userinfo.
	URL string
	// URLs are further addresses, asked in this order when those before give no answer. Default none.
	URLs []string
	// Mirrors are asked first, in this order and without credentials. Default none.
	Mirrors []string
	// CA is a PEM file of certificates trusted for this registry besides the system's. Default "".
	CA string
	// Cert and Key are PEM files of a client certificate; the key has mode 0600. Default "": none is shown.
	Cert, Key string
	// Credentials are those of this node itself: a file with USER:PASSWORD or docker's config.json, mode 0600, or
	// "docker" for docker's own configuration. No client is served by them. Default "".
	Credentials string
	// Insecure turns the check of its TLS certificate off. Default false.
	Insecure bool
}

// option is one that is not the first URL, by its name in the text.
type option struct {
	name string
	one  func(*Registry) *string   // nil for a list
	list func(*Registry) *[]string // nil for one value
}

var options = []option{
	{name: "url", list: func(r *Registry) *[]string { return &r.URLs }},
	{name: "mirror", list: func(r *Registry) *[]string { return &r.Mirrors }},
	{name: "ca", one: func(r *Registry) *string { return &r.CA }},
	{name: "cert", one: func(r *Registry) *string { return &r.Cert }},
	{name: "key", one: func(r *Registry) *string { return &r.Key }},
	{name: "credentials", one: func(r *Registry) *string { return &r.Credentials }},
}

// ParseRegistry reads the text of a registry.
func ParseRegistry(s string) (Registry, error) {
	host, rest, ok := strings.Cut(s, "=")
	if !ok {
		return Registry{}, fmt.Errorf("%q: want HOST=URL[,OPTION]", s)
	}
	parts := strings.Split(rest, ",")
	r := Registry{Host: host, URL: parts[0]}
	for _, p := range parts[1:] {
		if p == "insecure" {
			r.Insecure = true
			continue
		}
		if err := r.set(p); err != nil {
			return Registry{}, err
		}
	}
	return r, r.validate()
}

// set takes one NAME=VALUE. Errors do not repeat the value: it may be a password in the wrong place.
func (r *Registry) set(s string) error {
	name, value, _ := strings.Cut(s, "=")
	for _, o := range options {
		switch {
		case o.name != name:
		case value == "":
			return fmt.Errorf("%s: option %s has no value", r.Host, name)
		case o.list != nil:
			*o.list(r) = append(*o.list(r), value)
			return nil
		case *o.one(r) != "":
			return fmt.Errorf("%s: option %s is there twice", r.Host, name)
		default:
			*o.one(r) = value
			return nil
		}
	}
	return fmt.Errorf("%s: unknown option %q: want url, mirror, ca, cert, key, credentials or insecure", r.Host, name)
}

func (r Registry) validate() error {
	if r.Host == "" || strings.ContainsAny(r.Host, "/ ?#@,=") {
		return fmt.Errorf("%q is not a registry host", r.Host)
	}
	var errs []error
	for _, u := range slices.Concat([]string{r.URL}, r.URLs, r.Mirrors) {
		errs = append(errs, checkURL(r.Host, u))
	}
	if (r.Cert == "") != (r.Key == "") {
		errs = append(errs, fmt.Errorf("%s: cert and key go together", r.Host))
	}
	return errors.Join(errs...)
}

// checkURL checks an address of a registry.
func checkURL(host, s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("%s: the URL does not parse", host) // not err: it would repeat userinfo
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%s: want a URL http(s)://HOST[:PORT]", host)
	case u.User != nil:
		return fmt.Errorf("%s: credentials do not belong into the URL", host)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%s: %s://%s must have no path or query", host, u.Scheme, u.Host)
	}
	return nil
}

// String is the text form.
func (r Registry) String() string {
	s := r.Host + "=" + r.URL
	for _, o := range options {
		var values []string
		if o.list != nil {
			values = *o.list(&r)
		} else if v := *o.one(&r); v != "" {
			values = []string{v}
		}
		for _, v := range values {
			s += "," + o.name + "=" + v
		}
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
