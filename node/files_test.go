package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshd-project/meshd/mirror/gateway"
	"github.com/meshd-project/meshd/seed/file"
)

// fileSite serves one file under every path, with the ETag "v1", and counts the bytes that it sends.
type fileSite struct {
	*httptest.Server
	data []byte
	sent atomic.Int64
	etag atomic.Pointer[string]
	hold atomic.Pointer[chan struct{}] // bodies wait for it
	held atomic.Int64                  // that do
}

func newFileSite(t *testing.T, size int) *fileSite {
	s := &fileSite{data: make([]byte, size)}
	_, _ = rand.NewChaCha8([32]byte{7}).Read(s.data)
	s.setTag(`"v1"`)
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *fileSite) setTag(tag string) { s.etag.Store(&tag) }

func (s *fileSite) host(t *testing.T) FileHost {
	t.Helper()
	h, err := file.ParseHost(strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (s *fileSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/missing"):
		http.NotFound(w, r)
		return
	case strings.HasPrefix(r.URL.Path, "/private") && r.Header.Get("Authorization") != "Bearer secret":
		w.WriteHeader(http.StatusUnauthorized)
		return
	case strings.HasPrefix(r.URL.Path, "/away"):
		http.Redirect(w, r, "http://127.0.0.1:1/latest/meta-data/", http.StatusFound)
		return
	case strings.HasPrefix(r.URL.Path, "/plain"):
		w.Header().Set("Content-Length", fmt.Sprint(len(s.data)))
	default:
		w.Header().Set("ETag", *s.etag.Load())
	}
	cw := &sentWriter{w, s}
	if strings.HasPrefix(r.URL.Path, "/plain") {
		if r.Method == http.MethodGet {
			cw.Write(s.data) //nolint:errcheck // the client has gone
		}
		return
	}
	http.ServeContent(cw, r, "", time.Time{}, bytes.NewReader(s.data))
}

type sentWriter struct {
	http.ResponseWriter
	s *fileSite
}

func (w *sentWriter) Write(p []byte) (int, error) {
	if hold := w.s.hold.Load(); hold != nil {
		w.s.held.Add(1)
		<-*hold
	}
	w.s.sent.Add(int64(len(p))) // before it can be read
	n, err := w.ResponseWriter.Write(p)
	w.s.sent.Add(int64(n - len(p)))
	return n, err
}

// getFile asks the gateway of a node. headers are names and values in turn.
func (n *testNode) getFile(t testing.TB, method, url string, headers ...string) (*http.Response, []byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.mirrorURL("/mesh/"+url), nil)
	if err != nil {
		return nil, nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// fileMesh is a seed that lists the site and two nodes, which list it too if they are to tell the seed of it.
func fileMesh(t *testing.T, s *fileSite, tell bool) (seed, a, b *testNode) {
	t.Helper()
	key := newKey(t)
	conf := func(seed bool) Config {
		c := testConfig(t, key)
		c.Zone, c.Seed = "east", seed
		c.Files.Gateway = []FileHost{s.host(t)}
		if seed || tell {
			c.Files.Allow = c.Files.Gateway
		}
		return c
	}
	seed = launch(t, conf(true), nil)
	join := func() *testNode {
		c := conf(false)
		c.P2P.Bootstrap = []string{seed.peerAddr(t)}
		return launch(t, c, nil)
	}
	a, b = join(), join()
	for _, n := range []*testNode{seed, a, b} {
		eventually(t, "a mesh of three", func() bool { return n.zones() == "map[east:2]" })
	}
	return seed, a, b
}

func TestFilesThroughMesh(t *testing.T) {
	if testing.Short() {
		t.Skip("three nodes")
	}
	const size = 40 << 20
	s := newFileSite(t, size)
	seed, a, b := fileMesh(t, s, true)
	copies := func(t *testing.T, f func()) float64 {
		t.Helper()
		before := s.sent.Load()
		f()
		return float64(s.sent.Load()-before) / size
	}
	must := func(t *testing.T, n *testNode, url string, headers ...string) *http.Response {
		t.Helper()
		resp, body, err := n.getFile(t, http.MethodGet, url, headers...)
		if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(body, s.data) {
			t.Errorf("%v, %d bytes, %v", resp, len(body), err)
		}
		return resp
	}

	t.Run("once from the origin, read by the seed", func(t *testing.T) {
		var tags [2]string
		n := copies(t, func() {
			var both sync.WaitGroup
			for i, n := range []*testNode{a, b} {
				both.Go(func() {
					if resp := must(t, n, s.URL+"/a.tar?token="+fmt.Sprint(i), gateway.FilterHeader, "token"); resp != nil {
						tags[i] = resp.Header.Get("ETag")
					}
				})
			}
			both.Wait()
		})
		if n != 1 || tags[0] == "" || tags[0] != tags[1] {
			t.Errorf("%.4f copies, ETags %q", n, tags)
		}
		if got := seed.exchange.Status().BytesIn.Origin; got != size {
			t.Errorf("the seed read %d bytes", got)
		}
		again := copies(t, func() { must(t, a, s.URL+"/a.tar", gateway.FilterHeader, "token") })
		if again != 0 {
			t.Errorf("the second time took %.4f copies", again)
		}
	})

	t.Run("conditions and ranges", func(t *testing.T) {
		resp, _, err := a.getFile(t, http.MethodHead, s.URL+"/a.tar")
		if err != nil || resp.StatusCode != 200 || resp.ContentLength != size {
			t.Fatalf("HEAD: %v, %v", resp, err)
		}
		tag := resp.Header.Get("ETag")
		for _, row := range []struct {
			name    string
			headers []string
			status  int
			off, n  int
		}{
			{"not modified", []string{"If-None-Match", tag}, 304, 0, 0},
			{"another version", []string{"If-Match", `"x"`}, 412, 0, -1},
			{"a range", []string{"Range", "bytes=5000000-5000999"}, 206, 5000000, 1000},
			{"the rest", []string{"Range", "bytes=39000000-", "If-Range", tag}, 206, 39000000, size - 39000000},
			{"the rest of another version", []string{"Range", "bytes=39000000-", "If-Range", `"x"`}, 200, 0, size},
			{"past the end", []string{"Range", "bytes=99999999-"}, 416, 0, -1},
		} {
			resp, body, err := a.getFile(t, http.MethodGet, s.URL+"/a.tar", row.headers...)
			if err != nil || resp.StatusCode != row.status || row.n >= 0 && !bytes.Equal(body, s.data[row.off:row.off+row.n]) {
				t.Errorf("%s: %v, %d bytes, %v", row.name, resp, len(body), err)
			}
		}
	})

	t.Run("a private file is for who can get it", func(t *testing.T) {
		n := copies(t, func() {
			must(t, a, s.URL+"/private", "Authorization", "Bearer secret")
			must(t, b, s.URL+"/private", "Authorization", "Bearer secret")
		})
		if n != 1 {
			t.Errorf("%.4f copies", n)
		}
		for _, headers := range [][]string{nil, {"Authorization", "Bearer wrong"}} {
			resp, body, err := b.getFile(t, http.MethodGet, s.URL+"/private", headers...)
			if err != nil || resp.StatusCode != 401 || resp.Header.Get(gateway.ErrorHeader) != string(gateway.Unauthorized) {
				t.Errorf("%v, %q, %v", resp, body, err)
			}
		}
		if got := seed.exchange.Status().BytesIn.Origin; got != size {
			t.Errorf("the seed has read %d bytes, private ones among them", got)
		}
	})

	t.Run("what cannot be told apart is passed on", func(t *testing.T) {
		n := copies(t, func() {
			if resp := must(t, a, s.URL+"/plain"); resp.Header.Get("ETag") != "" {
				t.Error("it has an ETag")
			}
			must(t, b, s.URL+"/plain")
		})
		if n != 2 {
			t.Errorf("%.4f copies", n)
		}
	})

	t.Run("refused", func(t *testing.T) {
		for _, row := range []struct {
			name, url string
			status    int
			code      gateway.Code
		}{
			{"another host", "http://files.example/a", 403, gateway.Refused},
			{"this node", seed.adminURL("/v1/status"), 403, gateway.Refused},
			{"metadata", "http://169.254.169.254/latest/", 403, gateway.Refused},
			{"by redirect", s.URL + "/away", 403, gateway.Refused},
			{"missing", s.URL + "/missing", 404, gateway.NotFound},
			{"another scheme", "file:///etc/passwd", 400, gateway.BadRequest},
		} {
			resp, body, err := a.getFile(t, http.MethodGet, row.url)
			if err != nil || resp.StatusCode != row.status || resp.Header.Get(gateway.ErrorHeader) != string(row.code) {
				t.Errorf("%s: %v, %q, %v", row.name, resp, body, err)
			}
		}
	})

	t.Run("admin", func(t *testing.T) {
		token, err := os.ReadFile(a.path(AdminTokenFile))
		if err != nil {
			t.Fatal(err)
		}
		q, _ := json.Marshal(FileRequest{URL: s.URL + "/a.tar"})
		req, _ := http.NewRequest(http.MethodPost, a.adminURL("/v1/files"), bytes.NewReader(q))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(body, s.data) {
			t.Errorf("%s, %d bytes, %v", resp.Status, len(body), err)
		}
	})

	t.Run("changed midway", func(t *testing.T) {
		hold := make(chan struct{})
		s.hold.Store(&hold)
		got := make(chan error, 1)
		go func() {
			resp, body, err := a.getFile(t, http.MethodGet, s.URL+"/changing")
			switch whole := bytes.Equal(body, s.data); {
			case err != nil: // cut
				got <- nil
			case resp.StatusCode == http.StatusOK && !whole, resp.StatusCode != http.StatusOK && resp.Header.Get(gateway.ErrorHeader) != string(gateway.Changed):
				got <- fmt.Errorf("%s, %d bytes: %.200s", resp.Status, len(body), body)
			default:
				got <- nil
			}
		}()
		eventually(t, "a fetch", func() bool { return s.held.Load() > 0 })
		s.setTag(`"v2"`)
		s.hold.Store(nil)
		close(hold)
		if err := <-got; err != nil {
			t.Error(err)
		}
		must(t, a, s.URL+"/changing")
	})
}

// A file that a host that is not listed has is read by those who want it, shared, and no seed is told of it.
func TestFilesWithoutSeeds(t *testing.T) {
	if testing.Short() {
		t.Skip("three nodes")
	}
	s := newFileSite(t, 20<<20)
	seed, a, b := fileMesh(t, s, false)
	var both sync.WaitGroup
	for _, n := range []*testNode{a, b} {
		both.Go(func() {
			if resp, body, err := n.getFile(t, http.MethodGet, s.URL+"/x"); err != nil || !bytes.Equal(body, s.data) {
				t.Errorf("%v, %d bytes, %v", resp, len(body), err)
			}
		})
	}
	both.Wait()
	if sent := s.sent.Load(); sent != int64(len(s.data)) {
		t.Errorf("%d bytes from the origin for %d", sent, len(s.data))
	}
	if seed.exchange.Status().BytesIn.Origin != 0 {
		t.Error("the seed was told")
	}
}
