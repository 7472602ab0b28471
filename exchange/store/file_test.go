package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestFile(t *testing.T) {
	a, b := File([]byte("a")), File([]byte("b"))
	if a == b || !IsFile(a) || !IsFile(b) || checkDigest(a) != nil {
		t.Errorf("%s, %s", a, b)
	}
	if content, scoped := Content(a); content != a || scoped {
		t.Errorf("a file has content %s, %v", content, scoped)
	}
	scoped, _ := Scoped("a.example", digest.FromString("x"))
	for _, d := range []digest.Digest{"", "x", digest.FromString("x"), digest.SHA512.FromString("x"), scoped, a[:40], a + "0", digest.Digest(filePrefix)} {
		if IsFile(d) {
			t.Errorf("%q is taken for a file", d)
		}
	}
}

// FuzzIsFile: a name of a file is a good digest, and never one of a private blob.
func FuzzIsFile(f *testing.F) {
	f.Add(string(File(nil)))
	f.Add(scopedPrefix)
	f.Fuzz(func(t *testing.T, name string) {
		d := digest.Digest(name)
		if _, scoped := Content(d); IsFile(d) && (scoped || checkDigest(d) != nil) {
			t.Fatalf("%q", name)
		}
	})
}

// fillFile writes the pieces of data, whatever the partial's name.
func fillFile(t *testing.T, p *Partial, data []byte) {
	t.Helper()
	for i := range p.Pieces() {
		off, n := p.layout.span(i)
		part := data[off : off+n]
		if err := p.WritePiece(i, part, sha256.Sum256(part), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// A file is complete when its pieces are, survives a restart by their hashes, and is dropped without them.
func TestFileBlob(t *testing.T) {
	for _, size := range []int{100, 3*smallPieces + 5} {
		data, name := sample(1, size), File([]byte("name"))
		s := tempStore(t)
		p, err := s.Begin(name, int64(size), smallPieces)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Root(); !errors.Is(err, ErrIncomplete) {
			t.Errorf("root of nothing: %v", err)
		}
		if err := p.Verify(t.Context()); !errors.Is(err, ErrIncomplete) {
			t.Errorf("verify of nothing: %v", err)
		}
		fillFile(t, p, data)
		if err := p.Verify(t.Context()); err != nil {
			t.Fatal(err)
		}
		b, err := p.Commit(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		b.Close()
		p.Close()

		s = s.reopened(t)
		got, err := s.Get(name)
		if err != nil {
			t.Fatalf("after a restart: %v", err)
		}
		back := make([]byte, size)
		if _, err := got.ReadAt(back, 0); err != nil || string(back) != string(data) {
			t.Errorf("other bytes after a restart: %v", err)
		}
		got.Close()

		if err := os.Remove(s.paths.meta(name)); err != nil {
			t.Fatal(err)
		}
		if b, err := s.reopened(t).Get(name); err == nil {
			b.Close()
			t.Error("a file without its hashes is given out")
		}
	}
}

func TestRootTellsFilesApart(t *testing.T) {
	roots := map[Hash]bool{}
	s := tempStore(t)
	for i, data := range [][]byte{sample(1, 3000), sample(2, 3000), append(sample(1, 1024), sample(2, 1976)...)} {
		p, err := s.Begin(File([]byte{byte(i)}), 3000, smallPieces)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		fillFile(t, p, data)
		root, err := p.Root()
		if err != nil || roots[root] {
			t.Errorf("%d: %x, %v", i, root, err)
		}
		roots[root] = true
	}
}
