package origin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
)

// How long a registry that said 429 is left alone: as long as it asked for, within these bounds.
const (
	minThrottle  = time.Second
	maxThrottle  = 5 * time.Minute
	maxThrottles = 1024

	maxThrottleBody = 4 << 10 // bytes of an answer that are worth keeping
)

// throttleKey is what a registry counts together: Docker Hub counts manifests by GET, for an address or an account, and
// neither their HEAD nor blobs.
type throttleKey struct {
	host, method, kind string
	cred               [32]byte
}

func throttleOf(q *query) throttleKey {
	kind := ""
	if !q.bare { // a token server is no repository
		_, rest, _ := strings.Cut(q.url.Path, "/v2/"+q.repository+"/")
		kind, _, _ = strings.Cut(rest, "/")
	}
	return throttleKey{host: q.url.Host, method: q.method, kind: kind, cred: q.cred.id}
}

// throttles remembers who said 429, so that clients that come again at once cost the registry nothing. It is safe for
// concurrent use.
type throttles struct {
	mu  sync.Mutex
	all map[throttleKey]throttled
}

// throttled is a 429 and its end.
type throttled struct {
	answer Error
	until  time.Time
}

// refusal returns a 429 that still counts, with what is left of its time; nil if there is none.
func (t *throttles) refusal(q *query) *Error {
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.all[throttleOf(q)]
	left := time.Until(known.until)
	if !ok || left <= 0 {
		return nil
	}
	e := known.answer
	e.Op, e.RetryAfter, e.retry = q.op(), left, false
	return &e
}

// note remembers a 429 of the registry itself.
func (t *throttles) note(q *query, err error) {
	var e *Error
	if !errors.As(err, &e) || e.Status != http.StatusTooManyRequests || e.storage {
		return
	}
	if len(e.Body) > maxThrottleBody {
		kept := *e
		kept.Body = nil
		e = &kept
	}
	until := time.Now().Add(min(max(e.RetryAfter, minThrottle), maxThrottle))
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, known := range t.all {
		if len(t.all) >= maxThrottles || time.Now().After(known.until) {
			delete(t.all, k)
		}
	}
	t.all[throttleOf(q)] = throttled{answer: *e, until: until}
}

// walkUnlessThrottled is walk, but for a registry that has just said 429: that stays its answer for a while.
func (c *Client) walkUnlessThrottled(ctx context.Context, q *query) (*answer, error) {
	if e := c.throttles.refusal(q); e != nil {
		return nil, e
	}
	a, err := c.walk(ctx, q)
	c.throttles.note(q, err)
	return a, err
}
