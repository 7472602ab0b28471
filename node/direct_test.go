package node

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
)

// guardedRegistry serves one blob in every repository; team/ repositories need credentials.
type guardedRegistry struct {
	*httptest.Server
	data    []byte
	corrupt atomic.Bool
	noRange atomic.Bool
	gets    atomic.Int64 // GETs of the blob
}

const secret = "Basic bWU6c2VjcmV0"

func newGuardedRegistry(t *testing.T, data []byte) *guardedRegistry {
	r := &guardedRegistry{data: data}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasPrefix(q.URL.Path, "/v2/team/") && q.Header.Get("Authorization") != secret {
			w.Header().Set("WWW-Authenticate", `Basic realm="team"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if !strings.HasSuffix(q.URL.Path, digest.FromBytes(data).String()) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if q.Method == http.MethodGet {
			r.gets.Add(1)
		}
		body := data
		if r.corrupt.Load() {
			body = bytes.Clone(data)
			body[len(body)/2] ^= 1
		}
		if r.noRange.Load() {
			q.Header.Del("Range")
		}
		http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(body))
	}))
	t.Cleanup(r.Close)
	return r
}

// fetch asks a mirror for a blob and returns the status, and the body if it ended cleanly.
func fetch(t *testing.T, url string, header ...string) (status int, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, body
}

// TestPrivateBlobs: a private blob is kept and shared, apart from what anybody may read and from other registries.
func TestPrivateBlobs(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 100_000) // 1.6 MB: several chunks, several pieces
	d := digest.FromBytes(data)
	guarded := newGuardedRegistry(t, data)
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasPrefix(q.URL.Path, "/v2/team/") && q.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="evil"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if q.Method == http.MethodHead { // says yes to anything and has nothing
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(evil.Close)
	c := testConfig(t, "")
	c.Origin.Registries = []Registry{{Host: "good.test", URL: guarded.URL}, {Host: "evil.test", URL: evil.URL}}
	n := launch(t, c, nil)
	url := func(host, repo string) string {
		return n.mirrorURL("/v2/" + repo + "/blobs/" + d.String() + "?ns=" + host)
	}
	whole := func(t *testing.T, status int, body []byte) {
		t.Helper()
		if status != 200 || !bytes.Equal(body, data) {
			t.Fatalf("%d, %d bytes", status, len(body))
		}
	}

	t.Run("wrong bytes never end well", func(t *testing.T) {
		guarded.corrupt.Store(true)
		defer guarded.corrupt.Store(false)
		if status, body := fetch(t, url("good.test", "team/app"), "Authorization", secret); status == 200 && body != nil {
			t.Fatalf("a clean end after %d bytes", len(body))
		}
	})
	id, err := store.Scoped("good.test", d)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("kept under a name of its registry", func(t *testing.T) {
		before := guarded.gets.Load()
		for range 2 {
			status, body := fetch(t, url("good.test", "team/app"), "Authorization", secret)
			whole(t, status, body)
		}
		if n := guarded.gets.Load() - before; n != 1 {
			t.Errorf("%d GETs of the registry for two pulls", n)
		}
		eventually(t, "the blob to be kept", func() bool {
			i, err := n.store.Stat(id)
			return err == nil && i.Complete
		})
		if _, err := n.store.Stat(d); err == nil {
			t.Fatal("the store has a private blob under its digest")
		}
	})
	t.Run("not by its name in the store", func(t *testing.T) {
		for _, host := range []string{"evil.test", "good.test"} {
			for _, repo := range []string{"team/app", "open/app"} {
				for _, what := range []string{"/blobs/", "/manifests/"} {
					target := n.mirrorURL("/v2/" + repo + what + id.String() + "?ns=" + host)
					if status, body := fetch(t, target, "Authorization", secret); status != 404 || bytes.Contains(body, data[:100]) {
						t.Errorf("%s %s%s: %d, %d bytes", host, repo, what, status, len(body))
					}
				}
			}
		}
	})
	t.Run("ranges", func(t *testing.T) {
		for _, noRange := range []bool{false, true} {
			guarded.noRange.Store(noRange)
			status, body := fetch(t, url("good.test", "team/app"), "Authorization", secret, "Range", "bytes=700000-700009")
			if status != 206 || !bytes.Equal(body, data[700_000:700_010]) {
				t.Fatalf("no range %v: %d %q", noRange, status, body)
			}
		}
		guarded.noRange.Store(false)
	})
	t.Run("not without credentials", func(t *testing.T) {
		for _, auth := range []string{"", "Basic d3Jvbmc6d3Jvbmc="} {
			if status, body := fetch(t, url("good.test", "team/app"), "Authorization", auth); status != 401 || len(body) > 1000 {
				t.Fatalf("%q: %d, %d bytes", auth, status, len(body))
			}
		}
	})
	t.Run("not on another registry's word", func(t *testing.T) {
		for _, repo := range []string{"team/app", "open/app"} {
			for _, auth := range []string{"", secret} {
				if status, body := fetch(t, url("evil.test", repo), "Authorization", auth); status == 200 || bytes.Contains(body, data[:100]) {
					t.Errorf("%s, %q: %d, %d bytes", repo, auth, status, len(body))
				}
			}
		}
	})
	t.Run("what anybody may read goes through the mesh, whoever asks", func(t *testing.T) {
		before := guarded.gets.Load()
		for range 2 {
			status, body := fetch(t, url("good.test", "open/app"), "Authorization", secret)
			whole(t, status, body)
		}
		if n := guarded.gets.Load() - before; n != 1 {
			t.Fatalf("%d GETs of the registry for two pulls", n)
		}
		eventually(t, "the blob to be kept", func() bool {
			i, err := n.store.Stat(d)
			return err == nil && i.Complete && i != (store.Info{})
		})
	})
}

// A blob that does not fit is passed on whole, and nothing of it is kept.
func TestBlobWithoutRoomIsPassedOn(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	d := digest.FromBytes(data)
	c := testConfig(t, "")
	c.Store.CacheSize = 1 << 20
	c.Origin.Registries = []Registry{{Host: "good.test", URL: newGuardedRegistry(t, data).URL}}
	n := launch(t, c, nil)
	status, body := fetch(t, n.mirrorURL("/v2/open/app/blobs/"+d.String()+"?ns=good.test"))
	if status != 200 || !bytes.Equal(body, data) {
		t.Fatalf("%d, %d bytes", status, len(body))
	}
	if u := n.store.Usage(); u.Bytes != 0 {
		t.Fatalf("%d bytes kept", u.Bytes)
	}
}
