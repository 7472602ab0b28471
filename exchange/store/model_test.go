package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"
)

// The model: what a store must hold, told by maps and slices.
type model struct {
	blobs []*modelBlob // by sample
	cap   int64
}

type modelBlob struct {
	data     []byte // what the digest names
	source   []byte // what is written, which may be something else
	complete bool
	held     []bool // nil: nothing on disk
	live     *Partial
	open     []*Blob
	pinned   bool
}

const (
	modelBlobs = 5
	modelSize  = 3*smallPieces + 100
)

func newModel(capacity int64) *model {
	m := &model{cap: capacity}
	for i := range modelBlobs {
		b := sample(uint64(i), modelSize)
		m.blobs = append(m.blobs, &modelBlob{data: b, source: b})
	}
	m.blobs[1].source = sample(99, modelSize) // an origin that serves something else
	return m
}

func (b *modelBlob) digest() digest.Digest { return digest.FromBytes(b.data) }
func (b *modelBlob) honest() bool          { return &b.data[0] == &b.source[0] }
func (b *modelBlob) inUse() bool           { return b.live != nil || len(b.open) > 0 }
func (b *modelBlob) stays() bool           { return b.inUse() || b.pinned && b.room() > 0 }
func (b *modelBlob) gone()                 { b.complete, b.held = false, nil }
func (b *modelBlob) room() int64 {
	if b.complete || b.live != nil || b.held != nil {
		return modelSize
	}
	return 0
}

// machine runs a store and its model side by side.
type machine struct {
	m *model
	s *Store
}

func (x *machine) blob(t *rapid.T) *modelBlob {
	return x.m.blobs[rapid.IntRange(0, modelBlobs-1).Draw(t, "blob")]
}

// stays sums up what may not be evicted, but for one blob.
func (x *machine) stays(but *modelBlob) (n int64) {
	for _, b := range x.m.blobs {
		if b != but && b.stays() {
			n += modelSize
		}
	}
	return n
}

// sync lets the model forget what the store may have evicted, which is nothing in use.
func (x *machine) sync(t *rapid.T) {
	for i, b := range x.m.blobs {
		if b.stays() || b.room() == 0 || x.m.cap == 0 {
			continue
		}
		if _, err := x.s.Stat(b.digest()); errors.Is(err, ErrNotFound) {
			b.gone()
		} else if err != nil {
			t.Fatalf("stat of %d: %v", i, err)
		}
	}
}

func (x *machine) Begin(t *rapid.T) {
	b := x.blob(t)
	p, err := x.s.Begin(b.digest(), modelSize, smallPieces)
	switch {
	case b.complete:
		want(t, err, ErrComplete)
	case b.live != nil:
		want(t, err, ErrInUse)
	case x.m.cap > 0 && b.room() == 0 && x.stays(b)+modelSize > x.m.cap:
		want(t, err, ErrNoSpace)
	default:
		want(t, err, nil)
		if b.held == nil {
			b.held = make([]bool, p.Pieces())
		}
		b.live = p
		x.heldAsInModel(t, b)
	}
	x.sync(t)
}

func (x *machine) heldAsInModel(t *rapid.T, b *modelBlob) {
	for i, held := range b.held {
		if b.live.Have(i) != held {
			t.Fatalf("piece %d held: %v, model %v", i, b.live.Have(i), held)
		}
		if !held {
			continue
		}
		piece, sum := pieceOf(b.live.layout, b.source, i)
		off, n := b.live.layout.span(i)
		got := make([]byte, n)
		if _, err := b.live.ReadAt(got, off); err != nil || !bytes.Equal(got, piece) || b.live.Hash(i) != sum {
			t.Fatalf("piece %d is wrong: %v", i, err)
		}
		if !bytes.Equal(b.live.Proof(i), proofOf(i)) {
			t.Fatalf("proof of piece %d is %q", i, b.live.Proof(i))
		}
	}
}

func (x *machine) liveOne(t *rapid.T) *modelBlob {
	b := x.blob(t)
	if b.live == nil {
		t.Skip("not live")
	}
	return b
}

func (x *machine) Write(t *rapid.T) {
	b := x.liveOne(t)
	i := rapid.IntRange(0, len(b.held)-1).Draw(t, "piece")
	piece, sum := pieceOf(b.live.layout, b.source, i)
	want(t, b.live.WritePiece(i, piece, sum, proofOf(i)), nil)
	b.held[i] = true
}

