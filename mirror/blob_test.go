package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// pulled is a world with a public blob of n bytes in the mesh.
func pulled(t testing.TB, cfg Config, n int) (w *world, d digest.Digest, b *fakeBlob, target string) {
	w = newWorld(t, cfg)
	d, b = w.mesh.add(randomBytes(n))
	w.origin.repo("h.example", "team/app").blobs[d] = int64(n)
	return w, d, b, path + "blobs/" + d.String()
}

func TestBlob(t *testing.T) {
	w, d, b, target := pulled(t, Config{}, 3<<20+17)
	size := int64(len(b.data))
	tag := etag(d)
	for _, c := range []struct {
		name    string
		headers []string
		status  int
		off, n  int64
		rng     string // Content-Range
	}{
		{"whole", nil, 200, 0, size, ""},
		{"first-last", []string{"Range", "bytes=10-19"}, 206, 10, 10, fmt.Sprintf("bytes 10-19/%d", size)},
		{"open", []string{"Range", "bytes=2000000-"}, 206, 2000000, size - 2000000, fmt.Sprintf("bytes 2000000-%d/%d", size-1, size)},
		{"suffix", []string{"Range", "bytes=-5"}, 206, size - 5, 5, fmt.Sprintf("bytes %d-%d/%d", size-5, size-1, size)},
		{"whole as a range", []string{"Range", "bytes=0-"}, 206, 0, size, fmt.Sprintf("bytes 0-%d/%d", size-1, size)},
		{"several", []string{"Range", "bytes=0-1,5-6"}, 200, 0, size, ""},
		{"malformed", []string{"Range", "bytes=x"}, 200, 0, size, ""},
		{"past the end", []string{"Range", "bytes=99999999-"}, 416, 0, 0, fmt.Sprintf("bytes */%d", size)},
		{"If-Range same", []string{"Range", "bytes=0-4", "If-Range", tag}, 206, 0, 5, fmt.Sprintf("bytes 0-4/%d", size)},
		{"If-Range other", []string{"Range", "bytes=0-4", "If-Range", `"x"`}, 200, 0, size, ""},
		{"If-Range weak", []string{"Range", "bytes=0-4", "If-Range", "W/" + tag}, 200, 0, size, ""},
		{"If-Range date", []string{"Range", "bytes=0-4", "If-Range", "Wed, 21 Oct 2015 07:28:00 GMT"}, 200, 0, size, ""},
		{"If-None-Match same", []string{"If-None-Match", tag}, 304, 0, 0, ""},
		{"If-None-Match other", []string{"If-None-Match", `"x"`}, 200, 0, size, ""},
		{"If-None-Match before Range", []string{"If-None-Match", tag, "Range", "bytes=0-4"}, 304, 0, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := w.do("GET", target, c.headers...)
			wantStatus(t, rec, c.status)
			h := rec.Header()
			if h.Get("Content-Range") != c.rng {
				t.Fatalf("Content-Range %q, want %q", h.Get("Content-Range"), c.rng)
			}
			if c.status == 416 {
				if codeOf(rec.Body.Bytes()) != codeRangeInvalid {
					t.Fatalf("body %s", rec.Body)
				}
				return
			}
			if h.Get("Etag") != tag || h.Get("Docker-Content-Digest") != d.String() || h.Get("Accept-Ranges") != "bytes" || h.Get("Content-Type") != "application/octet-stream" {
				t.Fatalf("%v", h)
			}
			if c.status == 304 {
				if rec.Body.Len() != 0 || h.Get("Content-Length") != "" {
					t.Fatalf("304 with a body: %v", h)
				}
				return
			}
			if !bytes.Equal(rec.Body.Bytes(), b.data[c.off:c.off+c.n]) || h.Get("Content-Length") != itoa(int(c.n)) {
				t.Fatalf("%d bytes, Content-Length %s", rec.Body.Len(), h.Get("Content-Length"))
			}
		})
	}
	if _, heads := w.origin.asked(); heads != 1 {
		t.Fatalf("%d questions", heads)
	}
}

