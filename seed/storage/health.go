package storage

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"gocloud.dev/gcerrors"

	"github.com/meshd-project/meshd/exchange/store"
)

// How long a bucket that fails is left alone, doubling from the one to the other.
const (
	minRest = time.Second
	maxRest = 5 * time.Minute
)

// Health is how reading from a bucket, or writing to it, goes.
type Health struct {
	// Problem is "" while all is well, else the last failure, as one of: full, forbidden, gone, slow, unreachable, corrupt.
	Problem string
	Detail  string        // the error
	Failed  int64         // failures since the start
	Rest    time.Duration // until the next try
}

// health is a Health that changes.
type health struct {
	mu     sync.Mutex
	now    Health
	rest   time.Duration
	wakeAt time.Time
}

func (h *health) show() Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.now
	out.Rest = max(time.Until(h.wakeAt), 0)
	return out
}

// resting returns how long the bucket is to be left alone.
func (h *health) resting() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Until(h.wakeAt)
}

// ok says that the bucket has done what it was asked.
func (h *health) ok() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now.Problem != "" {
		log.Infow("bucket is well again", "was", h.now.Problem)
	}
	h.now.Problem, h.now.Detail, h.rest, h.wakeAt = "", "", 0, time.Time{}
}

// fail says that it has not.
func (h *health) fail(doing string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.wakeAt) { // several failed at once: that is one failure
		return
	}
	h.rest = min(max(2*h.rest, minRest), maxRest)
	h.wakeAt = time.Now().Add(h.rest)
	h.now.Failed++
	h.now.Problem, h.now.Detail = problem(err), err.Error()
	log.Warnw("bucket fails, going on without it", "doing", doing, "problem", h.now.Problem, "rest", h.rest, "err", err)
}

// problem is a word for an error.
func problem(err error) string {
	status := 0
	var told interface{ HTTPStatusCode() int } // of AWS's SDK
	if errors.As(err, &told) {
		status = told.HTTPStatusCode()
	}
	switch code := gcerrors.Code(err); {
	case errors.Is(err, store.ErrDigestMismatch), errors.Is(err, store.ErrInvalid):
		return "corrupt"
	case errors.Is(err, store.ErrNoSpace), status == http.StatusInsufficientStorage:
		return "full"
	case code == gcerrors.PermissionDenied, errors.Is(err, errForbidden), status == http.StatusForbidden, status == http.StatusUnauthorized:
		return "forbidden"
	case errors.Is(err, store.ErrNotFound), code == gcerrors.NotFound:
		return "gone"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errSlow), status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
		return "slow"
	}
	return "unreachable"
}
