package origin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Bounds on tokens.
const (
	maxTokens    = 4096 // kept at once
	maxTokenBody = 256 << 10
	minTokenTTL  = time.Minute // the protocol's default when the server names none
	maxTokenTTL  = 24 * time.Hour
	refusalTTL   = 30 * time.Second // of a token server's no
	rejectionTTL = 5 * time.Second  // of a registry's no to a token that it has just asked for
)

// tokenKey is what a token was asked for.
type tokenKey struct {
	registry              string
	cred                  [32]byte
	realm, service, scope string
}

// newTokenKey reads a challenge; the error is an ErrRefused for a realm that must not be asked.
func newTokenKey(q *query, h hop, ch challenge) (tokenKey, error) {
	key := tokenKey{
		registry: q.ep.name,
		cred:     h.cred.id,
		realm:    ch.params["realm"],
		service:  ch.params["service"],
		scope:    ch.params["scope"],
	}
	u, err := url.Parse(key.realm)
	if err != nil {
		return tokenKey{}, fmt.Errorf("token realm: %w: not a URL", ErrRefused)
	}
	if err := q.ep.checkURL(u); err != nil {
		return tokenKey{}, fmt.Errorf("token realm: %w", err)
	}
	if key.scope == "" && !h.away && q.repository != "" {
		key.scope = "repository:" + q.repository + ":pull"
	}
	return key, nil
}

// place is where a challenge was met; the next request there can fetch a token before it is challenged.
type place struct {
	registry, repository string
	write, erase         bool
	cred                 [32]byte
}

func placeOf(q *query, cred credential) place {
	return place{
		registry: q.ep.name, repository: q.repository, cred: cred.id,
		write: q.push || !q.replayable(), erase: q.method == http.MethodDelete,
	}
}

// memory is how a token was got at a place.
type memory struct {
	key  tokenKey
	home reach
}

// tokens caches tokens and fetches each once for all who wait for it.
type tokens struct {
	fetch   func(ctx context.Context, ep *endpoint, home reach, key tokenKey, cred credential) (string, time.Duration, error)
	timeout time.Duration
	wg      sync.WaitGroup // running fetches

	mu      sync.Mutex
	closed  bool
	live    map[tokenKey]heldToken
	places  map[place]memory
	flights map[tokenKey]*flight
}

// heldToken is a token server's yes, or with err its no.
type heldToken struct {
	header  string // ready to send
	err     error
	fetched time.Time
	expires time.Time
}

// errNotAccepted: the registry does not take the token that it has asked for.
var errNotAccepted = errors.New("the registry does not accept the token it asked for")

// flight is one running fetch. waiters is guarded by tokens.mu; header and err are written before done closes.
type flight struct {
	waiters int
	cancel  context.CancelFunc
	done    chan struct{}
	header  string
	err     error
}

func newTokens(fetch func(context.Context, *endpoint, reach, tokenKey, credential) (string, time.Duration, error), timeout time.Duration) *tokens {
	return &tokens{
		fetch:   fetch,
		timeout: timeout,
		live:    make(map[tokenKey]heldToken),
		places:  make(map[place]memory),
		flights: make(map[tokenKey]*flight),
	}
}

// get returns the Authorization header for key, fetching it if need be. A caller that gives up leaves the
// fetch to those who still wait; the last one ends it.
func (t *tokens) get(ctx context.Context, ep *endpoint, home reach, key tokenKey, cred credential) (string, error) {
	t.mu.Lock()
	if held, ok := t.live[key]; ok && time.Now().Before(held.expires) {
		t.mu.Unlock()
		return held.header, held.err
	}
	f := t.flights[key]
	if f == nil {
		if t.closed {
			t.mu.Unlock()
			return "", ErrClosed
		}
		f = t.start(ep, home, key, cred)
	}
	f.waiters++
	t.mu.Unlock()

	select {
	case <-f.done:
		return f.header, f.err
	case <-ctx.Done():
		t.mu.Lock()
		if f.waiters--; f.waiters == 0 {
			f.cancel()
			if t.flights[key] == f {
				delete(t.flights, key)
			}
		}
		t.mu.Unlock()
		return "", context.Cause(ctx)
	}
}

// start begins a fetch; t.mu is held.
func (t *tokens) start(ep *endpoint, home reach, key tokenKey, cred credential) *flight {
	ctx, cancel := context.WithTimeout(context.Background(), t.timeout)
	f := &flight{cancel: cancel, done: make(chan struct{})}
	t.flights[key] = f
	t.wg.Go(func() {
		defer cancel()
		began := time.Now()
		token, ttl, err := t.fetch(ctx, ep, home, key, cred)
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.flights[key] == f {
			delete(t.flights, key)
		}
		if err != nil && t.closed {
			err = ErrClosed
		}
		switch f.err = err; {
		case err == nil:
			f.header = "Bearer " + token
			t.hold(key, heldToken{header: f.header, fetched: began, expires: began.Add(ttl - ttl/10)})
		case isRefusal(err):
			t.hold(key, heldToken{err: err, expires: began.Add(refusalTTL)})
		}
		close(f.done)
	})
	return f
}

