package origin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Request is any request about a repository that is not a blob's bytes: manifests, tags, referrers.
type Request struct {
	Ref
	Method   string      // empty: GET
	Path     string      // after the repository: "manifests/latest", "tags/list", "referrers/sha256:…"
	RawQuery string      // sent as it is
	Header   http.Header // the client's; what is not in the list of forwarded names is left out

	// Authorization is the client's own header; empty is anonymous.
	Authorization string
	// Body is sent once: a request with a body is neither repeated, nor redirected, nor authenticated anew.
	Body io.Reader
}

// forwarded are the headers of a client that reach the origin.
var forwarded = []string{"Accept", "If-Match", "If-None-Match", "If-Modified-Since", "If-Range", "Range", "Content-Type", "Content-Range"}

// Do sends a request. An answer of 2xx or 304 is returned as it is, its body bounded in the wait for each byte but
// not in length; the caller closes it. Every other answer, and none, is an *Error.
func (c *Client) Do(ctx context.Context, r Request) (*http.Response, error) {
	q, err := c.request(r)
	if err != nil {
		return nil, err
	}
	a, err := c.ask(ctx, q)
	if err != nil {
		return nil, err
	}
	resp := *a.Response
	resp.Body = c.newStream(ctx, q, a)
	resp.Request = nil // it holds credentials, and signed addresses after a redirect
	return &resp, nil
}

// request makes the query of a request.
func (c *Client) request(r Request) (*query, error) {
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	if err := checkPath(r.Path); err != nil {
		return nil, badReference(r.Method, r.Ref, err)
	}
	q, err := c.query(r.Method, r.Ref, r.Path, r.Authorization)
	if err != nil {
		return nil, err
	}
	if strings.ContainsFunc(r.RawQuery, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '#' }) {
		return nil, q.invalid(fmt.Errorf("%w: query", ErrReference))
	}
	q.url.RawQuery = r.RawQuery
	for _, name := range forwarded {
		if v := r.Header.Values(name); len(v) > 0 {
			q.header[http.CanonicalHeaderKey(name)] = v
		}
	}
	q.body = r.Body
	return q, nil
}
