package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const testToken = "0123456789abcdef"

var (
	onLoopback = Guard{Token: testToken, OpenRead: true}
	onSocket   = Guard{Token: testToken, OpenRead: true, OpenWrite: true, AnyHost: true}
	elsewhere  = Guard{Token: testToken, AnyHost: true}
)

func status(context.Context) any { return map[string]int{"peers": 3} }

// put takes what tests send.
func put(w http.ResponseWriter, r *http.Request) error {
	var in struct{ Name string }
	if err := Decode(r, &in); err != nil {
		return err
	}
	if in.Name == "broken" {
		return errors.New("geheim")
	}
	return WriteJSON(w, http.StatusCreated, in.Name+" of "+r.PathValue("digest"))
}

var testRoutes = []Route{
	{"GET", "/healthz", Probe("ok", func() error { return nil })},
	{"GET", "/readyz", Probe("ready", func() error { return errors.New("starting") })},
	{"GET", "/v1/status", Show(status)},
	{"GET", "/metrics", Plain(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "meshd_test 7") }))},
	{"GET", "/v1/pins/{digest}", Show(status)},
	{"PUT", "/v1/pins/{digest}", put},
	{"DELETE", "/v1/pins/{digest}", func(w http.ResponseWriter, _ *http.Request) error { return Errorf(404, "not pinned") }},
	{"POST", "/v1/odd", func(w http.ResponseWriter, _ *http.Request) error { return WriteJSON(w, 200, make(chan int)) }},
}

// request is what tests vary.
type request struct {
	method, host, path, body string
	header                   []string // names and values in turn
}

func (q request) do(h http.Handler) *httptest.ResponseRecorder {
	r := httptest.NewRequest(q.method, q.path, strings.NewReader(q.body))
	r.Host = q.host
	for i := 0; i < len(q.header); i += 2 {
		r.Header.Set(q.header[i], q.header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const local = "127.0.0.1:65002"

func TestReading(t *testing.T) {
	h := New(onLoopback, testRoutes)
	for _, row := range []struct {
		name, method, host, path string
		status                   int
		body                     string
	}{
		{"alive", "GET", local, "/healthz", 200, "ok"},
		{"not ready", "GET", local, "/readyz", 503, `"starting"`},
		{"status", "GET", local, "/v1/status", 200, `"peers": 3`},
		{"head", "HEAD", local, "/v1/status", 200, ""},
		{"metrics", "GET", local, "/metrics", 200, "meshd_test 7"},
		{"with a part", "GET", local, "/v1/pins/sha256:ab", 200, "peers"},
		{"localhost", "GET", "localhost:65002", "/healthz", 200, "ok"},
		{"IPv6", "GET", "[::1]:65002", "/healthz", 200, "ok"},

		{"root", "GET", local, "/", 404, `"no such route"`},
		{"unlisted", "GET", local, "/v1/secrets", 404, ""},
		{"profiler", "GET", local, "/debug/pprof/", 404, ""},
		{"below a route", "GET", local, "/v1/status/x", 404, ""},
		{"slash after a route", "GET", local, "/v1/status/", 404, ""},
		{"two slashes", "GET", local, "/v1//status", 404, ""},
		{"dots", "GET", local, "/v1/../v1/status", 404, ""},
		{"dots in a part", "GET", local, "/v1/pins/..", 404, ""},
		{"hidden dots in a part", "GET", local, "/v1/pins/..%2f..%2fetc", 404, ""},
		{"no writing here", "GET", local, "/v1/odd", 405, "POST"},
		{"another name for the host", "GET", "evil.example:65002", "/v1/status", 403, ""},
		{"a name that begins alike", "GET", "localhost.evil.example", "/v1/status", 403, ""},
		{"no host", "GET", "", "/v1/status", 403, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := request{method: row.method, host: row.host, path: row.path}.do(h)
			if w.Code != row.status || !strings.Contains(w.Body.String(), row.body) {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, row.status, row.body)
			}
			var e ErrorBody
			if w.Code >= 400 && (json.Unmarshal(w.Body.Bytes(), &e) != nil || e.Error == "") {
				t.Errorf("error is %q", w.Body)
			}
		})
	}
}

func TestWriting(t *testing.T) {
	h := New(onLoopback, testRoutes)
	const pin = "/v1/pins/sha256:ab"
	bearer, kind := []string{"Authorization", "Bearer " + testToken}, []string{"Content-Type", "application/json"}
	both := append(bearer, kind...)
	for _, row := range []struct {
		name   string
		q      request
		status int
		body   string
	}{
		{"right", request{"PUT", local, pin, `{"name":"a"}`, both}, 201, "a of sha256:ab"},
		{"error with a status", request{"DELETE", local, pin, "", bearer}, 404, "not pinned"},
		{"a failure keeps its text", request{"PUT", local, pin, `{"name":"broken"}`, both}, 500, "internal error"},
		{"no JSON of that", request{"POST", local, "/v1/odd", "", bearer}, 500, "internal error"},
		{"method that is not there", request{"POST", local, pin, "", bearer}, 405, "DELETE, GET, HEAD, PUT"},
		{"unknown method", request{"FROB", local, "/v1/status", "", bearer}, 405, ""},

		{"no token", request{"PUT", local, pin, `{"name":"a"}`, kind}, 401, "admin token"},
		{"no token, unknown path", request{"PUT", local, "/x", "", nil}, 401, ""},
		{"no token, unknown method", request{"FROB", local, pin, "", nil}, 401, ""},
		{"wrong token", request{"PUT", local, pin, "", []string{"Authorization", "Bearer 0123456789abcdeF"}}, 401, ""},
		{"part of the token", request{"PUT", local, pin, "", []string{"Authorization", "Bearer 0123456789abcde"}}, 401, ""},
		{"empty token", request{"PUT", local, pin, "", []string{"Authorization", "Bearer "}}, 401, ""},
		{"token of another scheme", request{"PUT", local, pin, "", []string{"Authorization", "Basic " + testToken}}, 401, ""},
		{"from another site", request{"PUT", local, pin, `{"name":"a"}`, append([]string{"Sec-Fetch-Site", "cross-site"}, both...)}, 403, ""},
		{"from another origin", request{"PUT", local, pin, `{"name":"a"}`, append([]string{"Origin", "http://evil.example"}, both...)}, 403, ""},

		{"a form", request{"PUT", local, pin, `{"name":"a"}`, append([]string{"Content-Type", "text/plain"}, bearer...)}, 415, "application/json"},
		{"no body", request{"PUT", local, pin, "", both}, 400, "empty"},
		{"no JSON", request{"PUT", local, pin, "{", both}, 400, "body"},
		{"unknown field", request{"PUT", local, pin, `{"nom":"a"}`, both}, 400, "nom"},
		{"a number for a name", request{"PUT", local, pin, `{"name":3}`, both}, 400, "Name may not be a number"},
		{"two values", request{"PUT", local, pin, `{"name":"a"}{}`, both}, 400, "follows"},
		{"too large", request{"PUT", local, pin, `{"name":"` + strings.Repeat("a", MaxBody) + `"}`, both}, 413, "1048576"},
		{"too much behind it", request{"PUT", local, pin, `{"name":"a"}` + strings.Repeat(" ", MaxBody), both}, 413, "1048576"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := row.q.do(h)
			if w.Code != row.status || !strings.Contains(w.Body.String(), row.body) || strings.Contains(w.Body.String(), "geheim") {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, row.status, row.body)
			}
		})
	}
}

