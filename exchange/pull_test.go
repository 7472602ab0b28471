package exchange

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

func TestPullFromOrigin(t *testing.T) {
	for name, row := range map[string]struct {
		size    int
		hint    bool
		noRange bool
		noSize  bool
	}{
		"one byte":                {size: 1, hint: true},
		"one piece":               {size: 1 << 20},
		"two pieces, size known":  {size: 1<<20 + 1, hint: true},
		"many pieces":             {size: 20<<20 + 77},
		"many pieces, size known": {size: 20<<20 + 77, hint: true},
		"no range":                {size: 20 << 20, noRange: true},
		"no range, size known":    {size: 20 << 20, noRange: true, hint: true},
		"no size, no range":       {size: 5 << 20, noRange: true, noSize: true},
		"no size, small":          {size: 500, noRange: true, noSize: true},
	} {
		t.Run(name, func(t *testing.T) {
			data, d := content(row.size, 1)
			o := newOrigin(data)
			o.noRange, o.noSize = row.noRange, row.noSize
			n := startNode(t, nodeConfig{zone: "a", origin: o})
			w := want(d, -1)
			if row.hint {
				w.Size = int64(row.size)
			}
			n.mustPull(w, data)
			eventually(t, "complete on disk", func() bool { _, ok := n.Stat(d); return ok })
			n.mustPull(w, data)
			if o.sent.Load() != int64(row.size) {
				t.Errorf("origin sent %s copies", copies(o, data))
			}
			st := n.Status()
			if st.BytesIn.Origin != int64(row.size) || st.BytesIn.Disk != int64(row.size) || st.ClientBytes != 2*int64(row.size) {
				t.Errorf("accounts: %+v", st)
			}
			eventually(t, "the bodies closed", func() bool { return o.open.Load() == 0 })
		})
	}
}

func TestEmptyBlob(t *testing.T) {
	n := startNode(t, nodeConfig{})
	n.mustPull(want(digest.FromBytes(nil), 0), nil)
	if size, ok := n.Stat(digest.FromBytes(nil)); !ok || size != 0 {
		t.Errorf("stat: %d, %v", size, ok)
	}
}

func TestOpenRefuses(t *testing.T) {
	n := startNode(t, nodeConfig{origin: newOrigin()})
	_, d := content(10, 1)
	for name, row := range map[string]struct {
		w    Want
		want error
	}{
		"no digest":       {Want{}, ErrInvalidDigest},
		"short digest":    {want("sha256:00", -1), ErrInvalidDigest},
		"unknown digest":  {want("md5:d41d8cd98f00b204e9800998ecf8427e", -1), ErrInvalidDigest},
		"too large":       {want(d, swarm.MaxBlobSize+1), ErrTooLarge},
		"404":             {want(d, -1), errNotFoundAtOrigin},
		"404, size known": {want(d, 10), errNotFoundAtOrigin},
		"no origin":       {Want{Digest: digest.FromString("y"), Size: -1, Class: swarm.Foreground}, ErrNoProvider},
	} {
		t.Run(name, func(t *testing.T) {
			patience := time.Minute
			if row.want == ErrNoProvider {
				patience = 3 * time.Second // or for as long as somebody may turn up
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			began := time.Now()
			h, err := n.Open(ctx, row.w)
			if h != nil || !errors.Is(err, row.want) && !(row.want == ErrNoProvider && errors.Is(err, context.DeadlineExceeded)) {
				t.Errorf("got %v, %v", h, err)
			}
			t.Logf("after %v: %v", time.Since(began), err)
		})
	}
	if p := n.Status().Pulls; len(p) > 1 {
		t.Errorf("left over: %+v", p)
	}
}

func TestReadRanges(t *testing.T) {
	data, d := content(9<<20, 2)
	n := startNode(t, nodeConfig{origin: newOrigin(data)})
	check := func(t *testing.T) {
		h, err := n.Open(context.Background(), want(d, int64(len(data))))
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if h.Size() != int64(len(data)) {
			t.Errorf("size %d", h.Size())
		}
		for _, r := range [][2]int64{{0, 1}, {0, 0}, {1 << 20, 3 << 20}, {9<<20 - 1, 1}, {5, -1}, {9 << 20, 0}, {9 << 20, -1}} {
			rd, err := h.Reader(r[0], r[1])
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(struct{ io.Reader }{rd})
			end := r[0] + r[1]
			if r[1] < 0 {
				end = int64(len(data))
			}
			if err != nil || !bytes.Equal(got, data[r[0]:end]) {
				t.Errorf("%v: %d bytes, %v", r, len(got), err)
			}
			if _, err := rd.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after the end: %v", err)
			}
			_ = rd.Close()
			if _, err := rd.Read(make([]byte, 1)); !errors.Is(err, ErrReaderClosed) {
				t.Errorf("after close: %v", err)
			}
		}
		for _, r := range [][2]int64{{-1, 1}, {0, 9<<20 + 1}, {9<<20 + 1, -1}, {9<<20 + 1, 0}} {
			if _, err := h.Reader(r[0], r[1]); !errors.Is(err, ErrRange) {
				t.Errorf("%v: %v", r, err)
			}
		}
	}
	t.Run("cold", check)
	eventually(t, "complete", func() bool { _, ok := n.Stat(d); return ok })
	t.Run("warm", check)
}

