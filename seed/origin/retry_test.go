package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRetries(t *testing.T) {
	type answers = []http.HandlerFunc
	status := func(code int, retryAfter string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if retryAfter != "" {
				w.Header().Set("Retry-After", retryAfter)
			}
			ociError(w, code, "X")
		}
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	late := func(d time.Duration, h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { time.Sleep(d); h(w, r) }
	}
	cut := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := http.NewResponseController(w).Hijack()
		conn.Close()
	}
	for _, tt := range []struct {
		name     string
		refuse   int // connections refused first
		answers  answers
		ask      func(*Request)
		patience time.Duration
		want     error
		tries    int
		min, max time.Duration
	}{
		{name: "at once", answers: answers{serveOK}, tries: 1},
		{name: "refused connection", refuse: 1, answers: answers{serveOK}, tries: 1, min: 100 * time.Millisecond, max: 300 * time.Millisecond},
		{name: "refused for good", refuse: 9, answers: answers{serveOK}, want: ErrUnreachable, min: 400 * time.Millisecond, max: 1200 * time.Millisecond},
		{name: "cut connection", answers: answers{cut, serveOK}, tries: 2, min: 100 * time.Millisecond, max: 300 * time.Millisecond},
		{name: "500", answers: answers{status(500, ""), serveOK}, tries: 2, min: 100 * time.Millisecond, max: 300 * time.Millisecond},
		{name: "503 twice", answers: answers{status(503, ""), status(502, ""), serveOK}, tries: 3, min: 400 * time.Millisecond, max: 1200 * time.Millisecond},
		{name: "503 for good", answers: answers{status(503, "")}, want: ErrUnreachable, tries: 3, min: 400 * time.Millisecond, max: 1200 * time.Millisecond},
		{name: "503 with a short Retry-After", answers: answers{status(503, "2"), serveOK}, tries: 2, min: 2 * time.Second, max: 2 * time.Second},
		{name: "503 with a long Retry-After", answers: answers{status(503, "3"), serveOK}, want: ErrUnreachable, tries: 1},
		{name: "429 without Retry-After", answers: answers{status(429, ""), serveOK}, want: ErrThrottled, tries: 1},
		{name: "429 with a short Retry-After", answers: answers{status(429, "1"), serveOK}, tries: 2, min: time.Second, max: time.Second},
		{name: "429 with a long Retry-After", answers: answers{status(429, "3600"), serveOK}, want: ErrThrottled, tries: 1},
		{name: "501", answers: answers{status(501, ""), serveOK}, want: ErrUnreachable, tries: 1},
		{name: "404", answers: answers{status(404, ""), serveOK}, want: ErrNotFound, tries: 1},
		{name: "hangs", answers: answers{hang, serveOK}, want: ErrTimeout, tries: 1, min: 15 * time.Second, max: 15 * time.Second},
		{name: "slow failures", answers: answers{late(14*time.Second, status(500, ""))}, want: ErrUnreachable, tries: 2, min: 28 * time.Second, max: 29 * time.Second},
		{name: "caller's deadline", answers: answers{hang}, patience: time.Second, want: context.DeadlineExceeded, tries: 1, min: time.Second, max: time.Second},
		{name: "caller's deadline while waiting", answers: answers{status(503, "2")}, patience: time.Second, want: ErrUnreachable, tries: 1, min: time.Second, max: time.Second},
		{name: "push", answers: answers{status(500, ""), serveOK}, ask: func(r *Request) { r.Method = http.MethodPost }, want: ErrUnreachable, tries: 1},
		{name: "body", answers: answers{status(500, ""), serveOK}, ask: func(r *Request) { r.Method, r.Body = http.MethodPut, strings.NewReader("x") }, want: ErrUnreachable, tries: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFabric(t)
				var seen atomic.Int32
				f.serve("http://reg.test", "10.0.0.1", func(w http.ResponseWriter, r *http.Request) {
					n := int(seen.Add(1))
					tt.answers[min(n, len(tt.answers))-1](w, r)
				})
				f.refuse["reg.test:80"] = tt.refuse
				c := f.client(plain())
				ctx := context.Background()
				if tt.patience > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.patience)
					defer cancel()
				}
				r := Request{Ref: testRef, Path: "manifests/latest"}
				if tt.ask != nil {
					tt.ask(&r)
				}
				start := time.Now()
				resp, err := c.Do(ctx, r)
				took := time.Since(start)
				if !errors.Is(err, tt.want) {
					t.Fatalf("got %v, want %v", err, tt.want)
				}
				if err == nil {
					resp.Body.Close()
				}
				if tries := int(seen.Load()); tries != tt.tries || took < tt.min || took > tt.max {
					t.Errorf("%d tries in %s; want %d in %s to %s", tries, took, tt.tries, tt.min, tt.max)
				}
			})
		})
	}
}

func serveOK(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }

// A name that leads nowhere is not asked for again.
func TestUnknownName(t *testing.T) {
	f := newFabric(t)
	r := wholeBlob()
	r.Registry = "nowhere.test"
	_, err := f.client(Config{}).Blob(context.Background(), r)
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrUnreachable) || e.Temporary {
		t.Errorf("got %#v", err)
	}
	if n := f.count("nowhere.test:443"); n != 1 {
		t.Errorf("dialled %d times", n)
	}
}

// A wrong certificate is not worth a second try; a CA file and insecure do what they say. Over real sockets.
func TestCertificates(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(serveBlob))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{testCA().leaf}}
	srv.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	for _, tt := range []struct {
		name     string
		registry Registry
		ok       bool
	}{
		{"unknown authority", Registry{URL: srv.URL}, false},
		{"CA file", Registry{URL: srv.URL, CA: caFile(t)}, true},
		{"CA file, other name", Registry{URL: "https://localhost:" + port, CA: caFile(t)}, false},
		{"insecure", Registry{URL: srv.URL, Insecure: true}, true},
		{"http to a TLS port", Registry{URL: "http://127.0.0.1:" + port}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := New(Config{Registries: map[string]Registry{"reg.test": tt.registry}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			size, err := c.HeadBlob(context.Background(), wholeBlob())
			if tt.ok {
				if err != nil || size != int64(len(content)) {
					t.Errorf("got %d, %v", size, err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Temporary {
				t.Errorf("got %#v", err)
			}
		})
	}
}
