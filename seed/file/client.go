package file

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// maxRedirects bounds the answers that lead elsewhere.
const maxRedirects = 10

// Config bounds a client. Zero values mean the defaults.
type Config struct {
	// Control sees each address before it is connected to, after name resolution; nil lets all through.
	Control func(network, address string, c syscall.RawConn) error
	// RootCAs are trusted for https; nil: the system's.
	RootCAs *x509.CertPool
	// DialTimeout bounds the way to a connection, TLS included. Default 10 s.
	DialTimeout time.Duration
	// HeaderTimeout bounds the wait for an answer's head, IdleTimeout that for each of its bytes. Default 30 s.
	HeaderTimeout, IdleTimeout time.Duration
	// MaxConns bounds connections to one host. Default 16.
	MaxConns int
	// UserAgent is sent unless the request has one.
	UserAgent string
}

// Client reads files.
type Client struct {
	cfg       Config
	transport *http.Transport
}

// New returns a client that has opened nothing yet.
func New(cfg Config) *Client {
	setDefault(&cfg.DialTimeout, 10*time.Second)
	setDefault(&cfg.HeaderTimeout, 30*time.Second)
	setDefault(&cfg.IdleTimeout, 30*time.Second)
	setDefault(&cfg.MaxConns, 16)
	setDefault(&cfg.UserAgent, "meshd")
	dialer := &net.Dialer{Timeout: cfg.DialTimeout, Control: cfg.Control}
	t := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: cfg.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    cfg.DialTimeout,
		ResponseHeaderTimeout:  cfg.HeaderTimeout,
		DisableCompression:     true, // a file is the bytes that the server has
		MaxConnsPerHost:        cfg.MaxConns,
		MaxIdleConnsPerHost:    4,
		MaxIdleConns:           32,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true) // ranges in parallel want connections of their own
	return &Client{cfg: cfg, transport: t}
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Close lets idle connections go.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// Info is what an origin says of a file.
type Info struct {
	Version
	ContentType string
	// Name is the last element of the path that the redirects ended at, "" if it has none.
	Name string
}

// Probe asks for the version of a file, without its bytes. It is asked by HEAD and, where that is refused or tells of an
// empty file (servers that know no HEAD say so), by a GET of one byte, which a server without ranges may answer with more:
// it is cut off. The length of a version that is not strong may be wrong: Read tells.
func (c *Client) Probe(ctx context.Context, r Request) (Info, error) {
	resp, at, err := c.ask(ctx, r, http.MethodHead, nil)
	if err != nil {
		return Info{}, err
	}
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		if resp.ContentLength == 0 {
			return c.probeByte(ctx, r)
		}
		return infoOf(at, resp, resp.ContentLength), nil
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return c.probeByte(ctx, r)
	}
	return Info{}, statusError(at, resp)
}

// probeByte is Probe by GET: signed URLs are good for one method, and some servers know no HEAD.
func (c *Client) probeByte(ctx context.Context, r Request) (Info, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the answer, however long it is
	resp, at, err := c.ask(ctx, r, http.MethodGet, http.Header{"Range": {"bytes=0-0"}})
	if err != nil {
		return Info{}, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return infoOf(at, resp, resp.ContentLength), nil
	case http.StatusPartialContent:
		_, size, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil {
			return Info{}, &Error{At: show(at), Status: resp.StatusCode, Err: fmt.Errorf("%w: %w", ErrInvalid, err)}
		}
		return infoOf(at, resp, size), nil
	case http.StatusRequestedRangeNotSatisfiable: // an empty file has no first byte
		if _, size, err := parseContentRange(resp.Header.Get("Content-Range")); err != nil || size == 0 {
			return infoOf(at, resp, 0), nil
		}
	}
	return Info{}, statusError(at, resp)
}

func infoOf(at *url.URL, resp *http.Response, size int64) Info {
	i := Info{Version: versionOf(resp.Header, size), ContentType: resp.Header.Get("Content-Type"), Name: BaseName(at)}
	if len(i.ContentType) > maxValidator {
		i.ContentType = ""
	}
	return i
}

// ask sends a request and follows where its answers lead. It returns the first answer that is no redirect, and where it is
// from.
func (c *Client) ask(ctx context.Context, r Request, method string, extra http.Header) (*http.Response, *url.URL, error) {
	at := r.URL
	for range maxRedirects {
		resp, err := c.send(ctx, r, at, method, extra)
		if err != nil {
			return nil, at, err
		}
		next, err := redirect(at, resp)
		if err != nil || next == nil {
			if err != nil {
				_ = resp.Body.Close()
				return nil, at, &Error{At: show(at), Status: resp.StatusCode, Err: err}
			}
			return resp, at, nil
		}
		_ = resp.Body.Close()
		at = next
	}
	return nil, at, &Error{At: show(at), Err: fmt.Errorf("%w: more than %d redirects", ErrInvalid, maxRedirects)}
}

// send asks one URL.
func (c *Client) send(ctx context.Context, r Request, at *url.URL, method string, extra http.Header) (*http.Response, error) {
	if r.Hosts != nil && !r.Hosts.Allow(at) {
		return nil, &Error{At: show(at), Err: ErrRefused}
	}
	req, err := http.NewRequestWithContext(ctx, method, at.String(), nil)
	if err != nil {
		return nil, &Error{At: show(at), Err: ErrURL}
	}
	if at.Scheme == r.URL.Scheme && at.Host == r.URL.Host {
		for name, values := range r.Header {
			req.Header[name] = values
		}
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", c.cfg.UserAgent)
	}
	req.Header.Set("Accept-Encoding", "identity")
	for name, values := range extra {
		req.Header[name] = values
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, networkError(ctx, at, err)
	}
	return resp, nil
}

// redirect returns where an answer leads, nil if nowhere.
func redirect(at *url.URL, resp *http.Response) (*url.URL, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	location := resp.Header.Get("Location")
	if location == "" || len(location) > MaxURL {
		return nil, fmt.Errorf("%w: it leads nowhere", ErrInvalid)
	}
	to, err := at.Parse(location)
	if err != nil {
		return nil, fmt.Errorf("%w: it leads nowhere", ErrInvalid)
	}
	next, err := Parse(to.String(), nil, nil)
	if err != nil {
		return nil, errors.Join(ErrInvalid, err)
	}
	if at.Scheme == "https" && next.URL.Scheme != "https" {
		return nil, fmt.Errorf("%w: it leads from https to http", ErrRefused)
	}
	return next.URL, nil
}
