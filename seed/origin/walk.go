package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"
)

// maxHops is how many redirects are followed.
const maxHops = 5

// query is one request to a registry, before redirects and authentication.
type query struct {
	ep         *endpoint
	repository string
	method     string
	url        *url.URL
	header     http.Header      // no Authorization
	body       io.Reader        // nil, or sent once
	again      func() io.Reader // makes body anew; nil if that cannot be
	cred       credential
	push       bool  // part of a push, which takes other rights than reading
	bare       bool  // send cred as it is and leave a 401 alone: a token server's request
	hasty      bool  // there is somebody else to ask: one try, in a part of the time
	home       reach // kind of the registry's address if it is known, else 0
}

// op is the query for people and logs.
func (q *query) op() string { return q.method + " " + redact(q.url) }

// replayable tells whether the query may be sent twice.
func (q *query) replayable() bool {
	return q.body == nil && (q.method == http.MethodGet || q.method == http.MethodHead)
}

// rewind reports whether the query may be sent again: it has no body, or one in memory. The try before may still
// read its own.
func (q *query) rewind() bool {
	if q.again != nil {
		q.body = q.again()
	}
	return q.body == nil || q.again != nil
}

// hop is one place that a query is sent to.
type hop struct {
	url  *url.URL
	cred credential
	away bool  // not where the query began
	to   reach // where it may lead
	home reach // kind of the first hop's address; 0 on the first
}

// answer is what one hop said. Its body has to be drained or closed.
type answer struct {
	*http.Response
	cancel context.CancelCauseFunc // ends the request; after the body only
	kind   reach                   // of the address that answered
	away   bool
}

// try sends q until it is answered with 2xx or 304, or fails for good: the error is an *Error. It begins no
// try later than HeaderTimeout after the first, so it takes less than twice that.
func (c *Client) try(ctx context.Context, q *query) (*answer, error) {
	start := time.Now()
	for attempt := 1; ; attempt++ {
		a, err := c.walkUnlessThrottled(ctx, q)
		if err == nil {
			return a, nil
		}
		wait, ok := c.again(q, err, attempt)
		if !ok || time.Since(start)+wait > c.cfg.HeaderTimeout {
			return nil, err
		}
		log.Debugw("origin asked again", "origin", q.ep.name, "dur", wait, "err", err)
		if !sleep(ctx, wait) {
			return nil, err
		}
	}
}

// again says whether and when a failed query is worth another try.
func (c *Client) again(q *query, err error, attempt int) (time.Duration, bool) {
	var e *Error
	if !errors.As(err, &e) || !e.retry || q.hasty || !q.replayable() || attempt >= c.cfg.Attempts {
		return 0, false
	}
	if e.RetryAfter > c.cfg.MaxRetryAfter {
		return 0, false
	}
	wait := c.cfg.Backoff
	for range attempt - 1 {
		wait *= 3
	}
	return max(wait/2+rand.N(wait), e.RetryAfter), true
}

// sleep waits and tells whether it was left in peace.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// walk sends q once and follows redirects, all within HeaderTimeout. The answer is 2xx or 304.
func (c *Client) walk(ctx context.Context, q *query) (*answer, error) {
	inner, cancel := context.WithCancelCause(ctx)
	limit := c.cfg.HeaderTimeout
	if q.hasty {
		limit /= haste
	}
	timer := time.AfterFunc(limit, func() { cancel(ErrTimeout) })
	a, err := c.follow(inner, q)
	inTime := timer.Stop()
	if err == nil && !inTime {
		a.Body.Close()
		err = ErrTimeout
	}
	if err != nil {
		err = networkError(ctx.Err(), q, causeOf(inner), err)
		cancel(nil)
		return nil, err
	}
	a.cancel = cancel
	return a, nil
}