// Every route of a table is denied to who has no right to it, for each place to listen at.
func TestGuards(t *testing.T) {
	for _, place := range []struct {
		name                string
		guard               Guard
		readFree, writeFree bool
	}{
		{"nothing said", Guard{AnyHost: true}, false, false},
		{"loopback", onLoopback, true, false},
		{"socket", onSocket, true, true},
		{"elsewhere", elsewhere, false, false},
	} {
		h := New(place.guard, testRoutes)
		for _, route := range testRoutes {
			want := place.readFree
			if writes(route.Method) {
				want = place.writeFree
			}
			path := strings.ReplaceAll(route.Path, "{digest}", "sha256:ab")
			w := request{method: route.Method, host: local, path: path}.do(h)
			if denied := w.Code == 401; denied == want {
				t.Errorf("%s: %s %s without a token: %d", place.name, route.Method, path, w.Code)
			}
			w = request{method: route.Method, host: local, path: path, header: []string{"Authorization", "Bearer " + testToken}}.do(h)
			if denied := w.Code == 401; denied == (place.guard.Token != "") {
				t.Errorf("%s: %s %s with the token: %d", place.name, route.Method, path, w.Code)
			}
		}
	}
}

func TestOneAtATime(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	h := New(onLoopback, []Route{{"GET", "/v1/doctor", OneAtATime(0, func(w http.ResponseWriter, _ *http.Request) error {
		close(inside)
		<-leave
		return WriteJSON(w, 200, 1)
	})}})
	ask := request{method: "GET", host: local, path: "/v1/doctor"}
	first := make(chan int, 1)
	go func() { first <- ask.do(h).Code }()
	<-inside
	if w := ask.do(h); w.Code != 429 || w.Header().Get("Retry-After") != "5" {
		t.Errorf("the second: %d", w.Code)
	}
	close(leave)
	if code := <-first; code != 200 {
		t.Errorf("the first: %d", code)
	}
}

