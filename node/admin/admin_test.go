package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func handler(ready error) http.Handler {
	m := prometheus.NewRegistry()
	m.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "meshd_test", Help: "Test."}, func() float64 { return 7 }))
	return New(Config{
		Ready:   func() error { return ready },
		Status:  func() any { return map[string]int{"peers": 3} },
		Peers:   func() any { return []string{"a"} },
		Doctor:  func(context.Context) any { return []string{"healthy"} },
		Metrics: m,
	})
}

func do(h http.Handler, method, host, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.Host = host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRoutes(t *testing.T) {
	const local = "127.0.0.1:65002"
	for _, row := range []struct {
		name, method, host, path string
		ready                    error
		status                   int
		body                     string
	}{
		{"alive", "GET", local, "/healthz", nil, 200, "ok"},
		{"alive before it is ready", "GET", local, "/healthz", errors.New("starting"), 200, "ok"},
		{"ready", "GET", local, "/readyz", nil, 200, "ready"},
		{"head", "HEAD", local, "/readyz", nil, 200, ""},
		{"not ready", "GET", local, "/readyz", errors.New("stopping"), 503, "stopping"},
		{"status", "GET", local, "/v1/status", nil, 200, `"peers": 3`},
		{"peers", "GET", local, "/v1/peers", nil, 200, `"a"`},
		{"doctor", "GET", local, "/v1/doctor", nil, 200, `"healthy"`},
		{"metrics", "GET", local, "/metrics", nil, 200, "meshd_test 7"},
		{"localhost", "GET", "localhost:65002", "/healthz", nil, 200, "ok"},
		{"IPv6", "GET", "[::1]:65002", "/healthz", nil, 200, "ok"},

		{"root", "GET", local, "/", nil, 404, ""},
		{"unlisted", "GET", local, "/v1/secrets", nil, 404, ""},
		{"profiler", "GET", local, "/debug/pprof/", nil, 404, ""},
		{"below a route", "GET", local, "/v1/status/x", nil, 404, ""},
		{"slash after a route", "GET", local, "/v1/status/", nil, 404, ""},
		{"dots", "GET", local, "/v1/../v1/status", nil, 404, ""},
		{"post", "POST", local, "/v1/status", nil, 405, ""},
		{"delete", "DELETE", local, "/v1/status", nil, 405, ""},
		{"post to nowhere", "POST", local, "/x", nil, 404, ""},
		{"another name for the host", "GET", "evil.example:65002", "/v1/status", nil, 403, ""},
		{"a name that begins alike", "GET", "localhost.evil.example", "/v1/status", nil, 403, ""},
		{"no host", "GET", "", "/v1/status", nil, 403, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := do(handler(row.ready), row.method, row.host, row.path)
			if w.Code != row.status || !strings.Contains(w.Body.String(), row.body) {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, row.status, row.body)
			}
		})
	}
}

func TestShowIsJSON(t *testing.T) {
	w := do(handler(nil), "GET", "127.0.0.1", "/v1/status")
	var v map[string]int
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || v["peers"] != 3 {
		t.Errorf("%v, %v", v, err)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
}

func TestDoctorSeesOneAtATime(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	h := New(Config{Doctor: func(context.Context) any {
		close(inside)
		<-leave
		return 1
	}, Metrics: prometheus.NewRegistry()})
	first := make(chan int, 1)
	go func() { first <- do(h, "GET", "127.0.0.1", "/v1/doctor").Code }()
	<-inside
	if w := do(h, "GET", "127.0.0.1", "/v1/doctor"); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("the second: %d", w.Code)
	}
	close(leave)
	if code := <-first; code != 200 {
		t.Errorf("the first: %d", code)
	}
}

func TestShowOfTheUnshowable(t *testing.T) {
	h := New(Config{Ready: func() error { return nil }, Status: func() any { return make(chan int) }, Metrics: prometheus.NewRegistry()})
	if w := do(h, "GET", "127.0.0.1", "/v1/status"); w.Code != 500 {
		t.Errorf("%d", w.Code)
	}
}

func TestServer(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewServer(handler(nil))
	s.Start()
	defer s.Close()
	resp, err := http.Get(s.URL + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
		t.Errorf("%d %q %v", resp.StatusCode, body, err)
	}
}