func TestBlobWant(t *testing.T) {
	w := newWorld(t, Config{})
	img := w.push(w.origin.repo("h.example", "team/app"), "latest", 777)
	auth := []string{"Authorization", "Bearer me"}
	w.do("GET", path+"manifests/latest", auth...)
	w.do("GET", path+"blobs/"+img.layer.String(), auth...)
	want := BlobWant{Ref: Ref{"h.example", "team/app"}, Digest: img.layer, Size: 777, Authorization: "Bearer me"}
	if len(w.mesh.wants) != 1 || w.mesh.wants[0] != want {
		t.Fatalf("%+v", w.mesh.wants)
	}
	if s := w.Stats(); s.BlobPulls != 1 || s.BlobBytes != 777 || s.ManifestPulls != 1 || s.Requests != 2 || s.GrantHits != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestBlobEmpty(t *testing.T) {
	w, _, _, target := pulled(t, Config{}, 0)
	rec := w.do("GET", target)
	if wantStatus(t, rec, 200); rec.Header().Get("Content-Length") != "0" {
		t.Fatalf("%v", rec.Header())
	}
	wantStatus(t, w.do("GET", target, "Range", "bytes=0-"), 416)
	wantStatus(t, w.do("GET", target, "Range", "bytes=-1"), 200)
}

func TestBlobHead(t *testing.T) {
	t.Run("cold", func(t *testing.T) {
		w, d, _, target := pulled(t, Config{}, 1234)
		for range 2 {
			rec := w.do("HEAD", target, "Range", "bytes=0-1")
			if wantStatus(t, rec, 200); rec.Header().Get("Content-Length") != "1234" || rec.Header().Get("Docker-Content-Digest") != d.String() || rec.Body.Len() != 0 {
				t.Fatalf("%v", rec.Header())
			}
		}
		if _, heads := w.origin.asked(); heads != 1 || w.mesh.opened() != 0 {
			t.Fatalf("%d questions, %d opens", heads, w.mesh.opened())
		}
	})
	t.Run("claimed by a manifest only", func(t *testing.T) {
		w := newWorld(t, Config{})
		repo := w.origin.repo("h.example", "team/app")
		img := w.push(repo, "latest", 100)
		repo.blobs[img.layer] = 101 // the manifest lies
		w.do("GET", path+"manifests/latest")
		rec := w.do("HEAD", path+"blobs/"+img.layer.String())
		if rec.Header().Get("Content-Length") != "101" {
			t.Fatalf("%v", rec.Header())
		}
		delete(repo.blobs, img.config)
		wantStatus(t, w.do("HEAD", path+"blobs/"+img.config.String()), 404)
		wantStatus(t, w.do("GET", path+"blobs/"+img.config.String()), 404)
	})
	t.Run("on disk", func(t *testing.T) {
		w := newWorld(t, Config{})
		img := w.push(w.origin.repo("h.example", "team/app"), "latest", 100)
		w.mesh.blobs[img.layer].onDisk = true
		w.do("GET", path+"manifests/latest")
		if rec := w.do("HEAD", path+"blobs/"+img.layer.String()); rec.Header().Get("Content-Length") != "100" {
			t.Fatalf("%v", rec.Header())
		}
		if _, heads := w.origin.asked(); heads != 0 {
			t.Fatalf("%d questions", heads)
		}
	})
	t.Run("origin does not tell the size", func(t *testing.T) {
		w, d, _, target := pulled(t, Config{}, 100)
		w.origin.repos[Ref{"h.example", "team/app"}].blobs[d] = -1
		rec := w.do("HEAD", target)
		if wantStatus(t, rec, 200); rec.Header().Get("Content-Length") != "" {
			t.Fatalf("%v", rec.Header())
		}
		if rec = w.do("GET", target); rec.Body.Len() != 100 || w.mesh.wants[0].Size != -1 {
			t.Fatalf("%d bytes, want %+v", rec.Body.Len(), w.mesh.wants)
		}
	})
}

// TestBlobErrors: whatever goes wrong before the first byte has a status.
func TestBlobErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(*fakeBlob)
		status int
		code   string
	}{
		{"not found", func(b *fakeBlob) { b.openErr = ErrNotFound }, 404, codeBlobUnknown},
		{"busy", func(b *fakeBlob) { b.openErr = fmt.Errorf("open: %w", ErrBusy) }, 429, codeTooMany},
		{"draining", func(b *fakeBlob) { b.openErr = ErrDraining }, 503, codeUnavailable},
		{"corrupt", func(b *fakeBlob) { b.openErr = ErrCorrupt }, 502, codeManifestInvalid},
		{"unreachable", func(b *fakeBlob) { b.openErr = errors.New("no route to host") }, 502, codeUnavailable},
		{"time-out", func(b *fakeBlob) { b.openErr = context.DeadlineExceeded }, 504, codeUnavailable},
		{"origin's 404", func(b *fakeBlob) { b.openErr = fmt.Errorf("give up: %w", &fakeError{status: 404}) }, 404, codeBlobUnknown},
		{"origin's 403", func(b *fakeBlob) { b.openErr = &fakeError{status: 403} }, 403, codeDenied},
		{"origin's 429", func(b *fakeBlob) { b.openErr = &fakeError{status: 429} }, 429, codeTooMany},
		{"origin's 500", func(b *fakeBlob) { b.openErr = &fakeError{status: 500} }, 502, codeUnavailable},
		{"fails before the first byte", func(b *fakeBlob) { b.cutErr = errors.New("gone") }, 502, codeUnavailable},
		{"corrupt before the first byte", func(b *fakeBlob) { b.cutErr = ErrCorrupt }, 502, codeManifestInvalid},
		{"ends before the first byte", func(b *fakeBlob) { b.short = true }, 502, codeUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _, b, target := pulled(t, Config{}, 1000)
			c.spoil(b)
			rec := w.do("GET", target)
			wantStatus(t, rec, c.status)
			if codeOf(rec.Body.Bytes()) != c.code || rec.Header().Get("Etag") != "" || rec.Header().Get("Content-Range") != "" {
				t.Fatalf("%v %s", rec.Header(), rec.Body)
			}
		})
	}
}

