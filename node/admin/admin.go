package admin

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"time"

	logging "github.com/ipfs/go-log/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

var log = logging.Logger("meshd/admin")

// Config is what the routes show. All functions may be called concurrently.
type Config struct {
	// Ready returns nil when the node is up, else why not.
	Ready func() error
	// Status returns the value that /v1/status shows as JSON.
	Status func() any
	// Peers returns the value that /v1/peers shows as JSON.
	Peers func() any
	// Doctor looks the node over and returns the value that /v1/doctor shows as JSON. It is called once at a time;
	// ctx ends with the request.
	Doctor func(ctx context.Context) any
	// Metrics are gathered for /metrics.
	Metrics prometheus.Gatherer
}

// New returns the handler of all routes.
func New(cfg Config) http.Handler {
	routes := map[string]http.Handler{
		"/healthz":   http.HandlerFunc(healthz),
		"/readyz":    readyz(cfg.Ready),
		"/v1/status": show(cfg.Status),
		"/v1/peers":  show(cfg.Peers),
		"/v1/doctor": oneAtATime(cfg.Doctor),
		"/metrics":   promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		h := routes[r.URL.Path]
		switch {
		case !localHost(r.Host):
			http.Error(w, "this host name is not served", http.StatusForbidden)
		case h == nil:
			http.Error(w, "no such route", http.StatusNotFound)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "GET and HEAD only", http.StatusMethodNotAllowed)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// NewServer returns a server whose every wait has an end.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
}

// localHost reports whether a Host header is an IP address or localhost.
func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.EqualFold(host, "localhost") || net.ParseIP(host) != nil
}

func healthz(w http.ResponseWriter, _ *http.Request) { writeText(w, "ok\n") }

func readyz(ready func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		writeText(w, "ready\n")
	})
}

func show(value func() any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, value()) })
}

// oneAtATime shows a value that is work to get: others are told to come back.
func oneAtATime(value func(context.Context) any) http.Handler {
	busy := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case busy <- struct{}{}:
			defer func() { <-busy }()
			writeJSON(w, value(r.Context()))
		default:
			w.Header().Set("Retry-After", "5")
			http.Error(w, "another one is being answered", http.StatusTooManyRequests)
		}
	})
}

func writeJSON(w http.ResponseWriter, value any) {
	body, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		log.Errorw("value not shown", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(body, '\n')) //nolint:errcheck // the client has gone
}

func writeText(w http.ResponseWriter, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte(s)) //nolint:errcheck // the client has gone
}