func (x *machine) Verify(t *rapid.T) {
	b := x.liveOne(t)
	want(t, b.live.Verify(context.Background()), b.verdict())
}

func (b *modelBlob) verdict() error {
	switch {
	case b.complete:
		return nil
	case slices.Contains(b.held, false):
		return ErrIncomplete
	case !b.honest():
		return ErrDigestMismatch
	}
	return nil
}

func (x *machine) Commit(t *rapid.T) {
	b := x.liveOne(t)
	got, err := b.live.Commit(context.Background())
	want(t, err, b.verdict())
	if err == nil {
		b.complete = true
		b.open = append(b.open, got)
	}
}

func (x *machine) Reset(t *rapid.T) {
	b := x.liveOne(t)
	if b.complete {
		want(t, b.live.Reset(), ErrComplete)
		return
	}
	want(t, b.live.Reset(), nil)
	clear(b.held)
}

func (x *machine) ClosePartial(t *rapid.T) {
	b := x.liveOne(t)
	want(t, b.live.Close(), nil)
	b.live = nil
	if !b.complete && !slices.Contains(b.held, true) {
		b.held = nil
	}
}

func (x *machine) Discard(t *rapid.T) {
	b := x.liveOne(t)
	want(t, b.live.Discard(), nil)
	b.live = nil
	if !b.complete {
		b.held = nil
	}
}

func (x *machine) Put(t *rapid.T) {
	b := x.blob(t)
	err := x.s.Put(b.digest(), manifestType, b.data)
	switch {
	case b.complete:
		want(t, err, nil)
	case b.live != nil:
		want(t, err, ErrInUse)
	case x.m.cap > 0 && x.stays(b)+modelSize > x.m.cap:
		want(t, err, ErrNoSpace)
		b.held = nil // a closed partial made way before
	default:
		want(t, err, nil)
		b.complete, b.held = true, nil
	}
	x.sync(t)
}

func (x *machine) Get(t *rapid.T) {
	b := x.blob(t)
	got, err := x.s.Get(b.digest())
	if !b.complete {
		want(t, err, ErrNotFound)
		return
	}
	want(t, err, nil)
	b.open = append(b.open, got)
}

func (x *machine) Read(t *rapid.T) {
	b := x.blob(t)
	if len(b.open) == 0 {
		t.Skip("not open")
	}
	off := rapid.IntRange(0, modelSize-1).Draw(t, "off")
	n := rapid.IntRange(1, modelSize-off).Draw(t, "n")
	got := make([]byte, n)
	_, err := b.open[0].ReadAt(got, int64(off))
	want(t, err, nil)
	if !bytes.Equal(got, b.data[off:off+n]) {
		t.Fatal("wrong bytes")
	}
}

func (x *machine) CloseBlob(t *rapid.T) {
	b := x.blob(t)
	if len(b.open) == 0 {
		t.Skip("not open")
	}
	want(t, b.open[0].Close(), nil)
	b.open = b.open[1:]
}

func (x *machine) Delete(t *rapid.T) {
	b := x.blob(t)
	err := x.s.Delete(b.digest())
	switch {
	case b.inUse():
		want(t, err, ErrInUse)
	case b.room() == 0:
		want(t, err, ErrNotFound)
	case b.pinned:
		want(t, err, ErrPinned)
	default:
		want(t, err, nil)
		b.gone()
	}
}

func (x *machine) Pin(t *rapid.T) {
	b := x.blob(t)
	want(t, x.s.Pin(Pin{Name: b.digest().String(), Blobs: []digest.Digest{b.digest()}}), nil)
	b.pinned = true
}

func (x *machine) Unpin(t *rapid.T) {
	b := x.blob(t)
	err := x.s.Unpin(b.digest().String())
	if !b.pinned {
		want(t, err, ErrNotFound)
		return
	}
	want(t, err, nil)
	b.pinned = false
}

// Crash ends the process without a Close; the page cache, and so all that was written, stays.
func (x *machine) Crash(t *rapid.T) {
	x.s.abandon()
	x.restarted(t)
}

// PowerCut is a crash after which the tail of a journal or some data is lost as well.
func (x *machine) PowerCut(t *rapid.T) {
	x.s.abandon()
	for _, b := range x.m.blobs {
		if b.complete || b.held == nil {
			continue
		}
		if lost := rapid.IntRange(0, 3*recordFixed).Draw(t, "bytes of journal lost"); lost > 0 {
			x.tearJournal(t, b, lost)
		}
		if rapid.Bool().Draw(t, "data lost") {
			x.zeroPiece(t, b, rapid.IntRange(0, 3).Draw(t, "piece lost"))
		}
	}
	x.restarted(t)
}

