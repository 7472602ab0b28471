package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// countsPath is where the demo's registry tells what it sent. It is outside of /v2/, so no client asks for it by chance.
const countsPath = "/_demo/counts"

// Counts is what a registry sent so far.
type Counts struct {
	BlobBytes    int64 `json:"blob_bytes"`    // bytes of blob bodies, ranges included
	BlobRequests int64 `json:"blob_requests"` // answered GETs of blobs
}

// RegistryCommand is the hidden subcommand that runs the registry. It prints its address and ends with its stdin.
type RegistryCommand struct {
	Addr string `default:"127.0.0.1:0" help:"Listen address."`
}

// Run serves until ctx ends or the parent closes stdin.
func (c *RegistryCommand) Run(ctx context.Context, std Streams) error {
	l, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	srv := &http.Server{
		Handler:           newCountingRegistry(registry.New(registry.Logger(log.New(io.Discard, "", 0)))),
		ReadHeaderTimeout: 10 * time.Second,
	}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	fmt.Fprintln(std.Out, l.Addr())
	if err := srv.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

// countingRegistry counts the bytes of blobs that a registry sends.
type countingRegistry struct {
	next            http.Handler
	bytes, requests atomic.Int64
}

func newCountingRegistry(next http.Handler) *countingRegistry {
	return &countingRegistry{next: next}
}

func (c *countingRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == countsPath:
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
	n, err := w.ResponseWriter.Write(p)
	if !w.fails {
		w.bytes.Add(int64(n))
	}
	return n, err
}
