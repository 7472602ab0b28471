package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pushed sends one request of a push to reg.test.
func pushed(c *Client, method, path, body string) (*http.Response, error) {
	r := Request{Ref: testRef, Method: method, Path: path, Authorization: "Basic dTpw"}
	if body != "" {
		r.Body = sized{strings.NewReader(body), int64(len(body))}
	}
	return c.Push(context.Background(), r)
}

// A push learns what token it needs from its first request; those with a body bring it from then on, and reading and
// deleting have tokens of their own.
func TestPushTokens(t *testing.T) {
	f := newFabric(t)
	var lengths []int64
	f.serve("http://auth.test", "10.0.0.2", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"token":%q}`, strings.ReplaceAll(r.URL.Query().Get("scope"), ":", "."))
	})
	f.serve("http://reg.test:5000", "10.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		rights := map[string]string{"GET": "pull", "DELETE": "delete"}[r.Method]
		if rights == "" {
			rights = "pull,push"
		}
		if r.Header.Get("Authorization") != "Bearer repository.team/app."+rights {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://auth.test/token",service="s",scope="repository:team/app:`+rights+`"`)
			ociError(w, http.StatusUnauthorized, "UNAUTHORIZED")
			return
		}
		lengths = append(lengths, r.ContentLength)
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Location", r.URL.Path+"?got="+string(body))
		w.WriteHeader(http.StatusAccepted)
	})
	registries := map[string]Registry{"reg.test": {URL: "http://reg.test:5000/cache"}}
	resp, err := f.client(Config{Registries: registries}).Push(context.Background(), Request{
		Ref: testRef, Method: "PUT", Path: "manifests/latest", Authorization: "Basic dTpw", Body: strings.NewReader("{}"),
	})
	if err != nil || !strings.HasSuffix(resp.Header.Get("Location"), "?got={}") {
		t.Fatalf("a body in memory, before anything is known: %v", err)
	}
	resp.Body.Close()
	c := f.client(Config{Registries: registries})
	for range 2 {
		for _, step := range []struct{ method, path, body, at string }{
			{"POST", "blobs/uploads/", "", "/cache/v2/team/app/blobs/uploads/"},
			{"PATCH", "blobs/uploads/u", "data", "/cache/v2/team/app/blobs/uploads/u"},
			{"PATCH", "/uploads/else/where", "data", "/cache/uploads/else/where"},
			{"DELETE", "blobs/uploads/u", "", "/cache/v2/team/app/blobs/uploads/u"},
			{"PUT", "manifests/latest", "{}", "/cache/v2/team/app/manifests/latest"},
		} {
			resp, err := pushed(c, step.method, step.path, step.body)
			if err != nil {
				t.Fatalf("%s %s: %v", step.method, step.path, err)
			}
			resp.Body.Close()
			if want := step.at + "?got=" + step.body; resp.Header.Get("Location") != want || lengths[len(lengths)-1] != int64(len(step.body)) {
				t.Errorf("%s: Location %s, want %s; length %d", step.method, resp.Header.Get("Location"), want, lengths[len(lengths)-1])
			}
		}
	}
}

// A body is sent once: a refusal is the answer, a redirect is not followed, and credentials go nowhere else.
func TestPushOnce(t *testing.T) {
	f := newFabric(t)
	f.serve("http://else.test", "10.0.0.2", func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
	asked := 0
	f.serve("http://reg.test", "10.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		asked++
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Query().Get("_state") + r.Header.Get("Content-Type") {
		case "away":
			http.Redirect(w, r, "http://else.test/x", http.StatusTemporaryRedirect)
		case "busy":
			w.Header().Set("Retry-After", "1")
			ociError(w, http.StatusTooManyRequests, "TOOMANYREQUESTS")
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://reg.test/token",service="s"`)
			ociError(w, http.StatusUnauthorized, "UNAUTHORIZED")
		}
	})
	c := f.client(plain())
	for state, want := range map[string]error{"away": nil, "busy": ErrThrottled, "": ErrUnauthorized} {
		asked = 0
		resp, err := c.Push(context.Background(), Request{
			Ref: testRef, Method: "PATCH", Path: "blobs/uploads/u", RawQuery: "_state=" + state, Authorization: "Basic dTpw", Body: io.LimitReader(strings.NewReader("x"), 1),
		})
		if !errors.Is(err, want) || asked != 1 {
			t.Errorf("%q: %v, asked %d times", state, err, asked)
		}
		if err == nil {
			if resp.StatusCode != http.StatusTemporaryRedirect || resp.Header.Get("Location") != "http://else.test/x" {
				t.Errorf("%q: %d %v", state, resp.StatusCode, resp.Header)
			}
			resp.Body.Close()
		}
	}
}

func TestPushRefusesPaths(t *testing.T) {
	f := newFabric(t)
	f.serve("http://reg.test", "10.0.0.1", func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked for %s", r.URL) })
	c := f.client(plain())
	for _, path := range []string{"/", "/a/../b", "/a//b", "/a b", "/a?b", "/a%2fb", "../x", "/" + strings.Repeat("a", maxPath)} {
		if _, err := pushed(c, "PATCH", path, "x"); !errors.Is(err, ErrReference) {
			t.Errorf("%.20q: %v", path, err)
		}
	}
}

// A registry that takes nothing, or does not answer, is given up in time; a slow client is not its fault.
func TestPushPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		over := make(chan bool)
		f.serve("http://reg.test", "10.0.0.1", func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/v2/team/app/blobs/uploads/deaf":
				<-over
			case "/v2/team/app/blobs/uploads/mute":
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			default:
				_, _ = io.Copy(io.Discard, r.Body)
			}
		})
		c := f.client(plain())
		long := strings.NewReader(strings.Repeat("x", 8<<20))
		for _, row := range []struct {
			upload string
			body   io.Reader
			took   time.Duration
			fails  bool
		}{
			{"deaf", long, pushStall, true},
			{"mute", strings.NewReader("x"), pushAnswer, true},
			{"good", slowReader{3 * pushStall}, 3 * pushStall, false},
		} {
			start := time.Now()
			resp, err := c.Push(context.Background(), Request{Ref: testRef, Method: "PATCH", Path: "blobs/uploads/" + row.upload, Body: row.body})
			if (err != nil) != row.fails || row.fails && !errors.Is(err, ErrTimeout) {
				t.Errorf("%s: %v", row.upload, err)
			}
			if took := time.Since(start); took != row.took {
				t.Errorf("%s: took %v, want %v", row.upload, took, row.took)
			}
			if err == nil {
				resp.Body.Close()
			}
		}
		close(over)
		time.Sleep(time.Second) // the server waits before it closes a connection that it gives up
		c.Close()
	})
}

// slowReader ends after a time.
type slowReader struct{ time.Duration }

func (r slowReader) Read([]byte) (int, error) {
	time.Sleep(r.Duration)
	return 0, io.EOF
}
