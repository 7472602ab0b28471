package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"testing"

	"github.com/meshd-project/meshd/e2e/testlog"
	"github.com/opencontainers/go-digest"
)

func TestScoped(t *testing.T) {
	d := digest.FromString("secret")
	seen := map[digest.Digest]bool{d: true}
	for _, registry := range []string{"a.example", "b.example", "a.example:443"} {
		id, err := Scoped(registry, d)
		if err != nil || id.Validate() != nil || checkDigest(id) != nil || seen[id] {
			t.Fatalf("%s: %q, %v", registry, id, err)
		}
		seen[id] = true
		if content, scoped := Content(id); content != d || !scoped {
			t.Errorf("%s: content %s, %v", registry, content, scoped)
		}
		if _, err := Scoped(registry, id); !errors.Is(err, ErrUnsupported) {
			t.Errorf("scoped twice: %v", err)
		}
	}
	for _, d := range []digest.Digest{d, digest.SHA512.FromString("x"), digest.SHA384.FromString("x"), "sha512:6d65736864", "", "x"} {
		if content, scoped := Content(d); content != d || scoped {
			t.Errorf("%q: content %q, %v", d, content, scoped)
		}
	}
	for _, d := range []digest.Digest{"", "sha256:x", digest.SHA512.FromString("x")} {
		if id, err := Scoped("a.example", d); err == nil {
			t.Errorf("%q: %q", d, id)
		}
	}
}

// FuzzContent: whatever is taken for a scoped name holds a good digest, and only one that Scoped could have made is.
func FuzzContent(f *testing.F) {
	id, _ := Scoped("a.example", digest.FromString("x"))
	f.Add(string(id), "a.example")
	f.Add("sha512:"+string(make([]byte, 128)), "")
	f.Fuzz(func(t *testing.T, name, registry string) {
		d := digest.Digest(name)
		if d.Validate() != nil {
			return
		}
		content, scoped := Content(d)
		if content.Validate() != nil || scoped == (content == d) {
			t.Fatalf("%q: %q, %v", name, content, scoped)
		}
		if id, err := Scoped(registry, content); err == nil {
			if back, ok := Content(id); !ok || back != content {
				t.Fatalf("%q comes back as %q", content, back)
			}
		}
	})
}

// TestScopedBlob: a private blob is proven by its real digest when it arrives, when it is resumed, and when its sidecar
// is lost; and it is another blob than the public one and that of another registry.
func TestScopedBlob(t *testing.T) {
	testlog.To(t)
	for _, pieces := range []int{1, 3} {
		data := []byte("0123456789abcdef")
		size, pieceSize := int64(len(data)), int64((len(data)+pieces-1)/pieces)
		d := digest.FromBytes(data)
		id, err := Scoped("a.example", d)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		open := func() *Store {
			s, err := Open(Config{Dir: dir, PieceSize: func(int64) int64 { return pieceSize }})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		write := func(s *Store, data []byte) *Partial {
			p, err := s.Begin(id, size, pieceSize)
			if err != nil {
				t.Fatal(err)
			}
			for i := range p.Pieces() {
				part := data[int64(i)*pieceSize : min(int64(i+1)*pieceSize, size)]
				if err := p.WritePiece(i, part, sha256.Sum256(part), nil); err != nil {
					t.Fatal(err)
				}
			}
			return p
		}
		s := open()
		wrong := []byte("0123456789abcdeX")
		p := write(s, wrong)
		if err := p.Verify(context.Background()); !errors.Is(err, ErrDigestMismatch) {
			t.Fatalf("wrong bytes: %v", err)
		}
		if err := p.Discard(); err != nil {
			t.Fatal(err)
		}
		p = write(s, data)
		b, err := p.Commit(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		b.Close()
		p.Close()
		for _, other := range []digest.Digest{d, must(Scoped("b.example", d))} {
			if _, err := s.Get(other); !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", other, err)
			}
		}
		s.Close()
		if err := os.Remove(paths{dir}.meta(id)); err != nil {
			t.Fatal(err)
		}
		s = open()
		if b, err = s.Get(id); err != nil {
			t.Fatalf("without its sidecar: %v", err)
		}
		b.Close()
		s.Close()
		if err := os.Remove(paths{dir}.meta(id)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(paths{dir}.blob(id), wrong, 0o600); err != nil {
			t.Fatal(err)
		}
		s = open()
		if _, err := s.Get(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("bit rot: %v", err)
		}
		s.Close()
	}
}

func must(d digest.Digest, err error) digest.Digest {
	if err != nil {
		panic(err)
	}
	return d
}