// TestSingleFlight has many clients ask for the same blob at once.
func TestSingleFlight(t *testing.T) {
	data, d := content(6<<20, 3)
	o := newOrigin(data)
	n := startNode(t, nodeConfig{origin: o})
	pullAll([]*node{n, n, n, n, n, n, n, n, n, n}, want(d, -1), data)
	if o.sent.Load() != int64(len(data)) {
		t.Errorf("origin sent %s copies", copies(o, data))
	}
}

// TestCutOffReaders lets clients hang up in all ways; the fetch that others share goes on, and nothing is left.
func TestCutOffReaders(t *testing.T) {
	data, d := content(8<<20, 4)
	o := newOrigin(data)
	o.gate = make(chan struct{})
	n := startNode(t, nodeConfig{origin: o})
	ctx, cancel := context.WithCancel(context.Background())
	// Some hang up while they wait for Open, some while they wait for bytes.
	opens := make(chan error, 20)
	for range 20 {
		go func() {
			h, err := n.Open(ctx, want(d, int64(len(data))))
			if err == nil {
				r, _ := h.Reader(0, -1)
				context.AfterFunc(ctx, func() { _ = r.Close() })
				_, err = r.WriteTo(io.Discard)
				_ = r.Close()
				_ = h.Close()
			}
			opens <- err
		}()
	}
	survivor := make(chan struct{})
	go func() { defer close(survivor); n.mustPull(want(d, -1), data) }()
	eventually(t, "readers at work", func() bool { p := n.Status().Pulls; return len(p) == 1 && p[0].Readers >= 21 })
	cancel()
	for range 20 {
		if err := <-opens; !errors.Is(err, context.Canceled) && !errors.Is(err, ErrReaderClosed) {
			t.Errorf("got %v", err)
		}
	}
	close(o.gate)
	<-survivor
	eventually(t, "no pulls", func() bool { return len(n.Status().Pulls) == 0 })
	if o.sent.Load() != int64(len(data)) {
		t.Errorf("origin sent %s copies", copies(o, data))
	}
}

// TestAbandoned checks that a fetch nobody reads ends, that what came is kept, and that the next pull uses it.
func TestAbandoned(t *testing.T) {
	data, d := content(16<<20, 5)
	o := newOrigin(data)
	o.gate, o.before = make(chan struct{}), 4<<20
	n := startNode(t, nodeConfig{origin: o, edit: func(c *Config) { c.Swarm.Linger = 50 * time.Millisecond }})
	h, err := n.Open(context.Background(), want(d, int64(len(data))))
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.Reader(0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 2<<20)); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	_ = h.Close()
	eventually(t, "given up", func() bool { return len(n.Status().Pulls) == 0 && o.open.Load() == 0 })
	before := o.sent.Load()
	close(o.gate)
	n.mustPull(want(d, int64(len(data))), data)
	if again := o.sent.Load() - before; again > int64(len(data))-1<<20 {
		t.Errorf("%d of %d bytes fetched again", again, len(data))
	}
}

// TestCorruptOrigin checks that wrong bytes never end cleanly and that nothing of them stays.
func TestCorruptOrigin(t *testing.T) {
	for _, size := range []int{100, 5 << 20} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			data, d := content(size, 6)
			o := newOrigin()
			wrong := bytes.Clone(data)
			wrong[size/2] ^= 1
			o.blobs[d] = wrong
			n := startNode(t, nodeConfig{origin: o})
			got, err := n.pull(want(d, int64(size)))
			var corrupt *CorruptOriginError
			if !errors.As(err, &corrupt) {
				t.Fatalf("got %d bytes, %v", len(got), err)
			}
			if corrupt.Digest != d || corrupt.Origin != testRef {
				t.Errorf("names %+v", corrupt)
			}
			if len(got) >= size {
				t.Errorf("all %d bytes were handed out", len(got))
			}
			eventually(t, "given up", func() bool { return len(n.Status().Pulls) == 0 })
			if _, ok := n.Stat(d); ok {
				t.Error("a wrong blob is kept")
			}
			o.mu.Lock()
			o.blobs[d] = data
			o.mu.Unlock()
			n.mustPull(want(d, int64(size)), data)
		})
	}
}

