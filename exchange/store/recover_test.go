package store

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
)

// half leaves a closed partial with the even pieces of data.
func half(t *testing.T, s *Store, data []byte) (even []int) {
	t.Helper()
	p := begin(t, s, data)
	for i := 0; i < p.Pieces(); i += 2 {
		even = append(even, i)
	}
	fill(t, p, data, even...)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return even
}

func heldPieces(p *Partial) (out []int) {
	for i := range p.Pieces() {
		if p.Have(i) {
			out = append(out, i)
		}
	}
	return out
}

// edit changes a file through f.
func edit(t *testing.T, name string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, f(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 0x10; return b }
}

func cut(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:len(b)-n] } }

func TestResume(t *testing.T) {
	data := sample(1, 9*smallPieces+100)
	d := digest.FromBytes(data)
	rec := recordFixed + len(proofOf(0))
	for _, row := range []struct {
		name   string
		damage func(t *testing.T, data, journal string)
		want   []int // of the even pieces written
	}{
		{"untouched", func(*testing.T, string, string) {}, []int{0, 2, 4, 6, 8}},
		{"torn tail", func(t *testing.T, _, j string) { edit(t, j, cut(3)) }, []int{0, 2, 4, 6}},
		{"whole record torn", func(t *testing.T, _, j string) { edit(t, j, cut(rec)) }, []int{0, 2, 4, 6}},
		{"garbage behind", func(t *testing.T, _, j string) {
			edit(t, j, func(b []byte) []byte { return append(b, sample(3, 1000)...) })
		}, []int{0, 2, 4, 6, 8}},
		{"zeros behind", func(t *testing.T, _, j string) {
			edit(t, j, func(b []byte) []byte { return append(b, make([]byte, 4096)...) })
		}, []int{0, 2, 4, 6, 8}},
		{"record damaged: all after it go", func(t *testing.T, _, j string) {
			edit(t, j, func(b []byte) []byte { return flip(len(b) - 2*rec - 5)(b) })
		}, []int{0, 2}},
		{"journal without records", func(t *testing.T, _, j string) {
			edit(t, j, func(b []byte) []byte { return b[:journalFixed+len(d)+4] })
		}, nil},
		{"journal header damaged", func(t *testing.T, _, j string) { edit(t, j, flip(10)) }, nil},
		{"journal empty", func(t *testing.T, _, j string) { edit(t, j, func([]byte) []byte { return nil }) }, nil},
		{"journal missing", func(t *testing.T, _, j string) { os.Remove(j) }, nil},
		{"data damaged", func(t *testing.T, f, _ string) { edit(t, f, flip(4*smallPieces+9)) }, []int{0, 2, 6, 8}},
		{"data of a missing piece damaged", func(t *testing.T, f, _ string) { edit(t, f, flip(3*smallPieces)) }, []int{0, 2, 4, 6, 8}},
		{"data cut", func(t *testing.T, f, _ string) { edit(t, f, cut(2*smallPieces)) }, nil},
		{"data missing", func(t *testing.T, f, _ string) { os.Remove(f) }, nil},
	} {
		for _, when := range []string{"closed store", "same process"} {
			t.Run(row.name+"/"+when, func(t *testing.T) {
				s := tempStore(t)
				half(t, s, data)
				want := row.want
				if when == "closed store" {
					s.Close()
					row.damage(t, s.paths.partial(d), s.paths.journal(d))
					s = openStore(t, s.cfg)
				} else {
					row.damage(t, s.paths.partial(d), s.paths.journal(d))
					if row.name == "data cut" { // an index in memory keeps it: what is there is hashed
						want = []int{0, 2, 4, 6}
					}
				}
				p := begin(t, s, data)
				if got := heldPieces(p); !slices.Equal(got, want) {
					t.Errorf("held %v, want %v", got, want)
				}
				wantHeldRight(t, p, data)
				for _, i := range heldPieces(p) {
					if string(p.Proof(i)) != string(proofOf(i)) {
						t.Errorf("proof of piece %d is %q", i, p.Proof(i))
					}
				}
				fill(t, p, data)
				b, err := p.Commit(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				wantContent(t, b, data)
				b.Close()
				p.Close()
				if u := s.Usage(); u.Bytes != int64(len(data)) || u.Blobs != 1 {
					t.Errorf("usage %+v", u)
				}
			})
		}
	}
}

// Resumed again and again, records pile up, and the last of a piece counts.
func TestResumeOften(t *testing.T) {
	s := tempStore(t)
	data := sample(1, 6*smallPieces)
	d := digest.FromBytes(data)
	for i := range 6 {
		p := begin(t, s, data)
		fill(t, p, data, i)
		p.Close()
		edit(t, s.paths.partial(d), flip(0)) // piece 0 is lost in every other round, and written again
		p = begin(t, s, data)
		fill(t, p, data, 0)
		p.Close()
		s = s.reopened(t)
	}
	p := begin(t, s, data)
	defer p.Close()
	if got := heldPieces(p); len(got) != 6 {
		t.Errorf("held %v", got)
	}
	wantHeldRight(t, p, data)
}

func TestResumeOtherLayout(t *testing.T) {
	s := tempStore(t)
	data := sample(1, 4*smallPieces)
	half(t, s, data)
	p, err := s.Begin(digest.FromBytes(data), int64(len(data)), 2*smallPieces)
	if err != nil {
		t.Fatal(err)
	}
	if p.Held() != 0 {
		t.Error("pieces of another layout are kept")
	}
	p.Close()
	half(t, s, data)
	p, err = s.Begin(digest.FromBytes(data), int64(len(data))-1, smallPieces) // the size was wrong
	if err != nil {
		t.Fatal(err)
	}
	if p.Held() != 0 {
		t.Error("pieces of another size are kept")
	}
	p.Close()
	wantEmpty(t, s)
}

// What a crash or a visitor may leave in the directory, and what Open makes of it.
func TestOpenCleans(t *testing.T) {
	data := sample(1, 4*smallPieces)
	d := digest.FromBytes(data)
	s := tempStore(t)
	keep(t, s, data)
	other := sample(2, 4*smallPieces)
	half(t, s, other)
	s.Close()
	p := s.paths
	copyFile := func(from, to string) {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x := digest.FromString("x")
	copyFile(p.meta(d), p.meta(x))                                       // sidecar without a blob
	copyFile(p.meta(d), p.meta(x)+tempExt)                               // sidecar half written
	copyFile(p.blob(d), p.partial(x))                                    // partial without a journal
	copyFile(p.journal(digest.FromBytes(other)), p.journal(d))           // journal left by a commit
	copyFile(p.blob(d), p.partials(digest.SHA256)+"/strange")            // no name of ours
	copyFile(p.blob(d), p.trash()+"/7")                                  // eviction cut short
	copyFile(p.blob(d), p.blobs(digest.SHA256)+"/README")                // a visitor's: it stays
	copyFile(p.journal(digest.FromBytes(other)), p.journal(x)+"garbage") // no name of ours
	s = openStore(t, s.cfg)
	want := []string{
		"blobs/sha256/" + d.Encoded(), "blobs/sha256/" + d.Encoded() + ".meta", "blobs/sha256/README", "lock",
		"partial/sha256/" + digest.FromBytes(other).Encoded(), "partial/sha256/" + digest.FromBytes(other).Encoded() + ".journal",
	}
	slices.Sort(want)
	got := filesUnder(t, s.cfg.Dir)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("left %v,\nwant %v", got, want)
	}
	if u := s.Usage(); u.Blobs != 1 || u.Partials != 1 || u.Bytes != 8*smallPieces {
		t.Errorf("usage %+v", u)
	}
}

// A journal under another blob's name proves nothing for it.
func TestJournalOfAnother(t *testing.T) {
	s := tempStore(t)
	data, other := sample(1, 4*smallPieces), sample(2, 4*smallPieces)
	half(t, s, data)
	s.Close()
	a, b := digest.FromBytes(data), digest.FromBytes(other)
	for _, name := range []func(digest.Digest) string{s.paths.partial, s.paths.journal} {
		if err := os.Rename(name(a), name(b)); err != nil {
			t.Fatal(err)
		}
	}
	wantEmpty(t, openStore(t, s.cfg))
}

func TestSidecarLost(t *testing.T) {
	data := sample(1, 5*smallPieces+3)
	d := digest.FromBytes(data)
	for _, row := range []struct {
		name   string
		damage func(t *testing.T, meta string)
	}{
		{"missing", func(t *testing.T, m string) { os.Remove(m) }},
		{"empty", func(t *testing.T, m string) { edit(t, m, func([]byte) []byte { return nil }) }},
		{"header damaged", func(t *testing.T, m string) { edit(t, m, flip(20)) }},
		{"hash damaged", func(t *testing.T, m string) { edit(t, m, flip(60)) }},
		{"sum damaged", func(t *testing.T, m string) { edit(t, m, func(b []byte) []byte { return flip(len(b) - 1)(b) }) }},
		{"cut", func(t *testing.T, m string) { edit(t, m, cut(40)) }},
		{"longer", func(t *testing.T, m string) { edit(t, m, func(b []byte) []byte { return append(b, 0) }) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := tempStore(t)
			keep(t, s, data)
			s.Close()
			row.damage(t, s.paths.meta(d))
			s = openStore(t, s.cfg)
			mustRead(t, s, data)
			if side, err := s.readSidecar(d); err != nil || len(side.hashes) != 6 {
				t.Errorf("sidecar was not written again: %v", err)
			}
			// With the data wrong as well there is nothing left to trust.
			s.Close()
			row.damage(t, s.paths.meta(d))
			edit(t, s.paths.blob(d), flip(77))
			s = openStore(t, s.cfg)
			if _, err := s.Get(d); !errors.Is(err, ErrNotFound) {
				b, _ := s.Get(d)
				if _, err := b.ReadAt(make([]byte, 1), 77); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("wrong data passes: %v", err)
				}
				b.Close()
			}
			wantEmpty(t, s)
		})
	}
}

// The piece size follows Config.PieceSize when that changes.
func TestPieceSizeChanges(t *testing.T) {
	s := tempStore(t)
	data := sample(1, 5*smallPieces)
	d := keep(t, s, data)
	s.cfg.PieceSize = func(int64) int64 { return 2 * smallPieces }
	s = s.reopened(t)
	mustRead(t, s, data)
	if i, err := s.Stat(d); err != nil || i.PieceSize != 2*smallPieces {
		t.Errorf("piece size %d, %v", i.PieceSize, err)
	}
}
