package file

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

const (
	// MaxURL bounds a URL, in bytes.
	MaxURL = 8 << 10

	maxHeader = 16 << 10 // bytes of all headers of a request
)

// Request is a file at its origin.
type Request struct {
	URL *url.URL // of Parse
	// Header goes to the URL's own host only. With any the file is private to who can send the same.
	Header http.Header
	// Filter are the query parameters that do not count: they are sent, and tell no file from another.
	Filter []string
	// Hosts are asked, and no redirect leads to others; nil: all.
	Hosts Hosts
}

// Parse reads an http or https URL and the caller's headers: ErrURL, ErrHeader. A name and password in it become an Authorization header, unless there is one.
func Parse(raw string, header http.Header, filter []string) (Request, error) {
	if len(raw) > MaxURL {
		return Request{}, fmt.Errorf("%w: more than %d bytes", ErrURL, MaxURL)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return Request{}, fmt.Errorf("%w: it cannot be read", ErrURL) // the parser's own error quotes it, secrets included
	}
	u.Scheme, u.Host, u.Fragment, u.RawFragment = strings.ToLower(u.Scheme), strings.ToLower(u.Host), "", ""
	if u.Scheme != "http" && u.Scheme != "https" || !hostName(u.Hostname()) || u.Opaque != "" {
		return Request{}, fmt.Errorf("%w: want http://HOST/PATH or https://HOST/PATH", ErrURL)
	}
	if u.Port() == defaultPort(u.Scheme) || strings.HasSuffix(u.Host, ":") {
		u.Host = strings.TrimSuffix(strings.TrimSuffix(u.Host, u.Port()), ":")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	r := Request{URL: u, Header: http.Header{}, Filter: filter}
	if err := r.take(header); err != nil {
		return Request{}, err
	}
	if user := u.User; user != nil {
		u.User = nil
		password, _ := user.Password()
		if r.Header.Get("Authorization") == "" {
			r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
		}
	}
	return r, nil
}

// hostName accepts addresses and names as they stand in DNS: others in their ASCII form.
func hostName(s string) bool {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Zone() == ""
	}
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// take adopts a caller's headers.
func (r *Request) take(header http.Header) error {
	total := 0
	for name, values := range header {
		name = http.CanonicalHeaderKey(name)
		if slices.Contains(own, name) || !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("%w: %q is not one to send", ErrHeader, name)
		}
		for _, v := range values {
			if total += len(name) + len(v); total > maxHeader || !httpguts.ValidHeaderFieldValue(v) {
				return fmt.Errorf("%w: %s is too long, or has bytes that no header may have", ErrHeader, name)
			}
		}
		r.Header[name] = append(r.Header[name], values...)
	}
	return nil
}

// own are headers that say how an answer is framed or which part it is of: a Client's own business.
var own = []string{
	"Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range",
	"If-Unmodified-Since", "Range", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

func defaultPort(scheme string) string {
	if scheme == "http" {
		return "80"
	}
	return "443"
}

// Private reports whether the origin's answer may be for this caller alone.
func (r Request) Private() bool { return len(r.Header) > 0 }

// Same is the URL without what does not count: requests for which it is the same mean the same file.
func (r Request) Same() string {
	u := *r.URL
	var kept []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if pair != "" && !contains(r.Filter, name) {
			kept = append(kept, pair)
		}
	}
	u.RawQuery, u.ForceQuery = strings.Join(kept, "&"), false
	return u.String()
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if strings.TrimSpace(v) == s {
			return true
		}
	}
	return false
}

// show is a URL as errors and logs may have it.
func show(u *url.URL) string {
	const most = 200
	s := u.Scheme + "://" + u.Host + u.EscapedPath()
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}

// String is the request as logs may have it.
func (r Request) String() string { return show(r.URL) }