// originsByRef is one fake origin for each place.
type originsByRef map[swarm.OriginRef]*fakeOrigin

func (m originsByRef) Blob(ctx context.Context, ref swarm.OriginRef, auth string, d digest.Digest, off, n int64) (OriginBody, error) {
	return m[ref].Blob(ctx, ref, auth, d, off, n)
}

func (m originsByRef) Listed(string) bool { return false }

func (m originsByRef) Classify(err error) (swarm.OriginErrorKind, time.Duration) {
	return newOrigin().Classify(err)
}

// joinTwo starts a pull from a bad origin, whose gate is shut, joins it with one from a good origin, opens the gate, and
// returns how they ended.
func joinTwo(t *testing.T, n *node, bad, good Want, o *fakeOrigin) (got [2][]byte, errs [2]error) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { got[0], errs[0] = n.pull(bad) })
	eventually(t, "a fetch from the bad origin", func() bool { return o.requests.Load() > 0 })
	wg.Go(func() { got[1], errs[1] = n.pull(good) })
	eventually(t, "both joined", func() bool {
		s := n.session(bad.Digest)
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.credentials) == 2
	})
	close(o.gate)
	wg.Wait()
	return got, errs
}

// TestOtherClientsOrigin has a client name an origin that fails while another names a good one for the same blob: both
// get it.
func TestOtherClientsOrigin(t *testing.T) {
	data, d := content(6<<20, 11)
	for name, spoil := range map[string]func(*fakeOrigin){
		"never brings a piece": func(o *fakeOrigin) { o.cut = 1000 },
		"dies mid-blob":        func(o *fakeOrigin) { o.cut = 3 << 20; o.noRange = true },
		"lost it":              func(o *fakeOrigin) { o.cut = 1000; o.vanish = true },
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := newOrigin(data), newOrigin(data)
			bad.gate = make(chan struct{})
			spoil(bad)
			w := want(d, int64(len(data)))
			w.Origin = swarm.OriginRef{Registry: "bad.test", Repository: "x"}
			n := startNode(t, nodeConfig{origin: originsByRef{w.Origin: bad, testRef: good}})
			got, errs := joinTwo(t, n, w, want(d, int64(len(data))), bad)
			for i, err := range errs {
				if err != nil || !bytes.Equal(got[i], data) {
					t.Errorf("client %d: %d bytes, %v", i, len(got[i]), err)
				}
			}
		})
	}
}

// TestCorruptOriginNamed checks that wrong bytes are laid at the door of who sent them, not of who was named last.
func TestCorruptOriginNamed(t *testing.T) {
	data, d := content(2<<20, 12)
	bad, good := newOrigin(), newOrigin(data)
	bad.blobs[d] = bytes.Clone(data)
	bad.blobs[d][5] ^= 1
	bad.gate = make(chan struct{})
	w := want(d, int64(len(data)))
	w.Origin = swarm.OriginRef{Registry: "bad.test", Repository: "x"}
	n := startNode(t, nodeConfig{origin: originsByRef{w.Origin: bad, testRef: good}})
	_, errs := joinTwo(t, n, w, want(d, int64(len(data))), bad)
	for i, err := range errs {
		var corrupt *CorruptOriginError
		if errors.As(err, &corrupt) && corrupt.Origin != w.Origin {
			t.Errorf("client %d: names %+v", i, corrupt.Origin)
		}
	}
	if errs[0] == nil {
		t.Error("no error")
	}
}

// TestOriginCutOff checks that a body that breaks is taken up again inside the same response.
func TestOriginCutOff(t *testing.T) {
	data, d := content(6<<20, 7)
	o := newOrigin(data)
	o.cut = 1<<20 + 1000
	n := startNode(t, nodeConfig{origin: o, edit: func(c *Config) { c.Swarm.OriginBackoff = time.Millisecond; c.Swarm.OriginRetries = 20 }})
	n.mustPull(want(d, int64(len(data))), data)
	if sent := o.sent.Load(); sent > 2*int64(len(data)) {
		t.Errorf("origin sent %s copies", copies(o, data))
	}
}

// TestOriginLies checks sizes that contradict each other.
func TestOriginLies(t *testing.T) {
	data, d := content(3<<20, 8)
	t.Run("hint is wrong", func(t *testing.T) {
		n := startNode(t, nodeConfig{origin: newOrigin(data)})
		if got, err := n.pull(want(d, 2<<20)); err == nil {
			t.Errorf("%d bytes, no error", len(got))
		}
		eventually(t, "given up", func() bool { return len(n.Status().Pulls) == 0 })
		n.mustPull(want(d, -1), data)
	})
}

