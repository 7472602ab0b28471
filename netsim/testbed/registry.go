package testbed

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/registry"
)

// CountsPath is where the registry tells what it sent. It is outside of /v2/, so no client asks for it by chance.
const CountsPath = "/_demo/counts"

// Counts is what a registry sent so far.
type Counts struct {
	BlobBytes    int64 `json:"blob_bytes"`    // bytes of blob bodies, ranges included
	BlobRequests int64 `json:"blob_requests"` // answered GETs of blobs
}

// NewRegistry returns an empty registry that keeps all in memory and counts the bytes of blobs that it sends.
func NewRegistry() http.Handler {
	return &countingRegistry{next: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
}

// countingRegistry counts the bytes of blobs that a registry sends.
type countingRegistry struct {
	next            http.Handler
	bytes, requests atomic.Int64
}

func (c *countingRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == CountsPath:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Counts{BlobBytes: c.bytes.Load(), BlobRequests: c.requests.Load()})
	case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:"):
		c.requests.Add(1)
		c.next.ServeHTTP(&countingWriter{ResponseWriter: w, bytes: &c.bytes}, r)
	default:
		c.next.ServeHTTP(w, r)
	}
}

// countingWriter adds up what the connection took of a body. It hides ReadFrom on purpose: every byte passes Write.
type countingWriter struct {
	http.ResponseWriter
	bytes *atomic.Int64
	fails bool // the answer is an error, not a blob
}

func (w *countingWriter) WriteHeader(status int) {
	w.fails = status >= http.StatusBadRequest
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	if w.fails {
		return w.ResponseWriter.Write(p)
	}
	w.bytes.Add(int64(len(p))) // before it can be read: whoever has the last byte may ask for the count at once
	n, err := w.ResponseWriter.Write(p)
	w.bytes.Add(int64(n - len(p)))
	return n, err
}
