package origin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDoForwards(t *testing.T) {
	f := newFabric(t)
	var got *http.Request
	var body string
	f.serve("http://reg.test:5000", "10.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		got = r
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		w.Header().Set("Docker-Content-Digest", ourBlob.String())
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		_, _ = w.Write(content)
	})
	c := f.client(Config{
		Registries: map[string]Registry{"reg.test": {URL: "http://reg.test:5000/cache/"}},
		UserAgent:  "meshd/test",
	})
	resp, err := c.Do(context.Background(), Request{
		Ref:      testRef,
		Path:     "manifests/v1",
		RawQuery: "n=10&last=a%2Fb",
		Header: http.Header{
			"Accept":          {"a/b", "c/d"},
			"If-None-Match":   {`"x"`},
			"Cookie":          {"secret"},
			"Authorization":   {"Basic wrong"},
			"X-Forwarded-For": {"1.2.3.4"},
			"Host":            {"evil.test"},
			"Accept-Encoding": {"gzip"},
			"Connection":      {"close"},
		},
		Authorization: "Bearer mine",
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil || string(data) != string(content) {
		t.Errorf("read %d bytes, %v", len(data), err)
	}
	resp.Body.Close()
	if resp.Request != nil {
		t.Error("the answer holds the request, with its credentials")
	}
	if resp.Header.Get("Docker-Content-Digest") != ourBlob.String() {
		t.Error("headers are lost")
	}
	if got.Method != "GET" || got.Host != "reg.test:5000" || got.RequestURI != "/cache/v2/team/app/manifests/v1?n=10&last=a%2Fb" || body != "" {
		t.Errorf("%s %s %s", got.Method, got.Host, got.RequestURI)
	}
	want := http.Header{
		"Accept":          {"a/b", "c/d"},
		"If-None-Match":   {`"x"`},
		"Authorization":   {"Bearer mine"},
		"Accept-Encoding": {"identity"},
		"User-Agent":      {"meshd/test"},
	}
	if !reflect.DeepEqual(got.Header, want) {
		t.Errorf("headers %v, want %v", got.Header, want)
	}
}

func TestDoBody(t *testing.T) {
	f := newFabric(t)
	var got string
	f.serve("http://reg.test", "10.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = fmt.Sprintf("%s %s %d %s", r.Method, r.Header.Get("Content-Type"), r.ContentLength, b)
		w.Header().Set("Location", "/v2/team/app/manifests/x")
		w.WriteHeader(http.StatusCreated)
	})
	resp, err := f.client(plain()).Do(context.Background(), Request{
		Ref: testRef, Method: http.MethodPut, Path: "manifests/v1", Body: strings.NewReader("{}"),
		Header: http.Header{"Content-Type": {"application/json"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got != "PUT application/json 2 {}" || resp.StatusCode != 201 || resp.Header.Get("Location") == "" {
		t.Errorf("%s: %d %v", got, resp.StatusCode, resp.Header)
	}
}

// 2xx and 304 are answers, everything else is an error with what the registry said.
func TestDoStatuses(t *testing.T) {
	sentinels := []error{ErrUnauthorized, ErrDenied, ErrNotFound, ErrThrottled, ErrRange, ErrUnreachable, ErrTimeout, ErrInvalid, ErrRefused, ErrReference, ErrNoRange}
	for _, tt := range []struct {
		status   int
		is       []error
		toClient int
	}{
		{200, nil, 0},
		{202, nil, 0},
		{206, nil, 0},
		{304, nil, 0},
		{300, nil, 502},
		{400, nil, 400},
		{401, []error{ErrUnauthorized}, 401},
		{402, nil, 402},
		{403, []error{ErrDenied}, 403},
		{404, []error{ErrNotFound}, 404},
		{405, nil, 405},
		{408, []error{ErrTimeout, ErrUnreachable}, 504},
		{416, []error{ErrRange}, 416},
		{429, []error{ErrThrottled}, 429},
		{451, nil, 451},
		{500, []error{ErrUnreachable}, 502},
		{501, []error{ErrUnreachable}, 501},
		{503, []error{ErrUnreachable}, 502},
		{504, []error{ErrTimeout, ErrUnreachable}, 504},
		{599, []error{ErrUnreachable}, 502},
	} {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			f := newFabric(t)
			f.serve("http://reg.test", "10.0.0.1", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
				w.Header().Set("Retry-After", "30")
				if tt.status == 304 {
					w.WriteHeader(304)
					return
				}
				ociError(w, tt.status, "SOME_CODE")
			})
			resp, err := f.client(plain()).Do(context.Background(), Request{Ref: testRef, Path: "manifests/v1"})
			if tt.toClient == 0 {
				if err != nil || resp.StatusCode != tt.status {
					t.Fatalf("got %v, %v", resp, err)
				}
				resp.Body.Close()
				return
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			for _, s := range sentinels {
				want := false
				for _, is := range tt.is {
					want = want || is == s
				}
				if errors.Is(err, s) != want {
					t.Errorf("Is(%v) = %v", s, !want)
				}
			}
			wantCode := Code{Code: "SOME_CODE", Message: "no", Detail: json.RawMessage(`{"a":1}`)}
			if e.Status != tt.status || len(e.Codes) != 1 || !reflect.DeepEqual(e.Codes[0], wantCode) || e.ContentType != "application/json" ||
				e.RetryAfter != 30*time.Second || len(e.Challenge) != 1 || !strings.Contains(err.Error(), "SOME_CODE") {
				t.Errorf("%#v", e)
			}
			status, header, body := e.HTTP()
			if status != tt.toClient {
				t.Errorf("client gets %d, want %d", status, tt.toClient)
			}
			if passed := tt.toClient == tt.status && tt.status < 500; passed != (string(body) == string(e.Body)) ||
				passed && (header.Get("WWW-Authenticate") != `Basic realm="r"` || header.Get("Retry-After") != "30") {
				t.Errorf("client gets %v %s", header, body)
			}
		})
	}
}

// Error answers are read within bounds, whatever they claim.
func TestHostileErrorBodies(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		body    int // bytes kept
		took    time.Duration
	}{
		{name: "long length, short body: docker-registry's 416", handler: raw("416 Requested Range Not Satisfiable\r\nContent-Length: 1073741824\r\nContent-Range: bytes */1073741824", "{}"), body: 2},
		{name: "no body", handler: raw("404 Not Found\r\nContent-Length: 0", "")},
		{name: "endless", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(404)
			_, _ = io.CopyN(w, zeros{}, 1<<30)
		}, body: maxErrorBody},
		{name: "hanging", handler: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(404)
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, body: 4, took: errorBodyWait},
		{name: "dripping", handler: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(404)
			for range 9 {
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(time.Second * 3 / 4):
				case <-r.Context().Done():
					return
				}
			}
		}, body: 3, took: errorBodyWait},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFabric(t)
				f.serve("http://reg.test", "10.0.0.1", tt.handler)
				start := time.Now()
				_, err := f.client(plain()).Do(context.Background(), Request{Ref: testRef, Path: "manifests/v1"})
				var e *Error
				if !errors.As(err, &e) || e.Status < 400 || len(e.Body) != tt.body {
					t.Fatalf("got %#v", err)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
			})
		})
	}
}