// tearJournal cuts a journal; which records remain is read by a scan, which has a fuzz test of its own.
func (x *machine) tearJournal(t *rapid.T, b *modelBlob, lost int) {
	name := x.s.paths.journal(b.digest())
	raw, err := os.ReadFile(name)
	want(t, err, nil)
	raw = raw[:max(0, len(raw)-lost)]
	want(t, os.WriteFile(name, raw, 0o600), nil)
	left := make([]bool, len(b.held))
	if _, _, err := scanJournal(bytes.NewReader(raw), func(r record) { left[r.piece] = true }); err != nil {
		b.held = nil
		return
	}
	for i := range b.held {
		b.held[i] = b.held[i] && left[i]
	}
}

func (x *machine) zeroPiece(t *rapid.T, b *modelBlob, i int) {
	if b.held == nil {
		return
	}
	f, err := os.OpenFile(x.s.paths.partial(b.digest()), os.O_RDWR, 0)
	want(t, err, nil)
	defer f.Close()
	off, n := layout{modelSize, smallPieces}.span(i)
	_, err = f.WriteAt(make([]byte, n), off)
	want(t, err, nil)
	b.held[i] = false
}

func (x *machine) Restart(t *rapid.T) {
	want(t, x.s.Close(), nil)
	for _, b := range x.m.blobs {
		if b.live != nil && !b.complete && !slices.Contains(b.held, true) {
			b.held = nil
		}
	}
	x.restarted(t)
}

func (x *machine) restarted(t *rapid.T) {
	for _, b := range x.m.blobs {
		for _, o := range b.open {
			o.Close()
		}
		b.open = nil
		if b.live != nil && b.complete {
			b.live.data.Close()
		}
		b.live = nil
		if b.complete {
			b.held = nil
		}
	}
	s, err := Open(x.s.cfg)
	want(t, err, nil)
	x.s = s
	x.sync(t)
}

// Check holds after every step.
func (x *machine) Check(t *rapid.T) {
	var room int64
	for i, b := range x.m.blobs {
		room += b.room()
		info, err := x.s.Stat(b.digest())
		if b.room() == 0 {
			want(t, err, ErrNotFound)
			continue
		}
		want(t, err, nil)
		var held int64
		for k := range b.held {
			if b.held[k] {
				_, n := layout{modelSize, smallPieces}.span(k)
				held += n
			}
		}
		if info.Complete != b.complete || info.InUse != b.inUse() || info.Pinned != b.pinned || b.live != nil && !b.complete && info.Have != held {
			t.Fatalf("blob %d: %+v, model %+v", i, info, b)
		}
	}
	u := x.s.Usage()
	if u.Bytes != room || x.m.cap > 0 && u.Bytes > x.m.cap {
		t.Fatalf("usage %+v, model %d", u, room)
	}
}

func want(t *rapid.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func testModel(t *testing.T, capacity int64) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "store")
		want(t, err, nil)
		defer os.RemoveAll(dir)
		cfg := testConfig(dir)
		cfg.Capacity = capacity
		s, err := Open(cfg)
		want(t, err, nil)
		x := &machine{newModel(capacity), s}
		defer func() {
			for _, b := range x.m.blobs {
				for _, o := range b.open {
					o.Close()
				}
			}
			x.s.Close()
		}()
		t.Repeat(map[string]func(*rapid.T){
			"": x.Check, "begin": x.Begin, "begin2": x.Begin, "write": x.Write, "write2": x.Write, "write3": x.Write,
			"write4": x.Write, "verify": x.Verify, "commit": x.Commit, "commit2": x.Commit, "reset": x.Reset,
			"closePartial": x.ClosePartial, "discard": x.Discard, "put": x.Put, "get": x.Get, "read": x.Read,
			"closeBlob": x.CloseBlob, "closeBlob2": x.CloseBlob, "delete": x.Delete, "pin": x.Pin, "unpin": x.Unpin, "crash": x.Crash,
			"powerCut": x.PowerCut, "restart": x.Restart,
		})
	})
}

func TestModel(t *testing.T)        { testModel(t, 0) }
func TestModelBounded(t *testing.T) { testModel(t, 3*modelSize) }
