package mirror

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// send serves one request with a body.
func (w *world) send(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return rec
}

func answerWith(status int, headers ...string) func(OriginRequest, []byte) (*http.Response, error) {
	return func(OriginRequest, []byte) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		resp := response(h, nil)
		resp.StatusCode = status
		return resp, nil
	}
}

// TestPushPassesOn: each request of a push reaches the registry with the client's
// own credentials, and its answer comes back; nothing else does.
func TestPushPassesOn(t *testing.T) {
	d := someSHA256
	for _, c := range []struct{ method, target, wantPath, wantQuery string }{
		{"POST", path + "blobs/uploads/", "blobs/uploads/", ""},
		{"POST", path + "blobs/uploads", "blobs/uploads/", ""},
		{"POST", "/v2/team/app/blobs/uploads/?ns=h.example&digest=" + d, "blobs/uploads/", "digest=sha256%3A" + d[7:]},
		{"POST", path + "blobs/uploads/?mount=" + d + "&from=h.example/team/base", "blobs/uploads/", "from=team%2Fbase&mount=sha256%3A" + d[7:]},
		{"POST", path + "blobs/uploads/?mount=" + d + "&from=other.example/team/base", "blobs/uploads/", ""},
		{"PATCH", path + "blobs/uploads/6c3c-1?_state=a%2Bb", "blobs/uploads/6c3c-1", "_state=a%2Bb"},
		{"PUT", path + "blobs/uploads/6c3c-1?_state=x&digest=" + d, "blobs/uploads/6c3c-1", "_state=x&digest=sha256%3A" + d[7:]},
		{"GET", path + "blobs/uploads/6c3c-1", "blobs/uploads/6c3c-1", ""},
		{"DELETE", path + "blobs/uploads/6c3c-1", "blobs/uploads/6c3c-1", ""},
		{"PUT", path + "manifests/latest", "manifests/latest", ""},
		{"PUT", path + "manifests/" + d, "manifests/" + d, ""},
		{"DELETE", path + "manifests/" + d, "manifests/" + d, ""},
		{"DELETE", path + "blobs/" + d, "blobs/" + d, ""},
	} {
		t.Run(c.method+" "+c.wantPath, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.origin.pushHook = answerWith(202, "Range", "0-4", "Docker-Content-Digest", d, "Set-Cookie", "secret")
			rec := w.send(c.method, c.target, "bytes", "Authorization", "Bearer theirs", "Content-Type", "a/b", "Content-Range", "0-4", "Cookie", "secret")
			wantStatus(t, rec, 202)
			if h := rec.Header(); h.Get("Range") != "0-4" || h.Get("Docker-Content-Digest") != d || h.Get("Set-Cookie") != "" {
				t.Errorf("answer %v", h)
			}
			got := w.origin.pushes[0]
			if got.Ref != (Ref{"h.example", "team/app"}) || got.Method != c.method || got.Path != c.wantPath || got.RawQuery != c.wantQuery ||
				got.body != "bytes" || got.Authorization != "Bearer theirs" || got.Header.Get("Content-Type") != "a/b" ||
				got.Header.Get("Content-Range") != "0-4" || got.Header.Get("Cookie") != "" {
				t.Errorf("asked %+v", got)
			}
			if got.length != 5 {
				t.Error("the length is lost")
			}
			if len(w.docs.docs)+w.gate.grants.len()+w.manifests.tags.len() != 0 {
				t.Error("something was kept")
			}
		})
	}
}

