package exchange

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/meshd-project/meshd/exchange/store"
)

// noHome takes away the directory that complete blobs go to, so that the next Commit fails at its rename.
func noHome(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, "blobs", "sha256")); err != nil {
		t.Fatal(err)
	}
}

// uncommitted starts a node on whose disk a blob comes to all but its end: its commit has failed, and a client has a handle.
func uncommitted(t *testing.T, o *fakeOrigin, w Want) (n *node, dir string, h *Handle) {
	t.Helper()
	dir = t.TempDir()
	o.gate = make(chan struct{})
	n = startNode(t, nodeConfig{zone: "a", origin: o, dir: dir, edit: soonOver})
	opened := make(chan *Handle)
	go func() {
		h, err := n.Open(t.Context(), w)
		if err != nil {
			t.Error(err)
		}
		opened <- h
	}()
	eventually(t, "the origin is read", func() bool { return o.open.Load() > 0 })
	noHome(t, dir)
	close(o.gate)
	if h = <-opened; h == nil {
		t.FailNow()
	}
	t.Cleanup(func() { _ = h.Close() })
	s := n.session(w.Digest)
	eventually(t, "the disk fails", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.unkept.on })
	return n, dir, h
}

func (h *Handle) readAll(t *testing.T, off, n int64) []byte {
	t.Helper()
	r, err := h.Reader(off, n)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(struct{ io.Reader }{r})
	if err != nil {
		t.Errorf("from %d: %d bytes, %v", off, len(got), err)
	}
	return got
}

// A disk that fails at the end of a blob takes nothing from those who read it, and keeps nothing of it.
func TestCommitFails(t *testing.T) {
	for _, size := range []int{900_000, 20<<20 + 5} {
		data, d := content(size, 18)
		o := newOrigin(data)
		n, dir, h := uncommitted(t, o, want(d, int64(size)))
		stays, err := h.Reader(0, -1) // for as long as there is one, the session lasts
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if !bytes.Equal(h.readAll(t, 0, -1), data) {
					t.Error("wrong bytes")
				}
			})
		}
		wg.Wait()
		if got := h.readAll(t, int64(size/2), 1000); !bytes.Equal(got, data[size/2:size/2+1000]) {
			t.Error("wrong bytes in the middle")
		}
		if c := copies(o, data); c != "1.0000" {
			t.Errorf("the origin sent %s copies", c)
		}
		_ = stays.Close()
		_ = h.Close()
		n.keepsNothing(d)
		eventually(t, "nothing left on disk", func() bool {
			left, _ := filepath.Glob(filepath.Join(dir, "*", "sha256", "*"))
			return len(left) == 0
		})
		n.mustPull(want(d, int64(size)), data) // the disk is well again
		eventually(t, "it is kept", func() bool { info, err := n.st.Stat(d); return err == nil && info.Complete })
		eventually(t, "the operator is told so", func() bool { return n.Status().NotKept == nil })
	}
}

// What the disk has lost of such a blob is not given out but fetched again, and nobody else is given any of it.
func TestCommitFailsAndPiecesAreLost(t *testing.T) {
	data, d := content(20<<20+5, 19)
	o := newOrigin(data)
	n, dir, h := uncommitted(t, o, want(d, int64(len(data))))
	b := startNode(t, nodeConfig{zone: "a", origin: o})
	mesh(t, n, b)
	s := n.session(d)
	ps := s.layout.PieceSize
	f, err := os.OpenFile(filepath.Join(dir, "partial", "sha256", d.Encoded()), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int64{3, 4, 9} {
		if _, err := f.WriteAt(make([]byte, 10), i*ps+ps/2); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if code, err := get(b, n, d, 0); err != nil || code == http.StatusOK {
		t.Errorf("a peer that asks is told %d, %v", code, err)
	}
	if got := h.readAll(t, 0, -1); !bytes.Equal(got, data) {
		t.Error("wrong bytes")
	}
	if sent := o.sent.Load(); sent < int64(len(data))+3*ps || sent > 2*int64(len(data)) {
		t.Errorf("the origin sent %d bytes for a blob of %d and three pieces more", sent, len(data))
	}
}

// A fetch onto a disk that fails at the end fails with its error.
func TestCommitFailsUnderFetch(t *testing.T) {
	data, d := content(5<<20, 20)
	o := newOrigin(data)
	o.gate = make(chan struct{})
	dir := t.TempDir()
	n := startNode(t, nodeConfig{zone: "a", origin: o, dir: dir})
	failed := make(chan error, 1)
	go func() { failed <- n.Fetch(t.Context(), want(d, int64(len(data))), nil) }()
	eventually(t, "the origin is read", func() bool { return o.open.Load() > 0 })
	noHome(t, dir)
	close(o.gate)
	if err := <-failed; !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if info, err := n.st.Stat(d); err == nil {
		eventually(t, "nothing is left", func() bool { _, err = n.st.Stat(d); return errors.Is(err, store.ErrNotFound) })
		t.Logf("was %+v", info)
	}
}

// Each kind of error of the disk has its own remedy, and no two the same.
func TestRemedies(t *testing.T) {
	seen := make(map[string]bool)
	for _, row := range remedies {
		for _, err := range row.errs {
			if got := remedy(&os.PathError{Op: "write", Path: "x", Err: err}); got != row.do {
				t.Errorf("%v: %s", err, got)
			}
		}
		if seen[row.do] || row.do == remedy(io.ErrUnexpectedEOF) {
			t.Errorf("%q is said of two", row.do)
		}
		seen[row.do] = true
	}
}