// causeOf is why our own context ended, nil if it did not.
func causeOf(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

// follow visits one hop after the other.
func (c *Client) follow(ctx context.Context, q *query) (*answer, error) {
	h := hop{url: q.url, cred: q.cred, to: q.ep.direct(), home: q.home}
	if !sameOrigin(q.url, q.ep.base) {
		h.to = q.ep.beyond(q.home)
	}
	for n := 0; ; n++ {
		a, err := c.visit(ctx, q, h)
		if err != nil {
			return nil, err
		}
		switch {
		case a.StatusCode >= 200 && a.StatusCode < 300, a.StatusCode == http.StatusNotModified:
			return a, nil
		case !isRedirect(a.StatusCode) || !q.replayable():
			return nil, answerError(q, a)
		}
		location := a.Header.Get("Location")
		kind := a.kind
		a.drain()
		if n == maxHops {
			return nil, fmt.Errorf("%w: more than %d redirects", ErrInvalid, maxHops)
		}
		if h, err = q.next(h, kind, location); err != nil {
			log.Warnw("redirect refused", "origin", q.ep.name, "err", err)
			return nil, err
		}
	}
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// next is the hop that a redirect from h leads to; kind is what answered there.
func (q *query) next(h hop, kind reach, location string) (hop, error) {
	ref, err := url.Parse(location)
	if err != nil || location == "" {
		return hop{}, fmt.Errorf("%w: redirect without a valid Location", ErrInvalid) // err would quote it
	}
	u := h.url.ResolveReference(ref)
	u.Fragment = ""
	if err := q.ep.checkURL(u); err != nil {
		return hop{}, fmt.Errorf("redirect: %w", err)
	}
	if h.home == 0 {
		h.home = kind
	}
	next := hop{url: u, home: h.home, away: !sameOrigin(u, q.url), to: q.ep.direct()}
	if !sameOrigin(u, q.ep.base) {
		next.to = q.ep.beyond(h.home)
	}
	if sameOrigin(u, h.url) {
		next.cred = h.cred // lost at the first hop to another host, for good
	}
	return next, nil
}

// checkURL checks where the registry refers to, a redirect or a token realm.
func (ep *endpoint) checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%w: scheme %s", ErrRefused, clip(u.Scheme))
	case u.Scheme == "http" && !ep.plain:
		return fmt.Errorf("%w: http://%s: the registry is reached by https", ErrRefused, clip(u.Host))
	case u.User != nil:
		return fmt.Errorf("%w: credentials in the address of %s", ErrRefused, clip(u.Host))
	}
	if _, err := checkHost(u.Host); err != nil {
		return fmt.Errorf("%w: host %s", ErrRefused, clip(u.Host))
	}
	return nil
}

// sameOrigin compares scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

// visit sends q to one hop and answers a challenge for a token, once.
func (c *Client) visit(ctx context.Context, q *query, h hop) (*answer, error) {
	authorization := h.cred.header
	if !q.bare && !h.away {
		if header := c.tokens.remembered(ctx, q, h.cred); header != "" {
			authorization = header
		}
	}
	a, err := c.once(ctx, q, h, authorization)
	if err != nil || a.StatusCode != http.StatusUnauthorized || q.bare || !h.cred.exchangeable() || !q.rewind() {
		return a, err
	}
	ch, ok := bearerChallenge(a.Header.Values("WWW-Authenticate"))
	if !ok {
		return a, nil
	}
	home := h.home
	if home == 0 {
		home = a.kind
	}
	refusal := answerError(q, a)
	key, err := newTokenKey(q, h, ch)
	if err != nil {
		refusal.Err = err
		return nil, refusal
	}
	c.tokens.forget(key, authorization) // if it was a remembered one, it is no longer good
	token, err := c.tokens.get(ctx, q.ep, home, key, h.cred)
	if err != nil {
		return nil, tokenError(refusal, err)
	}
	if a, err = c.once(ctx, q, h, token); err != nil {
		return nil, err
	}
	switch {
	case a.StatusCode == http.StatusUnauthorized:
		c.tokens.reject(q, h.cred, key, token)
	case !h.away:
		c.tokens.remember(q, h.cred, key, home)
	}
	return a, nil
}

// once sends one request. The body of the answer lives until cancel.
func (c *Client) once(ctx context.Context, q *query, h hop, authorization string) (*answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	a := &answer{cancel: cancel, away: h.away}
	trace := httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { a.kind = kindOfConn(info.Conn.RemoteAddr()) }}
	req := (&http.Request{
		Method: q.method,
		URL:    h.url,
		Header: q.header.Clone(),
	}).WithContext(httptrace.WithClientTrace(ctx, &trace))
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	if req.Header.Get("Accept-Encoding") == "" {
		req.Header.Set("Accept-Encoding", "identity")
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	if q.body != nil {
		req.Body = io.NopCloser(q.body)
		req.ContentLength = -1
		if sized, ok := q.body.(interface{ Len() int }); ok {
			req.ContentLength = int64(sized.Len())
		}
	}
	resp, err := q.ep.network(h.url).transport(h.to).RoundTrip(req)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	a.Response = resp
	return a, nil
}

// drain reads a small body to its end and closes it, so that the connection can be used again. One that is
// long, slow or cut off is given up. It returns what came, at most 64 KiB.
func (a *answer) drain() []byte {
	stop := time.AfterFunc(errorBodyWait, func() { a.cancel(ErrTimeout) })
	defer stop.Stop()
	// A short body under a long Content-Length ends in an error; what came before it still counts.
	body, _ := io.ReadAll(io.LimitReader(a.Body, maxErrorBody))
	_ = a.Body.Close()
	a.cancel(nil)
	return body
}
