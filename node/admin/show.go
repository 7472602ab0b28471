package admin

import (
	"context"
	"net/http"
	"time"
)

// Show answers with a value as JSON. value may be called concurrently; ctx ends with the request.
func Show(value func(ctx context.Context) any) Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		return WriteJSON(w, http.StatusOK, value(r.Context()))
	}
}

// OneAtATime has a handler that is work answer one request at a time: others are told to come back.
func OneAtATime(h Handler) Handler {
	busy := make(chan struct{}, 1)
	return func(w http.ResponseWriter, r *http.Request) error {
		select {
		case busy <- struct{}{}:
			defer func() { <-busy }()
			return h(w, r)
		default:
			return &Error{Status: http.StatusTooManyRequests, Message: "another one is being answered", RetryAfter: 5 * time.Second}
		}
	}
}

// InTurn has a handler that is work answer one request at a time: others wait for their turn, as long as they like.
func InTurn(h Handler) Handler {
	busy := make(chan struct{}, 1)
	return func(w http.ResponseWriter, r *http.Request) error {
		select {
		case busy <- struct{}{}:
			defer func() { <-busy }()
			return h(w, r)
		case <-r.Context().Done():
			return r.Context().Err() // nobody reads it
		}
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