func TestDoRefusesBadRequests(t *testing.T) {
	f := newFabric(t)
	c := f.client(plain())
	good := Request{Ref: testRef, Path: "manifests/v1"}
	for _, tt := range []struct {
		name  string
		spoil func(*Request)
	}{
		{"registry", func(r *Request) { r.Registry = "reg.test/x" }},
		{"registry with user", func(r *Request) { r.Registry = "geheim@reg.test" }},
		{"repository", func(r *Request) { r.Repository = "../../etc" }},
		{"no repository", func(r *Request) { r.Repository = "" }},
		{"path", func(r *Request) { r.Path = "../x" }},
		{"query", func(r *Request) { r.RawQuery = "a=b c" }},
		{"query with line feed", func(r *Request) { r.RawQuery = "a=b\r\nX: y" }},
		{"query with fragment", func(r *Request) { r.RawQuery = "a=b#c" }},
		{"authorization", func(r *Request) { r.Authorization = "Bearer a\nb" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := good
			tt.spoil(&r)
			_, err := c.Do(context.Background(), r)
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, ErrReference) {
				t.Fatalf("got %v", err)
			}
			if status, _, _ := e.HTTP(); status != 400 {
				t.Errorf("client gets %d", status)
			}
		})
	}
	if len(f.dialled) > 0 {
		t.Errorf("dialled %v", f.dialled)
	}
}

func TestErrorTextIsBounded(t *testing.T) {
	e := &Error{Registry: "reg.test", Op: "GET /", Status: 400, Codes: make([]Code, 16)}
	for i := range e.Codes {
		e.Codes[i] = Code{Code: strings.Repeat("\x1b[31m", 1000), Message: strings.Repeat("\n", 1000)}
	}
	s := e.Error()
	if len(s) > 20*maxErrorMessage || strings.ContainsAny(s, "\x1b\n") {
		t.Errorf("%d bytes: %q", len(s), s)
	}
}