func TestAtOnce(t *testing.T) {
	inside, leave, done := make(chan struct{}), make(chan struct{}), make(chan int)
	h := New(onLoopback, []Route{{"GET", "/v1/wait", func(http.ResponseWriter, *http.Request) error {
		inside <- struct{}{}
		<-leave
		return nil
	}}})
	ask := request{method: "GET", host: local, path: "/v1/wait"}
	for range maxRequests {
		go func() { done <- ask.do(h).Code }()
	}
	for range maxRequests {
		<-inside
	}
	if w := ask.do(h); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("one too many: %d", w.Code)
	}
	close(leave)
	for range maxRequests {
		<-done
	}
}

func TestTableIsPartOfTheProgram(t *testing.T) {
	for name, routes := range map[string][]Route{
		"twice":         {testRoutes[0], testRoutes[0]},
		"no method":     {{"", "/x", Show(status)}},
		"method HEAD":   {{"HEAD", "/x", Show(status)}},
		"no path":       {{"GET", "", Show(status)}},
		"nothing to do": {{"GET", "/x", nil}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: taken", name)
				}
			}()
			New(onLoopback, routes)
		}()
	}
}

// Whatever comes, the API answers in one of its shapes, and nothing that changes something happens without the token.
func FuzzRequest(f *testing.F) {
	changed := false
	h := New(onLoopback, append([]Route{{"POST", "/v1/change", func(w http.ResponseWriter, r *http.Request) error {
		changed = true
		var v struct{ Name string }
		return Decode(r, &v)
	}}}, testRoutes...))
	f.Add("GET", "/v1/status", local, "", "", "")
	f.Add("POST", "/v1/change", local, `{"name":"a"}`, "Bearer "+testToken, "application/json")
	f.Add("POST", "/v1/change", local, `{"name":"a"}`, "", "application/json; charset=utf-8")
	f.Add("PUT", "/v1/pins/%2e%2e", "[::1]", `[{}]`, "Bearer "+testToken, "application/json")
	f.Add("DELETE", "//v1/./pins/a", "localhost", ``, "bearer 1", "")
	f.Fuzz(func(t *testing.T, method, target, host, body, auth, kind string) {
		r, err := http.NewRequest(method, "http://h"+target, strings.NewReader(body))
		if err != nil {
			t.Skip()
		}
		r.Host = host
		r.Header.Set("Authorization", auth)
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		changed = false
		h.ServeHTTP(w, r)
		if changed && (auth != "Bearer "+testToken && !strings.EqualFold(auth, "Bearer "+testToken) || !localHost(host)) {
			t.Errorf("changed something with Authorization %q, Host %q", auth, host)
		}
		var e ErrorBody
		if w.Code >= 400 && (json.Unmarshal(w.Body.Bytes(), &e) != nil || e.Error == "") {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
}

func TestServer(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewServer(New(onLoopback, testRoutes))
	s.Start()
	defer s.Close()
	resp, err := http.Get(s.URL + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
		t.Errorf("%d %q %v", resp.StatusCode, body, err)
	}
}

// Who may write is trusted when reading too; who may just read is not.
func TestTrusted(t *testing.T) {
	for _, row := range []struct {
		name   string
		guard  Guard
		header string
		want   string
	}{
		{"loopback", onLoopback, "", "false"},
		{"loopback, wrong token", onLoopback, "Bearer x", "false"},
		{"loopback, token", onLoopback, "Bearer " + testToken, "true"},
		{"socket", onSocket, "", "true"},
	} {
		h := New(row.guard, []Route{{Method: http.MethodGet, Path: "/v1/x", Handle: func(w http.ResponseWriter, r *http.Request) error {
			return WriteJSON(w, http.StatusOK, Trusted(r))
		}}})
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/v1/x", nil)
		r.Header.Set("Authorization", row.header)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := strings.TrimSpace(w.Body.String()); got != row.want {
			t.Errorf("%s: %d %s", row.name, w.Code, got)
		}
	}
}

// Those who come while one is being answered wait for their turn, unless it does not come in time, or they leave.
func TestInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running := 0
		h := OneAtATime(2500*time.Millisecond, func(http.ResponseWriter, *http.Request) error {
			if running++; running > 1 {
				t.Error("two at once")
			}
			time.Sleep(time.Second)
			running--
			return nil
		})
		began := time.Now()
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if err := h(nil, httptest.NewRequest(http.MethodGet, "/", nil)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := h(nil, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)); !busyWith(err) {
			t.Errorf("who has left: %v", err)
		}
		all.Go(func() {
			if err := h(nil, httptest.NewRequest(http.MethodGet, "/", nil)); !busyWith(err) {
				t.Errorf("the fourth: %v", err)
			}
		})
		all.Wait()
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("%v", d)
		}
	})
}

func busyWith(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusTooManyRequests
}
