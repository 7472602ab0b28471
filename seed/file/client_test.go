package file

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshd-project/meshd/seed/origin"
)

// site is an HTTP server with one file, as good or bad as a test wants it.
type site struct {
	*httptest.Server
	data     []byte
	etag     string
	modified time.Time
	noRange  bool // the whole comes, whatever is asked
	chunked  bool // without a length
	noHEAD   int  // status of HEAD; 0: as GET
	deaf     bool // ignores conditions
	cut      int64
	before   func(w http.ResponseWriter, r *http.Request) bool // true: answered

	gets, heads atomic.Int64
	sent        atomic.Int64
}

func newSite(t testing.TB, size int, edit ...func(*site)) *site {
	t.Helper()
	s := &site{data: sample(1, size), etag: `"v1"`}
	for _, f := range edit {
		f(s)
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func sample(seed byte, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		s.heads.Add(1)
		if s.noHEAD != 0 {
			w.WriteHeader(s.noHEAD)
			return
		}
	} else {
		s.gets.Add(1)
	}
	if s.before != nil && s.before(w, r) {
		return
	}
	if s.etag != "" {
		w.Header().Set("ETag", s.etag)
	}
	if s.deaf {
		r.Header.Del("If-Match")
		r.Header.Del("If-Unmodified-Since")
	}
	if s.noRange || s.chunked {
		r.Header.Del("Range")
	}
	cw := &countingWriter{ResponseWriter: w, site: s}
	if s.chunked {
		w.Header().Set("Content-Type", "application/x-thing")
		if !s.modified.IsZero() {
			w.Header().Set("Last-Modified", s.modified.UTC().Format(http.TimeFormat))
		}
		if r.Method == http.MethodGet {
			w.(http.Flusher).Flush()
			cw.Write(s.data) //nolint:errcheck // the client has gone
		}
		return
	}
	http.ServeContent(cw, r, "file.bin", s.modified, bytes.NewReader(s.data))
}

// countingWriter counts the bytes sent, and breaks the connection after site.cut of them.
type countingWriter struct {
	http.ResponseWriter
	site *site
	n    int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	if w.site.cut > 0 && w.n+int64(len(p)) > w.site.cut {
		p = p[:w.site.cut-w.n]
		w.ResponseWriter.Write(p) //nolint:errcheck // it is broken anyway
		panic(http.ErrAbortHandler)
	}
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	w.site.sent.Add(int64(n))
	return n, err
}

func newClient(t testing.TB, cfg ...Config) *Client {
	t.Helper()
	c := New(append(cfg, Config{})[0])
	t.Cleanup(func() { c.Close() })
	return c
}

// read probes and reads a range.
func (s *site) read(t testing.TB, c *Client, off, n int64) ([]byte, *Body, error) {
	t.Helper()
	r := parse(t, s.URL+"/dir/file.bin")
	info, err := c.Probe(t.Context(), r)
	if err != nil {
		return nil, nil, err
	}
	b, err := c.Read(t.Context(), r, info.Version, off, n)
	if err != nil {
		return nil, nil, err
	}
	defer b.Close()
	data, err := io.ReadAll(b)
	return data, b, err
}

func TestVersions(t *testing.T) {
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	dated := old.UTC().Format(http.TimeFormat)
	for _, row := range []struct {
		name   string
		edit   func(*site)
		want   Version
		strong bool
	}{
		{"strong ETag", func(s *site) {}, Version{ETag: `"v1"`, Size: 1000}, true},
		{"both", func(s *site) { s.modified = old }, Version{ETag: `"v1"`, Size: 1000}, true},
		{"a date", func(s *site) { s.etag, s.modified = "", old }, Version{Modified: dated, Size: 1000}, true},
		{"weak ETag and a date", func(s *site) { s.etag, s.modified = `W/"v1"`, old }, Version{Modified: dated, Size: 1000}, true},
		{"a date of just now", func(s *site) { s.etag, s.modified = "", time.Now().Add(time.Minute) }, Version{Size: 1000}, false},
		{"weak ETag", func(s *site) { s.etag = `W/"v1"` }, Version{Size: 1000}, false},
		{"no quotes", func(s *site) { s.etag = `v1` }, Version{Size: 1000}, false},
		{"nothing", func(s *site) { s.etag = "" }, Version{Size: 1000}, false},
		{"chunked with an ETag", func(s *site) { s.chunked = true }, Version{ETag: `"v1"`, Size: -1}, true},
		{"chunked with a date", func(s *site) { s.etag, s.modified, s.chunked = "", old, true }, Version{Modified: dated, Size: -1}, false},
		{"no ranges", func(s *site) { s.noRange = true }, Version{ETag: `"v1"`, Size: 1000}, true},
		{"no HEAD", func(s *site) { s.noHEAD = 405 }, Version{ETag: `"v1"`, Size: 1000}, true},
		{"a URL signed for GET", func(s *site) { s.noHEAD = 403 }, Version{ETag: `"v1"`, Size: 1000}, true},
		{"no HEAD and no ranges", func(s *site) { s.noHEAD, s.noRange = 501, true }, Version{ETag: `"v1"`, Size: 1000}, true},
		{"an empty file, no HEAD", func(s *site) { s.noHEAD, s.data = 405, nil }, Version{ETag: `"v1"`, Size: 0}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t, 1000, row.edit)
			info, err := newClient(t).Probe(t.Context(), parse(t, s.URL+"/dir/file.bin?x=1"))
			if err != nil || info.Version != row.want || info.Strong() != row.strong || info.Name != "file.bin" {
				t.Errorf("%+v, %v; want %+v", info, err, row.want)
			}
			if err := info.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRead(t *testing.T) {
	const size = 100_000
	for _, row := range []struct {
		name   string
		edit   func(*site)
		off, n int64
		ranged bool
		err    error
	}{
		{"whole", nil, 0, -1, false, nil},
		{"whole by its length", nil, 0, size, false, nil},
		{"start", nil, 0, 1000, true, nil},
		{"middle", nil, 5000, 1000, true, nil},
		{"end", nil, 5000, -1, true, nil},
		{"by date", func(s *site) { s.etag, s.modified = "", time.Unix(1e9, 0) }, 5000, 1000, true, nil},
		{"no ranges, from the start", func(s *site) { s.noRange = true }, 0, 1000, false, nil},
		{"no ranges, from within", func(s *site) { s.noRange = true }, 5000, 1000, false, ErrNoRange},
		{"chunked", func(s *site) { s.chunked = true }, 0, -1, false, nil},
		{"weak, whole", func(s *site) { s.etag = `W/"x"` }, 0, -1, false, nil},
		{"cut", func(s *site) { s.cut = 2000 }, 0, -1, false, ErrUnreachable},
		{"cut, chunked", func(s *site) { s.cut, s.chunked = 2000, true }, 0, -1, false, ErrUnreachable},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.edit == nil {
				row.edit = func(*site) {}
			}
			s := newSite(t, size, row.edit)
			data, b, err := s.read(t, newClient(t), row.off, row.n)
			if !errors.Is(err, row.err) || (err == nil) != (row.err == nil) {
				t.Fatalf("error %v, want %v", err, row.err)
			}
			if err != nil {
				return
			}
			end := int64(size)
			if row.n >= 0 && row.ranged {
				end = row.off + row.n
			}
			if !bytes.Equal(data, s.data[b.Offset:end]) || b.Offset != row.off || b.Ranged != row.ranged {
				t.Errorf("%d bytes from %d, ranged %v", len(data), b.Offset, b.Ranged)
			}
		})
	}
}

// The file changes between the look at it and the reading: no byte of another version comes, even from servers that
// ignore conditions.
func TestChanged(t *testing.T) {
	old := time.Unix(1e9, 0)
	for name, edit := range map[string]func(*site){
		"ETag":               func(*site) {},
		"ETag, deaf":         func(s *site) { s.deaf = true },
		"ETag, no ranges":    func(s *site) { s.deaf, s.noRange = true, true },
		"date":               func(s *site) { s.etag, s.modified = "", old },
		"date, deaf":         func(s *site) { s.etag, s.modified, s.deaf = "", old, true },
		"chunked ETag, deaf": func(s *site) { s.deaf, s.chunked = true, true },
	} {
		for _, next := range []func(*site){
			func(s *site) { s.etag, s.modified = strings.Replace(s.etag, "1", "2", 1), s.modified.Add(time.Second) },
			func(s *site) { s.etag, s.modified = "", time.Time{} },
		} {
			s := newSite(t, 5000, edit)
			c, r := newClient(t), parse(t, s.URL)
			info, err := c.Probe(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			next(s)
			s.data = sample(2, 5000)
			for _, n := range []int64{-1, 100} {
				if b, err := c.Read(t.Context(), r, info.Version, 0, n); !errors.Is(err, ErrChanged) {
					t.Errorf("%s: %v", name, err)
					if err == nil {
						b.Close()
					}
				}
			}
		}
	}
	s := newSite(t, 5000)
	c, r := newClient(t), parse(t, s.URL)
	if b, err := c.Read(t.Context(), r, Version{ETag: s.etag, Size: 4000}, 0, 100); !errors.Is(err, ErrChanged) {
		t.Errorf("another length: %v, %v", b, err)
	}
}

func TestStatuses(t *testing.T) {
	for status, want := range map[int]error{
		404: ErrNotFound, 410: ErrNotFound, 401: ErrUnauthorized, 403: ErrUnauthorized, 412: ErrChanged, 416: ErrChanged,
		429: ErrThrottled, 503: ErrThrottled, 500: ErrUnreachable, 502: ErrUnreachable, 400: ErrInvalid, 418: ErrInvalid, 204: ErrInvalid,
		304: ErrInvalid, 206: ErrInvalid,
	} {
		s := newSite(t, 10, func(s *site) {
			s.before = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(status)
				return true
			}
		})
		c, r := newClient(t), parse(t, s.URL+"/x?secret")
		_, probed := c.Probe(t.Context(), r)
		_, read := c.Read(t.Context(), r, Version{Size: -1}, 0, -1)
		for what, err := range map[string]error{"probe": probed, "read": read} {
			var e *Error
			if !errors.Is(err, want) || !errors.As(err, &e) || e.Status != status {
				t.Errorf("%s, %d: %v, want %v", what, status, err, want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells: %v", err)
			}
			if want == ErrThrottled && e.RetryAfter != 7*time.Second {
				t.Errorf("%d: retry after %v", status, e.RetryAfter)
			}
		}
	}
}

// Headers go to the host that was named, and to no other that its answers lead to.
func TestRedirect(t *testing.T) {
	target := newSite(t, 1000)
	var seen []http.Header
	target.before = func(_ http.ResponseWriter, r *http.Request) bool {
		seen = append(seen, r.Header.Clone())
		return false
	}
	from := newSite(t, 0)
	from.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Token") != "t" || r.Header.Get("Authorization") != "Basic dTpw" {
			t.Errorf("the origin got %v", r.Header)
		}
		http.Redirect(w, r, target.URL+"/elsewhere.tar?sig=1", http.StatusFound)
		return true
	}
	c := newClient(t)
	r, err := Parse(strings.Replace(from.URL, "http://", "http://u:p@", 1), http.Header{"X-Token": {"t"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.Probe(t.Context(), r)
	if err != nil || info.Name != "elsewhere.tar" {
		t.Fatalf("%+v, %v", info, err)
	}
	b, err := c.Read(t.Context(), r, info.Version, 10, 20)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if data, err := io.ReadAll(b); err != nil || !bytes.Equal(data, target.data[10:30]) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	for _, h := range seen {
		if h.Get("X-Token") != "" || h.Get("Authorization") != "" {
			t.Errorf("the other host got %v", h)
		}
	}
	r.Hosts = hosts(t, strings.TrimPrefix(from.URL, "http://"))
	if _, err := c.Probe(t.Context(), r); !errors.Is(err, ErrRefused) {
		t.Errorf("led to a host that is not listed: %v", err)
	}
}

func TestRedirectsThatLeadNowhere(t *testing.T) {
	for name, location := range map[string]string{
		"itself": "", "another scheme": "ftp://a.example/", "a local file": "file:///etc/passwd", "nonsense": "http://%zz",
	} {
		s := newSite(t, 10)
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			to := location
			if name == "itself" {
				to = r.URL.Path
			}
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusMovedPermanently)
			return true
		}
		if _, err := newClient(t).Probe(t.Context(), parse(t, s.URL)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	plain := newSite(t, 10)
	tls := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer tls.Close()
	c := newClient(t, Config{RootCAs: tls.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	if _, err := c.Probe(t.Context(), parse(t, tls.URL)); !errors.Is(err, ErrRefused) {
		t.Errorf("from https to http: %v", err)
	}
	if _, err := newClient(t).Probe(t.Context(), parse(t, tls.URL)); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a certificate that nobody knows: %v", err)
	}
}

func TestAddressIsSeenAfterResolution(t *testing.T) {
	s := newSite(t, 10)
	c := newClient(t, Config{Control: origin.GuardClient})
	for _, u := range []string{s.URL, strings.Replace(s.URL, "127.0.0.1", "localhost", 1), "http://169.254.169.254/latest/meta-data/"} {
		if _, err := c.Probe(t.Context(), parse(t, u)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", u, err)
		}
	}
	if s.heads.Load() != 0 {
		t.Error("it was asked")
	}
	refused := newClient(t, Config{Control: func(string, string, syscall.RawConn) error { return ErrRefused }})
	if _, err := refused.Probe(t.Context(), parse(t, s.URL)); !errors.Is(err, ErrRefused) {
		t.Errorf("%v", err)
	}
}

// What a server sends encoded all the same is the file: nothing is taken off.
func TestGzipStays(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	fmt.Fprint(z, strings.Repeat("text ", 1000))
	z.Close()
	s := newSite(t, 0, func(s *site) { s.data = zipped.Bytes() })
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if got := r.Header.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("asks for %q", got)
		}
		w.Header().Set("Content-Encoding", "gzip")
		return false
	}
	if data, _, err := s.read(t, newClient(t), 0, -1); err != nil || !bytes.Equal(data, zipped.Bytes()) {
		t.Errorf("%d of %d bytes, %v", len(data), zipped.Len(), err)
	}
}

// An empty answer to HEAD is not believed: servers that route GET only give one.
func TestEmptyHead(t *testing.T) {
	for _, size := range []int{0, 1000} {
		for _, noRange := range []bool{false, true} {
			s := newSite(t, size, func(s *site) {
				s.noRange = noRange
				s.before = func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodHead {
						w.Header().Set("Content-Length", "0")
					}
					return r.Method == http.MethodHead
				}
			})
			info, err := newClient(t).Probe(t.Context(), parse(t, s.URL))
			if err != nil || info.Size != int64(size) || info.ETag != s.etag {
				t.Errorf("%d bytes: %+v, %v", size, info, err)
			}
		}
	}
}

// An answer that only the end of its connection ends has all bytes of the version, or is an error.
func TestNoLength(t *testing.T) {
	for _, row := range []struct {
		size, n int
		err     error
	}{{1000, 1000, nil}, {1000, 999, ErrUnreachable}, {1000, 1001, ErrInvalid}} {
		s := newSite(t, row.size, func(s *site) {
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead {
					return false
				}
				c, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					return true
				}
				fmt.Fprintf(rw, "HTTP/1.0 200 OK\r\nETag: \"v1\"\r\n\r\n%s", sample(1, row.n))
				rw.Flush() //nolint:errcheck // the client has gone
				c.Close()
				return true
			}
		})
		data, _, err := s.read(t, newClient(t), 0, -1)
		if !errors.Is(err, row.err) || err == nil && len(data) != row.size {
			t.Errorf("%d of %d bytes: %d came, %v", row.n, row.size, len(data), err)
		}
	}
}

