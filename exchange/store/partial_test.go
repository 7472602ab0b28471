package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
)

func TestBeginRefuses(t *testing.T) {
	s := tempStore(t, func(c *Config) { c.Capacity = 1 << 20 })
	good := digest.FromString("x")
	for _, row := range []struct {
		name            string
		d               digest.Digest
		size, pieceSize int64
		want            error
	}{
		{"zero digest", "", 1, 1, ErrInvalid},
		{"short digest", "sha256:abcd", 1, 1, ErrInvalid},
		{"upper case", digest.Digest("sha256:" + string(bytes.ToUpper([]byte(good.Encoded())))), 1, 1, ErrInvalid},
		{"path in digest", "sha256:../../../../etc/passwd", 1, 1, ErrInvalid},
		{"unknown algorithm", digest.Digest("md5:" + good.Encoded()[:32]), 1, 1, ErrUnsupported},
		{"sha384", digest.SHA384.FromString("x"), 1, 1, ErrUnsupported},
		{"negative size", good, -1, 1, ErrInvalid},
		{"no piece size", good, 1, 0, ErrInvalid},
		{"negative piece size", good, 1, -1, ErrInvalid},
		{"huge piece size", good, 1, 1 << 62, ErrInvalid},
		{"too many pieces", good, MaxPieces + 1, 1, ErrInvalid},
		{"beyond capacity", good, 1<<20 + 1, 1 << 20, ErrNoSpace},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := s.Begin(row.d, row.size, row.pieceSize); !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
	if u := s.Usage(); u.Bytes != 0 || u.Partials != 0 {
		t.Errorf("refusals left %+v", u)
	}
}

func TestWritePieceRefuses(t *testing.T) {
	s := tempStore(t)
	data := sample(1, 3*smallPieces+5)
	p := begin(t, s, data)
	defer p.Close()
	fill(t, p, data, 1)
	piece := func(n int) []byte { return make([]byte, n) }
	for _, row := range []struct {
		name  string
		i     int
		data  []byte
		proof []byte
		want  error
	}{
		{"index below", -1, piece(smallPieces), nil, ErrInvalid},
		{"index beyond", 4, piece(smallPieces), nil, ErrInvalid},
		{"empty", 0, nil, nil, ErrInvalid},
		{"short", 0, piece(smallPieces - 1), nil, ErrInvalid},
		{"long", 0, piece(smallPieces + 1), nil, ErrInvalid},
		{"whole last", 3, piece(smallPieces), nil, ErrInvalid},
		{"long proof", 0, piece(smallPieces), piece(MaxProof + 1), ErrInvalid},
		{"held with another hash", 1, piece(smallPieces), nil, ErrConflict},
		{"last", 3, piece(5), piece(MaxProof), nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := p.WritePiece(row.i, row.data, sha256.Sum256(row.data), row.proof); !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
	if !p.Have(1) || !p.Have(3) || p.Have(0) || p.Have(-1) || p.Have(4) || p.Held() != smallPieces+5 {
		t.Error("pieces held are not those written")
	}
	if !bytes.Equal(p.Proof(1), proofOf(1)) || p.Proof(0) != nil || p.Hash(0) != (Hash{}) || p.Hash(9) != (Hash{}) {
		t.Error("hash or proof of a piece")
	}
}

func TestReadOnlyWhatIsHeld(t *testing.T) {
	s := tempStore(t)
	data := sample(1, 4*smallPieces)
	p := begin(t, s, data)
	defer p.Close()
	fill(t, p, data, 1, 2)
	buf := make([]byte, 2*smallPieces)
	if n, err := p.ReadAt(buf, smallPieces); n != len(buf) || err != nil || !bytes.Equal(buf, data[smallPieces:3*smallPieces]) {
		t.Errorf("read of held pieces: %d, %v", n, err)
	}
	for _, off := range []int64{0, smallPieces + 1, 3 * smallPieces} {
		if n, err := p.ReadAt(buf, off); n != 0 || !errors.Is(err, ErrIncomplete) {
			t.Errorf("read at %d: %d, %v", off, n, err)
		}
	}
	if _, err := p.ReadAt(buf, 4*smallPieces); err != io.EOF {
		t.Errorf("read at the end: %v", err)
	}
	if _, err := p.ReadAt(buf, -1); !errors.Is(err, ErrInvalid) {
		t.Errorf("read before the start: %v", err)
	}
}

func TestLifecycle(t *testing.T) {
	ctx := context.Background()
	s := tempStore(t)
	data := sample(1, 4*smallPieces)
	d := digest.FromBytes(data)
	p := begin(t, s, data)
	if _, err := s.Begin(d, p.Size(), p.PieceSize()); !errors.Is(err, ErrInUse) {
		t.Errorf("second begin: %v", err)
	}
	if err := s.Delete(d); !errors.Is(err, ErrInUse) {
		t.Errorf("delete of a live partial: %v", err)
	}
	if err := s.Put(d, "", data); !errors.Is(err, ErrInUse) {
		t.Errorf("put over a live partial: %v", err)
	}
	if _, err := s.Get(d); !errors.Is(err, ErrNotFound) {
		t.Errorf("get of a live partial: %v", err)
	}
	fill(t, p, data, 3, 0, 2)
	if err := p.Verify(ctx); !errors.Is(err, ErrIncomplete) {
		t.Errorf("verify with a piece missing: %v", err)
	}
	if _, err := p.Commit(ctx); !errors.Is(err, ErrIncomplete) {
		t.Errorf("commit with a piece missing: %v", err)
	}
	early, err := p.OpenFile()
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	fill(t, p, data, 1)
	if err := p.Verify(ctx); err != nil {
		t.Fatal(err)
	}
	b, err := p.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	wantContent(t, b, data)
	if got, err := io.ReadAll(early); err != nil || !bytes.Equal(got, data) {
		t.Errorf("descriptor from before the commit reads %d bytes, %v", len(got), err)
	}
	late, err := p.OpenFile()
	if err != nil {
		t.Fatal(err)
	}
	late.Close()
	again, err := p.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	fill(t, p, data, 0) // late duplicate
	if err := p.Reset(); !errors.Is(err, ErrComplete) {
		t.Errorf("reset after commit: %v", err)
	}
	if err := p.Discard(); err != nil {
		t.Errorf("discard after commit: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	mustRead(t, s, data)
	if _, err := p.OpenFile(); !errors.Is(err, ErrClosed) {
		t.Errorf("open after close: %v", err)
	}
	if _, err := p.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

func TestAfterClose(t *testing.T) {
	s := tempStore(t)
	data := sample(1, 2*smallPieces)
	p := begin(t, s, data)
	fill(t, p, data, 0)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	b, sum := pieceOf(p.layout, data, 1)
	for name, err := range map[string]error{
		"write":  p.WritePiece(1, b, sum, nil),
		"verify": p.Verify(context.Background()),
		"reset":  p.Reset(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := p.Discard(); err != nil {
		t.Errorf("discard after close: %v", err)
	}
	if i, err := s.Stat(p.Digest()); err != nil || i.Complete || i.Have != smallPieces || i.InUse {
		t.Errorf("closed partial: %+v, %v", i, err)
	}
}

func TestDigestMismatch(t *testing.T) {
	ctx := context.Background()
	for _, size := range []int{1, smallPieces, 5 * smallPieces} {
		s := tempStore(t)
		data, wrong := sample(1, size), sample(2, size)
		p := begin(t, s, data)
		fill(t, p, wrong)
		for range 2 {
			if _, err := p.Commit(ctx); !errors.Is(err, ErrDigestMismatch) {
				t.Fatalf("commit of wrong bytes: %v", err)
			}
		}
		if !p.Have(0) {
			t.Error("a mismatch drops pieces")
		}
		if err := p.Reset(); err != nil {
			t.Fatal(err)
		}
		if p.Have(0) || p.Held() != 0 {
			t.Error("reset keeps pieces")
		}
		fill(t, p, data)
		b, err := p.Commit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		wantContent(t, b, data)
		b.Close()
		p.Close()
	}
}

func TestDiscardLeavesNothing(t *testing.T) {
	for _, written := range [][]int{{}, {1}} {
		s := tempStore(t)
		data := sample(1, 2*smallPieces)
		p := begin(t, s, data)
		fill(t, p, data, written...)
		f, err := p.OpenFile()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Discard(); err != nil {
			t.Fatal(err)
		}
		f.Close()
		wantEmpty(t, s)
	}
}

// A partial in which nothing was written is not worth keeping.
func TestCloseOfNothing(t *testing.T) {
	s := tempStore(t)
	p := begin(t, s, sample(1, 2*smallPieces))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, s)
}

// wantEmpty checks that a store holds nothing, in its index and on disk.
func wantEmpty(t *testing.T, s *Store) {
	t.Helper()
	if u := s.Usage(); u.Bytes != 0 || u.Blobs != 0 || u.Partials != 0 {
		t.Errorf("not empty: %+v", u)
	}
	if got := filesUnder(t, s.cfg.Dir); !slices.Equal(got, []string{"lock"}) {
		t.Errorf("files left: %v", got)
	}
}

func TestConcurrentWriters(t *testing.T) {
	s := tempStore(t)
	data := sample(1, 200*smallPieces+17)
	p := begin(t, s, data)
	defer p.Close()
	var wg sync.WaitGroup
	for w := range 8 { // each writes all pieces, from another start
		wg.Go(func() {
			for k := range p.Pieces() {
				i := (k + w*25) % p.Pieces()
				b, sum := pieceOf(p.layout, data, i)
				if err := p.WritePiece(i, b, sum, proofOf(i)); err != nil {
					t.Error(err)
				}
				got := make([]byte, len(b))
				off, _ := p.layout.span(i)
				if _, err := p.ReadAt(got, off); err != nil || !bytes.Equal(got, b) {
					t.Errorf("piece %d reads back wrong: %v", i, err)
				}
			}
		})
	}
	wg.Go(func() { // a Verify that gives up is no harm
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = p.Verify(ctx)
	})
	wg.Wait()
	if p.Held() != p.Size() {
		t.Fatalf("%d of %d bytes held", p.Held(), p.Size())
	}
	b, err := p.Commit(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, b, data)
	b.Close()
}

// Writers, Reset, Verify and Close at once: whatever is held at any time is right.
func TestConcurrentReset(t *testing.T) {
	s := tempStore(t)
	data := sample(1, 50*smallPieces)
	p := begin(t, s, data)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range p.Pieces() {
				b, sum := pieceOf(p.layout, data, i)
				if err := p.WritePiece(i, b, sum, nil); err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			if err := p.Reset(); err != nil && !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			if err := p.Verify(context.Background()); err != nil && !errors.Is(err, ErrIncomplete) && !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	wg.Go(func() { p.Close() })
	wg.Go(func() { p.Close() })
	wg.Wait()
	p = begin(t, s, data)
	defer p.Close()
	wantHeldRight(t, p, data)
	fill(t, p, data)
	if err := p.Verify(context.Background()); err != nil {
		t.Error(err)
	}
}

// gateDisk holds writes to the data of partials until gate is closed.
type gateDisk struct {
	osDisk
	gate chan struct{}
}

type gateFile struct {
	file
	gate chan struct{}
}

func (d gateDisk) Open(name string, flag int) (file, error) {
	f, err := d.osDisk.Open(name, flag)
	if err != nil || filepath.Ext(name) != "" {
		return f, err
	}
	return gateFile{f, d.gate}, nil
}

func (f gateFile) WriteAt(b []byte, off int64) (int, error) {
	<-f.gate
	return f.file.WriteAt(b, off)
}

// Reset, Commit, Discard and Close must not overtake a write: its bytes would land among those of later pieces.
// A second write of the same piece waits for the first.
func TestWaitForWriters(t *testing.T) {
	data := sample(1, 3*smallPieces)
	for _, row := range []struct {
		name string
		call func(p *Partial) error
		want error
		have bool
	}{
		{"reset", (*Partial).Reset, nil, false},
		{"close", (*Partial).Close, nil, true},
		{"discard", (*Partial).Discard, nil, true},
		{"write", func(p *Partial) error {
			b, sum := pieceOf(p.layout, data, 1)
			return p.WritePiece(1, b, sum, nil)
		}, nil, true},
		{"other write", func(p *Partial) error { return p.WritePiece(1, data[:smallPieces], Hash{1}, nil) }, ErrConflict, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gate := make(chan struct{})
				s, err := open(testConfig(t.TempDir()), gateDisk{gate: gate})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				p := begin(t, s, data)
				go func() {
					b, sum := pieceOf(p.layout, data, 1)
					if err := p.WritePiece(1, b, sum, proofOf(1)); err != nil {
						t.Error(err)
					}
				}()
				synctest.Wait()
				done := make(chan error, 1)
				go func() { done <- row.call(p) }()
				synctest.Wait()
				if len(done) > 0 {
					t.Error("did not wait")
				}
				close(gate)
				if err := <-done; !errors.Is(err, row.want) {
					t.Errorf("got %v, want %v", err, row.want)
				}
				synctest.Wait()
				if p.Have(1) != row.have {
					t.Errorf("piece held: %v", p.Have(1))
				}
			})
		})
	}
}

// wantHeldRight checks every piece that a partial says it has.
func wantHeldRight(t testing.TB, p *Partial, data []byte) (held int) {
	t.Helper()
	for i := range p.Pieces() {
		if !p.Have(i) {
			continue
		}
		held++
		want, sum := pieceOf(p.layout, data, i)
		off, n := p.layout.span(i)
		got := make([]byte, n)
		if _, err := p.ReadAt(got, off); err != nil && err != io.EOF || !bytes.Equal(got, want) || p.Hash(i) != sum {
			t.Fatalf("piece %d is trusted and wrong (%v)", i, err)
		}
	}
	return held
}

func TestStoreClosed(t *testing.T) {
	s := tempStore(t)
	data := sample(1, 3*smallPieces)
	d := keep(t, s, data)
	b, err := s.Get(d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	other := sample(2, 3*smallPieces)
	p := begin(t, s, other)
	fill(t, p, other, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	_, errGet := s.Get(d)
	_, errStat := s.Stat(d)
	_, errBegin := s.Begin(d, 1, 1)
	for name, err := range map[string]error{
		"get": errGet, "stat": errStat, "begin": errBegin, "put": s.Put(d, "", data), "delete": s.Delete(d),
		"write": p.WritePiece(0, other[:smallPieces], sha256.Sum256(other[:smallPieces]), nil),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantContent(t, b, data) // an open blob goes on
	s = openStore(t, s.cfg)
	p = begin(t, s, other)
	defer p.Close()
	if wantHeldRight(t, p, other) != 1 {
		t.Error("piece of a partial that Close closed is lost")
	}
}

func TestLocked(t *testing.T) {
	s := tempStore(t)
	_, err := Open(s.cfg)
	if !errors.Is(err, ErrLocked) || !bytes.Contains([]byte(err.Error()), []byte("(pid ")) {
		t.Errorf("second open: %v", err)
	}
	s.reopened(t)
}

func TestConfigValidate(t *testing.T) {
	for _, row := range []struct {
		name string
		cfg  Config
		ok   bool
	}{
		{"zero", Config{}, false},
		{"dir alone", Config{Dir: "x"}, true},
		{"negative capacity", Config{Dir: "x", Capacity: -1}, false},
		{"negative TTL", Config{Dir: "x", PartialTTL: -1}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := row.cfg.Validate(); (err == nil) != row.ok {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := Open(Config{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("open without a directory: %v", err)
	}
	name := t.TempDir() + "/file"
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: name}); err == nil {
		t.Error("open of a file succeeds")
	}
}
