package mirror

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// discard is a response writer that keeps nothing.
type discard struct {
	h      http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

func benchRequest(b *testing.B, w *world, target string, headers ...string) {
	r := httptest.NewRequestWithContext(context.Background(), "GET", target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	b.ReportAllocs()
	for b.Loop() {
		d := &discard{h: http.Header{}}
		w.ServeHTTP(d, r)
		if d.status >= 300 {
			b.Fatalf("status %d", d.status)
		}
	}
}

// BenchmarkRange is a range read through the handler alone: what the mirror costs
// on top of moving the bytes.
func BenchmarkRange(b *testing.B) {
	for _, n := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n>>10, "KiB"), func(b *testing.B) {
			w, _, _, target := pulled(b, Config{}, 8<<20)
			b.SetBytes(int64(n))
			benchRequest(b, w, target, "Range", fmt.Sprintf("bytes=%d-%d", 1<<20, 1<<20+n-1))
		})
	}
}

func BenchmarkManifestFromDisk(b *testing.B) {
	w := newWorld(b, Config{})
	img := w.push(w.origin.repo("h.example", "team/app"), "latest", 100)
	benchRequest(b, w, path+"manifests/"+img.manifest.String())
}

// BenchmarkFile sends a file over loopback. The second one is net/http's own file
// server on the same file, for the ratio.
func BenchmarkFile(b *testing.B) {
	const size = 64 << 20
	w, _, blob, target := pulled(b, Config{}, size)
	blob.file = tempFile(b, blob.data)
	std := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { http.ServeFile(rw, r, blob.file) })
	for name, handler := range map[string]http.Handler{"mirror": w, "net-http": std} {
		b.Run(name, func(b *testing.B) {
			srv := httptest.NewUnstartedServer(nil)
			srv.Config = NewServer(handler)
			srv.Start()
			defer srv.Close()
			b.SetBytes(size)
			for b.Loop() {
				resp, err := srv.Client().Get(srv.URL + target)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if n != size || err != nil {
					b.Fatalf("%d bytes, %v", n, err)
				}
			}
		})
	}
}

// BenchmarkSmallBlob is a warm 1 KiB blob over a kept connection.
func BenchmarkSmallBlob(b *testing.B) {
	w, _, _, target := pulled(b, Config{}, 1<<10)
	srv := w.serve(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := srv.Client().Get(srv.URL + target)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

func BenchmarkParsePath(b *testing.B) {
	p := "/v2/harbor.example:8443/team/app/blobs/" + someSHA256
	b.ReportAllocs()
	for b.Loop() {
		rt, err := parsePath(p)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := resolve(rt.name, "", dockerHub, func(string) bool { return false }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseRange(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseRange("bytes=1048576-2097151", 1<<30); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGate is a hit in a full table.
func BenchmarkGate(b *testing.B) {
	w := newWorld(b, Config{})
	c := caller{ref: Ref{"harbor.example", "team/app"}, auth: "Bearer " + string(make([]byte, 2000))}
	for i := range w.cfg.MaxGrants {
		w.gate.grants.put(hash{byte(i), byte(i >> 8), byte(i >> 16)}, grant{})
	}
	w.gate.give(c, someSHA256, grant{at: time.Now().Add(time.Hour)})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.gate.allow(context.Background(), endpointBlob, c, someSHA256, nil); err != nil {
			b.Fatal(err)
		}
	}
}
