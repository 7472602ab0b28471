package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/meshd-project/meshd/e2e/testlog"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	goleak.VerifyTestMain(m)
}

// sample returns size bytes that only seed decides.
func sample(seed uint64, size int) []byte {
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// smallPieces is the PieceSize of tests: 1 KiB always.
const smallPieces = 1 << 10

func testConfig(dir string) Config {
	return Config{Dir: dir, MinFree: -1, PieceSize: func(int64) int64 { return smallPieces }}
}

func openStore(t testing.TB, cfg Config) *Store {
	t.Helper()
	testlog.To(t)
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// tempStore opens a store in a directory of its own.
func tempStore(t testing.TB, change ...func(*Config)) *Store {
	t.Helper()
	cfg := testConfig(t.TempDir())
	for _, f := range change {
		f(&cfg)
	}
	return openStore(t, cfg)
}

// reopened closes the store and opens its directory again.
func (s *Store) reopened(t testing.TB) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return openStore(t, s.cfg)
}

// abandon stops a store as a killed process would: descriptors and lock go, nothing else is done.
func (s *Store) abandon() {
	s.mu.Lock()
	s.closed = true
	var live []*Partial
	for _, e := range s.entries {
		if e.partial != nil {
			live = append(live, e.partial)
		}
	}
	s.mu.Unlock()
	for _, p := range live {
		p.hasher.Stop()
		p.flusher.Stop()
		p.data.Close()
		p.journal.f.Close()
	}
	s.lock.Close()
}

func begin(t testing.TB, s *Store, data []byte) *Partial {
	t.Helper()
	p, err := s.Begin(digest.FromBytes(data), int64(len(data)), smallPieces)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pieceOf returns piece i of data and its hash.
func pieceOf(l layout, data []byte, i int) ([]byte, Hash) {
	off, n := l.span(i)
	b := data[off : off+n]
	return b, sha256.Sum256(b)
}

// fill writes the pieces given, or all.
func fill(t testing.TB, p *Partial, data []byte, pieces ...int) {
	t.Helper()
	if pieces == nil {
		for i := range p.Pieces() {
			pieces = append(pieces, i)
		}
	}
	for _, i := range pieces {
		b, sum := pieceOf(p.layout, data, i)
		if err := p.WritePiece(i, b, sum, proofOf(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func proofOf(i int) []byte { return fmt.Appendf(nil, "proof of %d", i) }

// keep commits data whole.
func keep(t testing.TB, s *Store, data []byte) digest.Digest {
	t.Helper()
	p := begin(t, s, data)
	defer p.Close()
	fill(t, p, data)
	b, err := p.Commit(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	return digest.FromBytes(data)
}

// mustRead gets a blob and compares it with data, by ReadAt and by descriptor.
func mustRead(t testing.TB, s *Store, data []byte) {
	t.Helper()
	b, err := s.Get(digest.FromBytes(data))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	wantContent(t, b, data)
}

func wantContent(t testing.TB, b *Blob, data []byte) {
	t.Helper()
	got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("ReadAt: %d bytes, equal %v, err %v", len(got), bytes.Equal(got, data), err)
	}
	f, err := b.OpenFile()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err = io.ReadAll(f)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("OpenFile: %d bytes, equal %v, err %v", len(got), bytes.Equal(got, data), err)
	}
	for i := range b.Pieces() {
		if _, sum := pieceOf(b.ledger.layout, data, i); b.Hash(i) != sum {
			t.Fatalf("hash of piece %d differs", i)
		}
	}
}

// filesUnder lists the files of a directory tree by their paths below it.
func filesUnder(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