// TestPushLocation: a Location at the registry leads back through the mirror, one
// elsewhere stays.
func TestPushLocation(t *testing.T) {
	for name, c := range map[string]struct{ target, location, want string }{
		"absolute":       {path + "blobs/uploads/", "https://h.example/api/v2/team/app/blobs/uploads/u-1?_state=a%2Bb", "http://example.com/v2/h.example/team/app/blobs/uploads/u-1?_state=a%2Bb"},
		"of the host":    {path + "blobs/uploads/", "/api/v2/team/app/blobs/uploads/u-1", "http://example.com/v2/h.example/team/app/blobs/uploads/u-1"},
		"by ns":          {"/v2/team/app/blobs/uploads/?ns=h.example", "/api/v2/team/app/blobs/uploads/u-1?x=y", "http://example.com/v2/team/app/blobs/uploads/u-1?ns=h.example&x=y"},
		"of a blob":      {path + "blobs/uploads/u-1", "/api/v2/team/app/blobs/" + someSHA256, "http://example.com/v2/h.example/team/app/blobs/" + someSHA256},
		"of a manifest":  {path + "manifests/latest", "/api/v2/team/app/manifests/" + someSHA256, "http://example.com/v2/h.example/team/app/manifests/" + someSHA256},
		"another host":   {path + "blobs/uploads/", "https://storage.example/x?sig=1", "https://storage.example/x?sig=1"},
		"another scheme": {path + "blobs/uploads/", "http://h.example/api/v2/team/app/blobs/uploads/u-1", "http://h.example/api/v2/team/app/blobs/uploads/u-1"},
		"not below":      {path + "blobs/uploads/", "https://h.example/v2/team/app/blobs/uploads/u-1", "https://h.example/v2/team/app/blobs/uploads/u-1"},
		"no URL":         {path + "blobs/uploads/", "https://[", "https://["},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.origin.pushHook = answerWith(202, "Location", c.location)
			method := "POST"
			if !strings.HasSuffix(c.target, "uploads/") && !strings.Contains(c.target, "?") {
				method = "PUT"
			}
			if got := w.send(method, c.target, "").Header().Get("Location"); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestPushLocationElsewhere: a registry may keep uploads where it likes; the
// client's next request finds them, and only this repository's do.
func TestPushLocationElsewhere(t *testing.T) {
	for _, at := range []string{"/v2/team/app/blobs/upload/u-1", "/artifacts-uploads/namespaces/team/x"} {
		w := newWorld(t, Config{})
		w.origin.pushHook = answerWith(202, "Location", "/api"+at+"?x=y")
		next := w.send("POST", path+"blobs/uploads/", "").Header().Get("Location")
		mine, ok := strings.CutPrefix(next, "http://example.com/v2/h.example/team/app/blobs/uploads/"+uploadMark)
		if !ok {
			t.Fatalf("Location %s", next)
		}
		wantStatus(t, w.send("PATCH", strings.TrimPrefix(next, "http://example.com"), "data"), 202)
		if got := w.origin.pushes[1]; got.Path != at || got.RawQuery != "x=y" || got.body != "data" {
			t.Errorf("asked %+v", got)
		}
		wantStatus(t, w.send("PATCH", "/v2/h.example/other/app/blobs/uploads/"+uploadMark+mine, "data"), 404)
		mine, _, _ = strings.Cut(mine, "?")
		if _, err := w.sealer.open(tokenMark+mine, time.Now()); err == nil {
			t.Error("the name of an upload opens as a token")
		}
	}
}

// TestPushRefused: the registry's refusal is the client's, and a challenge of the
// mirror asks for the right to push.
func TestPushRefused(t *testing.T) {
	w := newWorld(t, Config{ManifestMax: 10})
	w.origin.pushHook = func(req OriginRequest, _ []byte) (*http.Response, error) {
		if req.Authorization == "" {
			return nil, &fakeError{status: 401, header: http.Header{"Www-Authenticate": {`Basic realm="x"`}}}
		}
		return nil, &fakeError{status: 403, body: string(errorBody(codeDenied, "not yours"))}
	}
	rec := w.send("POST", path+"blobs/uploads/", "")
	if c := rec.Header().Get("Www-Authenticate"); rec.Code != 401 || !strings.HasSuffix(c, `scope="repository:h.example/team/app:pull,push"`) {
		t.Errorf("%d %s", rec.Code, c)
	}
	rec = w.send("POST", path+"blobs/uploads/", "", "Authorization", good)
	if rec.Code != 403 || !strings.Contains(rec.Body.String(), "not yours") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	wantStatus(t, w.send("PUT", path+"manifests/latest", strings.Repeat("x", 11)), 413)
	r := httptest.NewRequest("PUT", path+"manifests/latest", io.MultiReader(strings.NewReader(strings.Repeat("x", 11)))) // of unknown length
	answer := httptest.NewRecorder()
	w.ServeHTTP(answer, r)
	wantStatus(t, answer, 413)
}

// TestPushedTagIsSeen: the pull after a push gets what was pushed, whatever is
// remembered and whatever question was under way.
func TestPushedTagIsSeen(t *testing.T) {
	w := newWorld(t, Config{TagTTL: time.Hour})
	repo := w.origin.repo("h.example", "team/app")
	w.push(repo, "latest", 100)
	wantStatus(t, w.do("GET", path+"manifests/latest"), 200)
	wantStatus(t, w.do("GET", path+"manifests/latest"), 200)
	if w.Stats().TagHits != 1 {
		t.Fatal("the tag is not remembered: the test shows nothing")
	}
	var moved image
	w.origin.pushHook = func(OriginRequest, []byte) (*http.Response, error) {
		moved = w.push(repo, "latest", 200)
		return answerWith(201)(OriginRequest{}, nil)
	}
	// A question that was put before the push is answered after it.
	asked, answer, done := make(chan bool), make(chan bool), make(chan bool)
	old := repo.manifests["latest"]
	w.origin.hook = func(_ context.Context, req OriginRequest) (*http.Response, error) {
		close(asked)
		<-answer
		return response(http.Header{"Content-Type": {old.mediaType}, "Docker-Content-Digest": {old.digest.String()}}, old.data), nil
	}
	go func() {
		defer close(done)
		w.do("GET", path+"manifests/latest", "Accept", v1.MediaTypeImageManifest+", x/y")
	}()
	<-asked
	w.origin.mu.Lock()
	w.origin.hook = nil
	w.origin.mu.Unlock()
	wantStatus(t, w.send("PUT", path+"manifests/latest", "{}"), 201)
	see := func() {
		t.Helper()
		if rec := w.do("GET", path+"manifests/latest", "Accept", v1.MediaTypeImageManifest+", x/y"); rec.Body.String() != string(moved.data) {
			t.Fatalf("%d: the old image", rec.Code)
		}
	}
	see()
	close(answer)
	<-done
	see()
}

// TestPushStopsMidway: a client that stops sending is answered and let go, and the
// registry does not get a whole body.
func TestPushStopsMidway(t *testing.T) {
	w := newWorld(t, Config{BodyTimeout: 50 * time.Millisecond})
	w.origin.pushHook = answerWith(202)
	srv := w.serve(t, nil)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "PATCH %sblobs/uploads/u HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf", path)
	answer, err := io.ReadAll(conn)
	if errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(string(answer), "HTTP/1.1 400") {
		t.Fatalf("%v: %.200s", err, answer)
	}
	if len(w.origin.pushes) != 0 {
		t.Error("the registry got it")
	}
}

// TestPushSlowAnswer: a registry may take its time after the last byte; the read
// deadline of the body does not end the request.
func TestPushSlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{BodyTimeout: time.Second})
		w.origin.pushHook = func(OriginRequest, []byte) (*http.Response, error) {
			time.Sleep(10 * time.Second)
			return answerWith(201)(OriginRequest{}, nil)
		}
		conn := dial(t, NewServer(w))
		r := bufio.NewReader(conn)
		for range 2 { // the connection stays
			fmt.Fprintf(conn, "PUT %sblobs/uploads/u HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ndata", path)
			resp, err := http.ReadResponse(r, nil)
			if err != nil || resp.StatusCode != 201 || resp.Close {
				t.Fatalf("%+v, %v", resp, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
		}
	})
}