// hold keeps a token or a no; t.mu is held.
func (t *tokens) hold(key tokenKey, h heldToken) {
	now := time.Now()
	makeRoom(t.live, func(h heldToken) bool { return !now.Before(h.expires) })
	t.live[key] = h
}

// remembered returns the header that served last time at this place, renewed if it ran out; "" if there is none.
func (t *tokens) remembered(ctx context.Context, q *query, cred credential) string {
	at := placeOf(q, cred)
	t.mu.Lock()
	m, ok := t.places[at]
	t.mu.Unlock()
	if !ok {
		return ""
	}
	header, err := t.get(ctx, q.ep, m.home, m.key, cred)
	if err != nil {
		t.mu.Lock()
		delete(t.places, at)
		t.mu.Unlock()
		return "" // the registry is asked without, and will say what it wants
	}
	return header
}

func (t *tokens) remember(q *query, cred credential, key tokenKey, home reach) {
	t.mu.Lock()
	defer t.mu.Unlock()
	makeRoom(t.places, func(memory) bool { return false })
	t.places[placeOf(q, cred)] = memory{key, home}
}

// forget drops a token that was not accepted, unless it has been replaced.
func (t *tokens) forget(key tokenKey, header string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if header != "" && t.live[key].header == header { // a no has none
		delete(t.live, key)
	}
}

// reject drops a token that the registry did not accept although it had just asked for it. Where no token has served
// yet, one fetched lately will not get better by fetching it again: that is not done for a while.
func (t *tokens) reject(q *query, cred credential, key tokenKey, header string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	held, now := t.live[key], time.Now()
	_, served := t.places[placeOf(q, cred)]
	switch {
	case held.header != header:
	case !served && now.Sub(held.fetched) < rejectionTTL:
		t.hold(key, heldToken{err: errNotAccepted, expires: now.Add(rejectionTTL)})
	default:
		delete(t.live, key)
	}
}

// close ends all fetches and waits for them.
func (t *tokens) close() {
	t.mu.Lock()
	t.closed = true
	for _, f := range t.flights {
		f.cancel()
	}
	t.mu.Unlock()
	t.wg.Wait()
}

// makeRoom keeps a map under maxTokens: first what is stale goes, then anything.
func makeRoom[K comparable, V any](m map[K]V, stale func(V) bool) {
	if len(m) < maxTokens {
		return
	}
	for k, v := range m {
		if stale(v) {
			delete(m, k)
		}
	}
	for k := range m {
		if len(m) < maxTokens {
			return
		}
		delete(m, k)
	}
}

// fetchToken asks a token server, by the Docker registry token protocol.
func (c *Client) fetchToken(ctx context.Context, ep *endpoint, home reach, key tokenKey, cred credential) (string, time.Duration, error) {
	u, err := url.Parse(key.realm)
	if err != nil {
		return "", 0, fmt.Errorf("token realm: %w: not a URL", ErrRefused)
	}
	u.Fragment = ""
	v := u.Query()
	if key.service != "" {
		v.Set("service", key.service)
	}
	if key.scope != "" {
		v.Set("scope", key.scope)
	}
	u.RawQuery = v.Encode()
	q := &query{
		ep:     ep,
		method: http.MethodGet,
		url:    u,
		header: http.Header{"Accept": {"application/json"}},
		cred:   cred,
		bare:   true,
		home:   home,
	}
	a, err := c.try(ctx, q)
	if err != nil {
		return "", 0, err
	}
	body := c.newStream(ctx, q, a)
	defer body.Close()
	return readToken(body)
}

// readToken reads a token server's answer. Its error never quotes it.
func readToken(r io.Reader) (string, time.Duration, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxTokenBody+1))
	if err != nil {
		return "", 0, err
	}
	var doc struct {
		Token       string  `json:"token"`
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"` // seconds
	}
	if len(data) > maxTokenBody || json.Unmarshal(data, &doc) != nil {
		return "", 0, fmt.Errorf("%w: unreadable token", ErrInvalid)
	}
	token := doc.Token
	if token == "" {
		token = doc.AccessToken
	}
	if !isToken(token) {
		return "", 0, fmt.Errorf("%w: no usable token", ErrInvalid)
	}
	ttl := minTokenTTL
	if doc.ExpiresIn > minTokenTTL.Seconds() {
		ttl = time.Duration(min(doc.ExpiresIn, maxTokenTTL.Seconds()) * float64(time.Second))
	}
	return token, ttl, nil
}

// isToken tells whether a token can stand in a header: not empty, visible ASCII.
func isToken(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// tokenError says how a request fails for which no token could be had. If the token server said no, it is
// the registry's own refusal, with its challenge; otherwise what went wrong with the token server.
func tokenError(refusal *Error, err error) error {
	if isRefusal(err) {
		return refusal
	}
	if errors.Is(err, ErrRefused) {
		refusal.Err = err
		return refusal
	}
	return err
}

// isRefusal tells whether a token server said no, or its token is known to be worth nothing.
func isRefusal(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return errors.Is(err, errNotAccepted)
	}
	return e.Status >= 400 && e.Status < 500 && e.Status != http.StatusTooManyRequests && e.Status != http.StatusRequestTimeout
}
