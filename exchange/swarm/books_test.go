package swarm

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// script drives one core by hand.
type script struct {
	t   *testing.T
	c   *Core
	now Time
	d   digest.Digest
}

func newScript(t *testing.T, peers ...PeerID) *script {
	cfg := DefaultConfig()
	cfg.Self, cfg.Zone = "me", "a"
	s := &script{t: t, c: New(cfg, 1), now: Time(time.Second), d: digest.FromString("blob")}
	for _, id := range peers {
		s.step(Member{ID: id, Zone: "a"})
	}
	return s
}

func (s *script) step(ev Event) []Action {
	s.t.Helper()
	acts := s.c.Step(s.now, ev, nil)
	Check(s.t, s.c)
	return acts
}

// pass lets time pass, and the core look at it.
func (s *script) pass(d time.Duration) (acts []Action) {
	s.t.Helper()
	for end := s.now.Add(d); ; {
		at, ok := s.c.Deadline()
		if !ok || at > end {
			s.now = end
			return acts
		}
		s.now = max(s.now, at)
		acts = append(acts, s.step(Tick{})...)
	}
}

func (s *script) want(size int64) []Action {
	return s.step(Wanted{Digest: s.d, Size: size, Class: Background, Origin: OriginRef{Registry: "r", Repository: "x"}})
}

// A node learns the size of a blob from a peer while the origin is asked for its start. It does not ask the origin for the
// same pieces again.
func TestSizeToldWhileTheOriginIsAsked(t *testing.T) {
	const size = 40 << 20
	s := newScript(t)
	var begun *FetchOrigin
	for _, a := range append(s.want(-1), s.pass(time.Second)...) {
		if f, ok := a.(FetchOrigin); ok {
			begun = &f
		}
	}
	if begun == nil || begun.Bytes == 0 {
		t.Fatalf("%+v is asked of the origin", begun)
	}
	s.step(Member{ID: "p", Zone: "a"})
	n := LayoutOf(size).Pieces()
	s.step(Received{From: "p", Msg: Hello{Digest: s.d, Size: size, Have: BitmapFromBytes(n, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 1})}})
	acts := s.step(Held{Digest: s.d, Size: size, Have: NewBitmap(n)})
	for _, a := range append(acts, s.pass(time.Second)...) {
		if f, ok := a.(FetchOrigin); ok && f.First < PieceIndex(begun.Bytes/LayoutOf(size).PieceSize) {
			t.Errorf("pieces from %d on are asked for again", f.First)
		}
	}
}

// An arbiter is asked for the first stripe of a blob of unknown size, the size is told, and it stays silent: it is
// replaced in time.
func TestSilentArbiterWhileTheSizeIsTold(t *testing.T) {
	const size = 40 << 20
	peers := []PeerID{"p0", "p1", "p2", "p3", "p4"}
	s := newScript(t, peers...)
	s.want(-1)
	asked := PeerID("")
	for _, a := range s.pass(time.Second) {
		if m, ok := a.(Send); ok {
			if cl, ok := m.Msg.(Claim); ok && cl.Scope == ScopeOrigin {
				asked = m.To
			}
		}
	}
	if asked == "" {
		t.Skip("this node is the arbiter itself")
	}
	n := LayoutOf(size).Pieces()
	s.step(Received{From: "p4", Msg: Hello{Digest: s.d, Size: size, Want: true, Have: NewBitmap(n)}})
	s.step(Held{Digest: s.d, Size: size, Have: NewBitmap(n)})
	fetched := false
	for _, a := range s.pass(2 * s.c.cfg.ClaimTimeout) {
		switch a := a.(type) {
		case FetchOrigin:
			fetched = true
		case Send:
			cl, ok := a.Msg.(Claim)
			fetched = fetched || ok && cl.Scope == ScopeOrigin && cl.State == ClaimWant && cl.Units[0].First == 0 && a.To != asked
		}
	}
	if !fetched {
		t.Error("the first stripe waits for a silent arbiter")
	}
}

