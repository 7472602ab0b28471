package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// shelfStore opens a store beside a shelf that has the blobs given.
func shelfStore(t *testing.T, change func(*Config), blobs ...[]byte) *Store {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := tempStore(t, func(c *Config) {
		c.Shelf = dir
		if change != nil {
			change(c)
		}
	})
	for _, b := range blobs {
		putOnShelf(t, s, b)
	}
	return s
}

func putOnShelf(t *testing.T, s *Store, data []byte) {
	t.Helper()
	if err := os.WriteFile(s.shelf.path(digest.FromBytes(data)), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What lies on the shelf is nobody's before it is adopted, and then only under the name by which it was.
func TestAdopt(t *testing.T) {
	data := sample(1, 5*smallPieces)
	d := digest.FromBytes(data)
	s := shelfStore(t, nil, data)
	private, err := Scoped("registry.example", d)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []digest.Digest{d, private} {
		if _, err := s.Get(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("get before adoption: %v", err)
		}
	}
	if len(s.List()) != 0 {
		t.Error("the shelf is listed")
	}
	for _, again := range []bool{false, true} {
		if err := s.Adopt(private); err != nil {
			t.Fatalf("again %v: %v", again, err)
		}
	}
	if _, err := s.Get(d); !errors.Is(err, ErrNotFound) {
		t.Errorf("a private blob by its digest: %v", err)
	}
	if _, err := s.Begin(private, int64(len(data)), smallPieces); !errors.Is(err, ErrComplete) {
		t.Errorf("begin: %v", err)
	}
	for range 2 { // and after a restart
		b, err := s.Get(private)
		if err != nil {
			t.Fatal(err)
		}
		wantContent(t, b, data)
		b.Close()
		if u := s.Usage(); u.Bytes != 0 || u.Shelved != int64(len(data)) || u.Blobs != 1 {
			t.Errorf("usage: %+v", u)
		}
		if got := filesUnder(t, filepath.Join(s.cfg.Dir, "blobs")); len(got) != 1 {
			t.Errorf("files: %v", got)
		}
		s = s.reopened(t)
	}
	if err := s.Delete(private); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.shelf.path(d)); err != nil {
		t.Errorf("a file of somebody else's is gone: %v", err)
	}
}

func TestAdoptRefuses(t *testing.T) {
	good, bad := sample(1, 3*smallPieces), sample(2, 3*smallPieces)
	s := shelfStore(t, nil, good)
	d := digest.FromBytes(bad)
	if err := os.WriteFile(s.shelf.path(d), good, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		d    digest.Digest
		want error
	}{
		"absent":      {digest.FromString("absent"), ErrNotFound},
		"other bytes": {d, ErrNotFound},
		"no digest":   {"x", ErrInvalid},
		"file":        {File(nil), ErrNotFound},
	} {
		if err := s.Adopt(row.d); !errors.Is(err, row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := begin(t, s, bad)
	defer p.Close()
	if err := s.Adopt(d); !errors.Is(err, ErrInUse) {
		t.Errorf("while it arrives: %v", err)
	}
	if err := tempStore(t).Adopt(digest.FromBytes(good)); !errors.Is(err, ErrNotFound) {
		t.Errorf("without a shelf: %v", err)
	}
	if len(s.List()) != 1 {
		t.Errorf("listed: %+v", s.List())
	}
}

// A file that leaves the shelf, or rots there, is gone from the store too; who reads it goes on.
func TestShelfLosesFile(t *testing.T) {
	data := sample(1, 3*smallPieces)
	d := digest.FromBytes(data)
	for name, row := range map[string]func(t *testing.T, s *Store){
		"found at get": func(*testing.T, *Store) {},
		"found by Run": func(_ *testing.T, s *Store) { s.keepShelf() },
		"found at open": func(t *testing.T, s *Store) {
			s.Close()
			again, err := Open(s.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if len(again.List()) != 0 {
				t.Error("listed")
			}
			again.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := shelfStore(t, nil, data)
			if err := s.Adopt(d); err != nil {
				t.Fatal(err)
			}
			b, err := s.Get(d)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(s.shelf.path(d)); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(data))
			if _, err := b.ReadAt(got, 0); err != nil || !slices.Equal(got, data) {
				t.Errorf("who reads it: %v", err)
			}
			b.Close()
			row(t, s)
			if b, err := s.Get(d); err == nil {
				b.Close()
				t.Error("it can be had")
			}
		})
	}
	t.Run("rot", func(t *testing.T) {
		s := shelfStore(t, nil, data)
		if err := s.Adopt(d); err != nil {
			t.Fatal(err)
		}
		rot(t, s.shelf.path(d), smallPieces, false)
		b, err := s.Get(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Check(0, b.Size()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("check: %v", err)
		}
		b.Close()
		if _, err := s.Stat(d); !errors.Is(err, ErrNotFound) {
			t.Errorf("stat: %v", err)
		}
		if _, err := os.Stat(s.shelf.path(d)); err != nil {
			t.Errorf("the file of another: %v", err)
		}
	})
}

// What came into the store and then settles on the shelf is kept once; what is pinned, in use or young stays.
func TestNotKeptTwice(t *testing.T) {
	s := shelfStore(t, func(c *Config) { c.Capacity = 30 * kib })
	c := newClock(s)
	moved, pinned, used := sample(1, 5*kib), sample(2, 5*kib), sample(3, 5*kib)
	for _, data := range [][]byte{moved, pinned, used, sample(4, 5*kib)} {
		keep(t, s, data)
	}
	mustPin(t, s, "pin", time.Time{}, digest.FromBytes(pinned))
	b, err := s.Get(digest.FromBytes(used))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, data := range [][]byte{moved, pinned, used} {
		putOnShelf(t, s, data)
	}
	s.keepShelf()
	if u := s.Usage(); u.Bytes != 20*kib || u.Shelved != 0 {
		t.Errorf("at once: %+v", u)
	}
	c.t = c.t.Add(settled + time.Minute)
	s.keepShelf()
	if u := s.Usage(); u.Bytes != 15*kib || u.Shelved != 5*kib {
		t.Errorf("later: %+v", u)
	}
	for range 2 {
		mustRead(t, s, moved)
		s = s.reopened(t)
	}
}