// Probing a server without HEAD and ranges does not take its file.
func TestProbeTakesNothing(t *testing.T) {
	s := newSite(t, 64<<20, func(s *site) { s.noHEAD, s.noRange = 405, true })
	if _, err := newClient(t).Probe(t.Context(), parse(t, s.URL)); err != nil {
		t.Fatal(err)
	}
	s.Close() // waits for the handler
	if n := s.sent.Load(); n > 32<<20 {
		t.Errorf("%d bytes were sent", n)
	}
}

func TestSilenceEnds(t *testing.T) {
	stop := make(chan struct{})
	s := newSite(t, 1000, func(s *site) {
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet {
				w.Header().Set("ETag", s.etag)
				w.Header().Set("Content-Length", "1000")
				w.Write([]byte("begun")) //nolint:errcheck // the client has gone
				w.(http.Flusher).Flush()
				<-stop
				return true
			}
			return false
		}
	})
	defer close(stop)
	if _, _, err := s.read(t, newClient(t, Config{IdleTimeout: 30 * time.Millisecond}), 0, -1); !errors.Is(err, ErrTimeout) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	r := parse(t, s.URL)
	b, err := newClient(t).Read(ctx, r, Version{ETag: s.etag, Size: 1000}, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	mine := errors.New("enough")
	cancel(mine)
	if _, err := io.ReadAll(b); !errors.Is(err, mine) {
		t.Errorf("%v", err)
	}
}

