package store

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// rot changes one byte of a file in place; with quiet its mtime stays.
func rot(t *testing.T, name string, at int64, quiet bool) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	mtime := info.ModTime()
	if !quiet {
		mtime = mtime.Add(time.Second)
	}
	if err := os.Chtimes(name, mtime, mtime); err != nil {
		t.Fatal(err)
	}
}

func TestRotIsNotServed(t *testing.T) {
	data := sample(1, 5*smallPieces)
	d := digest.FromBytes(data)
	for _, row := range []struct {
		name string
		rot  func(t *testing.T, s *Store) *Store
	}{
		{"behind a restart", func(t *testing.T, s *Store) *Store {
			s.Close()
			rot(t, s.paths.blob(d), 3*smallPieces+1, true)
			return openStore(t, s.cfg)
		}},
		{"under a running store", func(t *testing.T, s *Store) *Store {
			rot(t, s.paths.blob(d), 3*smallPieces+1, false)
			return s
		}},
		{"silently, noticed in time", func(t *testing.T, s *Store) *Store {
			rot(t, s.paths.blob(d), 3*smallPieces+1, true)
			newClock(s).t = time.Now().Add(DefaultRecheck)
			return s
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := tempStore(t)
			keep(t, s, data)
			s = row.rot(t, s)
			told := 0
			s.OnEvict(func(digest.Digest) { told++ })
			b, err := s.Get(d)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			buf := make([]byte, smallPieces)
			if _, err := b.ReadAt(buf, 0); err != nil {
				t.Errorf("a good piece: %v", err)
			}
			if n, err := b.ReadAt(buf, 3*smallPieces-10); n != 0 || !errors.Is(err, ErrCorrupt) {
				t.Errorf("a rotten piece: %d bytes, %v", n, err)
			}
			if _, err := s.Get(d); !errors.Is(err, ErrNotFound) || told != 1 {
				t.Errorf("the blob stays: %v, told %d times", err, told)
			}
			if err := b.Check(3*smallPieces, 1); !errors.Is(err, ErrCorrupt) {
				t.Errorf("second check: %v", err)
			}
			if told != 1 || s.Scrub().Corrupt != 1 {
				t.Errorf("told %d times, %d counted", told, s.Scrub().Corrupt)
			}
			keep(t, s, data) // it can be fetched again while the old one is still open
			mustRead(t, s, data)
			if _, err := b.OpenFile(); !errors.Is(err, ErrNotFound) {
				t.Errorf("descriptor of a dropped blob: %v", err)
			}
		})
	}
}

func TestBlobFileGone(t *testing.T) {
	for _, row := range []struct {
		name   string
		damage func(name string) error
	}{
		{"missing", os.Remove},
		{"short", func(name string) error { return os.Truncate(name, 10) }},
		{"empty", func(name string) error { return os.Truncate(name, 0) }},
		{"long", func(name string) error { return os.Truncate(name, 1<<20) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := tempStore(t)
			data := sample(1, 5*smallPieces)
			d := keep(t, s, data)
			if err := row.damage(s.paths.blob(d)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get(d); !errors.Is(err, ErrNotFound) {
				t.Errorf("got %v", err)
			}
			wantEmpty(t, s)
			keep(t, s, data)
			s.Close()
			if err := row.damage(s.paths.blob(d)); err != nil {
				t.Fatal(err)
			}
			wantEmpty(t, openStore(t, s.cfg))
		})
	}
}

func TestBlobRanges(t *testing.T) {
	s := tempStore(t)
	data := sample(1, 2*smallPieces+10)
	d := keep(t, s, data)
	b, err := s.Get(d)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(data))
	for _, row := range []struct {
		off, n int64
		want   error
	}{
		{0, 0, nil},
		{0, size, nil},
		{0, size + 100, nil},
		{size, 1, nil},
		{size + 1, 1, ErrInvalid},
		{-1, 1, ErrInvalid},
		{0, -1, ErrInvalid},
	} {
		if err := b.Check(row.off, row.n); !errors.Is(err, row.want) {
			t.Errorf("check %d+%d: %v", row.off, row.n, err)
		}
	}
	buf := make([]byte, 100)
	if n, err := b.ReadAt(buf, size-40); n != 40 || err != io.EOF {
		t.Errorf("read over the end: %d, %v", n, err)
	}
	if n, err := b.ReadAt(buf, size); n != 0 || err != io.EOF {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	if b.Hash(-1) != (Hash{}) || b.Hash(3) != (Hash{}) || b.Pieces() != 3 || b.PieceSize() != smallPieces || b.Digest() != d {
		t.Error("accessors")
	}
	b.Close()
	if _, err := b.ReadAt(buf, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if _, err := b.OpenFile(); !errors.Is(err, ErrClosed) {
		t.Errorf("open after close: %v", err)
	}
}