func TestDeniedAndPrivate(t *testing.T) {
	data, d := content(2<<20, 9)
	o := newOrigin(data)
	o.auth = "Basic xyz"
	n := startNode(t, nodeConfig{origin: o})
	if _, err := n.pull(want(d, -1)); !errors.Is(err, errDenied) {
		t.Errorf("got %v", err)
	}
	w := want(d, -1)
	w.Authorization = o.auth
	n.mustPull(w, data)
}

// Without room on disk and in memory a pull fails with the store's error.
func TestStoreFull(t *testing.T) {
	data, d := content(8<<20, 10)
	n := startNode(t, nodeConfig{origin: newOrigin(data), capacity: 4 << 20, edit: func(c *Config) { c.StreamBytes = 1 << 20 }})
	if _, err := n.pull(want(d, int64(len(data)))); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
	if got, ok := n.Stat(d); ok {
		t.Errorf("%d bytes are there all the same", got)
	}
}

// TestDiskFailsMidway has the store refuse a piece in the middle of a pull: readers fail with its error, and the
// next pull begins anew.
func TestDiskFailsMidway(t *testing.T) {
	data, d := content(16<<20, 15)
	o := newOrigin(data)
	o.gate, o.before = make(chan struct{}), 8<<20
	n := startNode(t, nodeConfig{origin: o})
	h, err := n.Open(context.Background(), want(d, int64(len(data))))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	r, err := h.Reader(0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	s := n.session(d)
	s.mu.Lock()
	_ = s.part.Close()
	s.mu.Unlock()
	close(o.gate)
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, store.ErrClosed) {
		t.Errorf("got %v", err)
	}
	eventually(t, "given up", func() bool { return len(n.Status().Pulls) == 0 && o.open.Load() == 0 })
	n.mustPull(want(d, int64(len(data))), data)
}

// TestRestartResumes checks that pieces of an earlier run are not fetched again.
func TestRestartResumes(t *testing.T) {
	data, d := content(16<<20, 11)
	o := newOrigin(data)
	o.gate, o.before = make(chan struct{}), 4<<20 // more comes of no answer to the first run
	dir := t.TempDir()
	n := startNode(t, nodeConfig{origin: o, dir: dir})
	h, err := n.Open(context.Background(), want(d, int64(len(data))))
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.Reader(0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 3<<20)); err != nil {
		t.Fatal(err)
	}
	n.stop()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, ErrClosed) {
		t.Errorf("reader of a stopped node: %v", err)
	}
	_ = r.Close()
	_ = h.Close()
	if _, err := n.Open(context.Background(), want(d, -1)); err == nil {
		t.Error("open after the end")
	}
	before := o.sent.Load()
	close(o.gate)
	n = startNode(t, nodeConfig{origin: o, dir: dir})
	n.mustPull(want(d, int64(len(data))), data)
	if again := o.sent.Load() - before; again > int64(len(data))-2<<20 {
		t.Errorf("%d of %d bytes fetched again", again, len(data))
	}
}

// TestSendfileThroughHTTP reads through a real HTTP server, cold and warm.
func TestSendfileThroughHTTP(t *testing.T) {
	data, d := content(5<<20+3, 12)
	n := startNode(t, nodeConfig{origin: newOrigin(data)})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, err := n.Open(r.Context(), want(d, -1))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer h.Close()
		rd, err := h.Reader(0, -1)
		if err != nil {
			panic(err)
		}
		defer rd.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(h.Size(), 10))
		if _, err := rd.WriteTo(w); err != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	defer srv.Close()
	defer srv.Client().CloseIdleConnections()
	for range 2 {
		resp, err := srv.Client().Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		eventually(t, "complete", func() bool { _, ok := n.Stat(d); return ok })
	}
}

// TestEvicted checks that a blob that left the store is fetched again.
func TestEvicted(t *testing.T) {
	data, d := content(3<<20, 13)
	o := newOrigin(data)
	n := startNode(t, nodeConfig{origin: o})
	n.mustPull(want(d, -1), data)
	eventually(t, "free to delete", func() bool { return n.st.Delete(d) == nil })
	n.mustPull(want(d, -1), data)
	if o.sent.Load() != 2*int64(len(data)) {
		t.Errorf("origin sent %s copies", copies(o, data))
	}
}

func TestNothingOnDiskLeaks(t *testing.T) {
	data, d := content(4<<20, 14)
	n := startNode(t, nodeConfig{origin: newOrigin(data)})
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc")
		}
		return len(fds)
	}
	n.mustPull(want(d, -1), data)
	eventually(t, "complete", func() bool { _, ok := n.Stat(d); return ok })
	before := count()
	for range 100 {
		h, err := n.Open(context.Background(), want(d, -1))
		if err != nil {
			t.Fatal(err)
		}
		r, err := h.Reader(1<<20, 100)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = r.Read(make([]byte, 10))
		_ = r.Close()
		_ = h.Close()
	}
	eventually(t, "descriptors closed", func() bool { return count() <= before })
}