// TestBlobFirstByteInTime: a mesh that hangs, before or after Open, costs a 504
// after FirstByteTimeout.
func TestBlobFirstByteInTime(t *testing.T) {
	for name, spoil := range map[string]func(*fakeBlob){
		"open hangs":       func(b *fakeBlob) { b.openHang = true },
		"first byte hangs": func(b *fakeBlob) { b.hangAt = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _, b, target := pulled(t, Config{}, 1000)
				defer w.Close()
				spoil(b)
				start := time.Now()
				rec := w.do("GET", target)
				wantStatus(t, rec, 504)
				if d := time.Since(start); d != 20*time.Second || codeOf(rec.Body.Bytes()) != codeUnavailable {
					t.Fatalf("%s after %v", rec.Body, d)
				}
			})
		})
	}
}

// aborted serves a request that has to be cut and reports how far it came.
func aborted(t *testing.T, w *world, ctx context.Context, target string, headers ...string) {
	t.Helper()
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Fatalf("recovered %v, want an abort", v)
		}
	}()
	rec := w.doCtx(ctx, "GET", target, headers...)
	t.Fatalf("a clean end: %d with %d bytes", rec.Code, rec.Body.Len())
}

func TestBlobStallsMidway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, b, target := pulled(t, Config{}, 1<<20)
		defer w.Close()
		b.hangAt = 300_000
		start := time.Now()
		aborted(t, w, t.Context(), target)
		if d := time.Since(start); d != 60*time.Second {
			t.Fatalf("after %v", d)
		}
	})
}

func TestBlobCutMidway(t *testing.T) {
	for name, spoil := range map[string]func(*fakeBlob){
		"error":       func(b *fakeBlob) { b.cutErr = ErrCorrupt },
		"early end":   func(b *fakeBlob) { b.short = true },
		"one byte on": func(b *fakeBlob) { b.long = true },
	} {
		t.Run(name, func(t *testing.T) {
			w, _, b, target := pulled(t, Config{}, 1<<20)
			b.cutAt = 1<<20 - 1
			spoil(b)
			aborted(t, w, t.Context(), target)
			if s := w.Stats(); s.Aborted != 1 || s.BlobPulls != 0 {
				t.Fatalf("%+v", s)
			}
		})
	}
}

func TestBlobClientLeaves(t *testing.T) {
	for name, at := range map[string]int64{"before the first byte": 0, "midway": 100_000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _, b, target := pulled(t, Config{}, 1<<20)
				defer w.Close()
				b.hangAt = at
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				start := time.Now()
				aborted(t, w, ctx, target)
				if d := time.Since(start); d != time.Second {
					t.Fatalf("ended after %v", d)
				}
			})
		})
	}
}