func TestIdentity(t *testing.T) {
	key := []byte("k")
	v := Version{ETag: `"a"`, Size: 1}
	id := func(raw string, h http.Header, v Version, key []byte, filter ...string) string {
		r, err := Parse(raw, h, filter)
		if err != nil {
			t.Fatal(err)
		}
		return string(r.Identity(v, key))
	}
	base := id("http://a.example/b?s=1", nil, v, key, "s")
	if base != id("HTTP://A.example:80/b?s=2", nil, v, []byte("other"), "s") {
		t.Error("the same file has two identities")
	}
	seen := map[string]string{base: "base"}
	for name, other := range map[string]string{
		"path":         id("http://a.example/c", nil, v, key),
		"query":        id("http://a.example/b?s=1", nil, v, key),
		"scheme":       id("https://a.example/b", nil, v, key),
		"ETag":         id("http://a.example/b", nil, Version{ETag: `"b"`, Size: 1}, key),
		"size":         id("http://a.example/b", nil, Version{ETag: `"a"`, Size: 2}, key),
		"date":         id("http://a.example/b", nil, Version{Modified: "x", Size: 1}, key),
		"a header":     id("http://a.example/b", http.Header{"A": {"secret"}}, v, key),
		"its value":    id("http://a.example/b", http.Header{"A": {"y"}}, v, key),
		"its key":      id("http://a.example/b", http.Header{"A": {"secret"}}, v, []byte("other")),
		"its name":     id("http://a.example/b", http.Header{"B": {"x"}}, v, key),
		"two headers":  id("http://a.example/b", http.Header{"A": {"x"}, "B": {"y"}}, v, key),
		"two values":   id("http://a.example/b", http.Header{"A": {"x", "y"}}, v, key),
		"values moved": id("http://a.example/b", http.Header{"A": {"xy"}}, v, key),
	} {
		if was, ok := seen[other]; ok {
			t.Errorf("%s: the same as %s", name, was)
		}
		seen[other] = name
		if strings.Contains(other, "secret") {
			t.Errorf("%s: the header is in the identity", name)
		}
	}
}

// FuzzContentRange: an accepted range lies within its file.
func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-0/1", "bytes */5", "bytes 1-2/*", "bytes 5-1/9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, size, err := parseContentRange(s)
		if err == nil && (first < 0 || size < -1 || size >= 0 && first > size) {
			t.Fatalf("%q: %d of %d", s, first, size)
		}
	})
}

// FuzzVersion: whatever a server says, what is taken for a validator can be sent back to it.
func FuzzVersion(f *testing.F) {
	f.Add(`"a"`, "Mon, 02 Jan 2006 15:04:05 GMT", "Mon, 02 Jan 2006 15:04:06 GMT", int64(5))
	f.Add(`W/"a"`, "", "", int64(-1))
	f.Fuzz(func(t *testing.T, etag, modified, date string, size int64) {
		v := versionOf(http.Header{"Etag": {etag}, "Last-Modified": {modified}, "Date": {date}}, size)
		if err := v.Check(); err != nil {
			t.Fatalf("%+v: %v", v, err)
		}
		if strings.ContainsAny(v.ETag+v.Modified, "\r\n") {
			t.Fatalf("%+v", v)
		}
	})
}
