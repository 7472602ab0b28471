package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/meshd-project/meshd/node/admin"
)

// Bounds of a question.
const (
	timeout   = 15 * time.Second // if ctx has no deadline; the node takes at most 8 s for a check
	maxAnswer = 64 << 20         // bytes
	maxSecret = 64 << 10         // bytes of a file with a token or certificates
)

// Config says how a node is asked.
type Config struct {
	// Addr is HOST:PORT, https://HOST:PORT or unix:PATH. A HOST:PORT that is not loopback is asked by TLS, and so is
	// any if CA is given: the token never crosses a network in the clear.
	Addr string
	// TokenFile holds the token. "": OwnToken is tried.
	TokenFile string
	// OwnToken is the token that a node on this host has made for itself; it may be missing or unreadable.
	OwnToken string
	// CA is a PEM file of authorities for the node's certificate. "": the system's.
	CA string
}

// Client asks one node.
type Client struct {
	base  string // URL without path
	token string
	hint  string // what to do about a 401
	http  *http.Client
}

// New returns a client; it connects to nobody yet.
func New(c Config) (*Client, error) {
	cl := &Client{hint: "give --admin-token-file"}
	if err := cl.findToken(c); err != nil {
		return nil, err
	}
	t := &http.Transport{DisableCompression: true, IdleConnTimeout: time.Second, MaxIdleConnsPerHost: 1}
	cl.http = &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if path, ok := strings.CutPrefix(c.Addr, "unix:"); ok {
		cl.base = "http://localhost"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		return cl, nil
	}
	addr, secure := strings.CutPrefix(c.Addr, "https://")
	host, _, err := net.SplitHostPort(addr)
	if u, bad := url.Parse("http://" + addr); err != nil || bad != nil || u.Host != addr {
		return nil, errors.New("--admin-addr is not HOST:PORT, https://HOST:PORT or unix:PATH")
	}
	ip := net.ParseIP(host)
	here := host == "localhost" || ip != nil && ip.IsLoopback()
	if !here || secure || c.CA != "" {
		cl.base = "https://" + addr
		t.TLSClientConfig, err = trust(c.CA)
		return cl, err
	}
	cl.base = "http://" + addr
	return cl, nil
}

// findToken reads the token that was given, or the node's own if that can be had.
func (c *Client) findToken(cfg Config) error {
	if cfg.TokenFile != "" {
		raw, err := readFile(cfg.TokenFile)
		if err != nil {
			return fmt.Errorf("--admin-token-file: %w", err)
		}
		c.token = strings.TrimSpace(string(raw))
		c.hint = "it is not the one in " + cfg.TokenFile
		return nil
	}
	if cfg.OwnToken == "" {
		return nil
	}
	raw, err := readFile(cfg.OwnToken)
	if err != nil {
		c.hint = fmt.Sprintf("run this as the user that runs meshd (sudo), or give --admin-token-file or --data-dir: %v", err)
		return nil
	}
	c.token = strings.TrimSpace(string(raw))
	c.hint = fmt.Sprintf("%s is not of the node that answers: give its --admin-token-file or --data-dir", cfg.OwnToken)
	return nil
}

func trust(ca string) (*tls.Config, error) {
	if ca == "" {
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	pem, err := readFile(ca)
	if err != nil {
		return nil, fmt.Errorf("--admin-ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--admin-ca: %s: no certificate in it", ca)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSecret))
}

// Get returns what the node shows at a path.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	return c.ask(ctx, http.MethodGet, path, nil)
}

// Do sends in as JSON, unless it is nil, and decodes the answer into out, unless that is nil.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	answer, err := c.ask(ctx, method, path, body)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("answer to %s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, noAnswer(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("%s %s: more than %d bytes", method, path, maxAnswer)
	case resp.StatusCode/100 != 2:
		return nil, c.refusal(resp, answer)
	}
	return answer, nil
}

// Stream sends in as JSON and returns the answer as it comes, whatever its status; its body is the caller's to close. Waiting
// is bounded by ctx alone.
func (c *Client) Stream(ctx context.Context, path string, in any, header http.Header) (*http.Response, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("POST %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return c.http.Do(req)
}

// refusal reads the one shape that errors have.
func (c *Client) refusal(resp *http.Response, body []byte) error {
	var told admin.ErrorBody
	if json.Unmarshal(body, &told) != nil || told.Error == "" {
		told.Error = resp.Status
	}
	if resp.StatusCode == http.StatusUnauthorized {
		told.Error = "the node wants its admin token: " + c.hint
	}
	e := admin.Errorf(resp.StatusCode, "%s", told.Error)
	if d, err := time.ParseDuration(resp.Header.Get("Retry-After") + "s"); err == nil {
		e.RetryAfter = d
	}
	return e
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// noAnswer says of a request that did not get through what to do about it.
func noAnswer(err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return errors.New("nothing listens there: is meshd running, and with this --admin-addr?")
	case errors.Is(err, syscall.EACCES):
		return errors.New("this user may not open the socket: run this as the user that runs meshd (sudo)")
	}
	return err
}
