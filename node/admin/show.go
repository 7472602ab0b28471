package admin

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
)

// Show answers with a value as JSON. value may be called concurrently; ctx ends with the request.
func Show(value func(ctx context.Context) any) Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		return WriteJSON(w, http.StatusOK, value(r.Context()))
	}
}

// OneAtATime has a handler that is work answer one request at a time: others wait for their turn, if they may, and are told to
// come back when it has not come.
func OneAtATime(wait time.Duration, h Handler) Handler {
	turn := semaphore.NewWeighted(1)
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		if !turn.TryAcquire(1) && turn.Acquire(ctx, 1) != nil {
			return &Error{Status: http.StatusTooManyRequests, Message: "another one is being answered", RetryAfter: 5 * time.Second}
		}
		defer turn.Release(1)
		return h(w, r)
	}
}

// Probe answers text while ok returns nil, and else 503 with the reason.
func Probe(text string, ok func() error) Handler {
	return func(w http.ResponseWriter, _ *http.Request) error {
		if err := ok(); err != nil {
			return Errorf(http.StatusServiceUnavailable, "%v", err)
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte(text + "\n")) //nolint:errcheck // the client has gone
		return nil
	}
}

// Plain makes a Handler of one that writes its errors itself.
func Plain(h http.Handler) Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		h.ServeHTTP(w, r)
		return nil
	}
}