// What waits for a piece of a blob that is given up, or lost, is refused and not served.
func TestNoUploadOfWhatIsGone(t *testing.T) {
	s := newScript(t, "p0", "p1", "p2", "p3")
	size := int64(4 << 20)
	s.step(Held{Digest: s.d, Size: size, Have: FullBitmap(LayoutOf(size).Pieces())})
	waits := map[uint64]bool{}
	for i, id := range []PeerID{"p0", "p1", "p2", "p3"} {
		waits[uint64(i)] = true
		for _, a := range s.step(PieceRequested{From: id, Digest: s.d, Piece: 0, Xfer: uint64(i)}) {
			switch a := a.(type) {
			case ServePiece:
				delete(waits, a.Xfer)
			case RefusePiece:
				delete(waits, a.Xfer)
			}
		}
	}
	if len(waits) == 0 {
		t.Fatal("nobody waits")
	}
	for _, a := range append(s.step(Dropped{Digest: s.d}), s.pass(s.c.cfg.Idle/4)...) {
		switch a := a.(type) {
		case ServePiece:
			t.Errorf("upload %d goes on", a.Xfer)
		case RefusePiece:
			delete(waits, a.Xfer)
		}
	}
	if len(waits) > 0 {
		t.Errorf("%v still wait", waits)
	}
}

// A blob of which uploads wait is not forgotten, however long they do: they would wait for ever.
func TestUploadsKeepTheirBlob(t *testing.T) {
	s := newScript(t, "p0", "p1", "p2", "p3")
	s.step(Held{Digest: s.d, Size: 4 << 20, Have: FullBitmap(8)})
	for i, id := range []PeerID{"p0", "p1", "p2"} {
		s.step(PieceRequested{From: id, Digest: s.d, Piece: PieceIndex(i), Xfer: uint64(i)})
	}
	s.pass(3 * s.c.cfg.Idle)
	if _, ok := s.c.Deadline(); !ok || len(s.c.order) == 0 {
		t.Error("the blob is forgotten")
	}
}

// A seed that comes and goes as one is asked once.
func TestWantIsSentOnce(t *testing.T) {
	s := newScript(t, "p0")
	s.want(-1)
	sent := 0
	for i := range 20 {
		for _, a := range s.step(Member{ID: "p0", Zone: "a", Seed: i%2 == 0}) {
			if m, ok := a.(Send); ok {
				if _, ok := m.Msg.(Want); ok {
					sent++
				}
			}
		}
	}
	if sent != 1 {
		t.Errorf("%d Wants", sent)
	}
}

// Two nodes that sign the same wrong bytes are not believed: before a blob counts as corrupt its origin is asked.
func TestTwoLiarsOfOneMind(t *testing.T) {
	s := newScript(t, "p0", "p1")
	s.want(1 << 20)
	s.step(Held{Digest: s.d, Size: 1 << 20, Have: NewBitmap(1)})
	for _, liar := range []PeerID{"p0", "p1"} {
		s.step(Received{From: liar, Msg: Hello{Digest: s.d, Size: 1 << 20, Have: FullBitmap(1)}})
		s.step(PieceArrived{Digest: s.d, Piece: 0, From: liar, Attester: liar, Hash: Hash{1}, Took: 1})
		for _, a := range s.step(VerifyFailed{Digest: s.d}) {
			if g, ok := a.(GiveUp); ok {
				t.Fatalf("gave up (%d) on the word of two", g.Reason)
			}
		}
	}
}

// Thousands of members that greet, join and ask take bounded memory for a session.
func TestCrowdIsBounded(t *testing.T) {
	const size = 4 << 20
	s := newScript(t)
	s.want(size)
	s.step(Held{Digest: s.d, Size: size, Have: BitmapFromBytes(8, []byte{15})})
	b := s.c.blobs[s.d]
	crowd := 900
	if testing.Short() {
		crowd = 500
	}
	for i := range crowd {
		id := PeerID(rune(0x4e00 + i))
		s.c.Step(s.now, Member{ID: id, Zone: []string{"a", "b", "c"}[i%3]}, nil)
		for _, m := range []Message{Join{Digest: s.d, Want: true}, Hello{Digest: s.d, Size: size, Want: true, Have: FullBitmap(8)}} {
			s.c.Step(s.now, Received{From: id, Msg: m}, nil)
		}
		s.c.Step(s.now, PieceRequested{From: id, Digest: s.d, Piece: 0, Xfer: uint64(i)}, nil)
	}
	Check(t, s.c)
	if n := len(b.neighbours); n > 300 {
		t.Errorf("%d neighbours", n)
	}
	if n := len(s.c.uploads.active) + len(s.c.uploads.queue); n > 100 {
		t.Errorf("%d uploads", n)
	}
}
