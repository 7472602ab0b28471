package swarm

import (
	"testing"
	"time"
)

// A blob that was proven and could not be made durable goes on for its readers alone: nothing is asked of anybody until
// the driver says that some of it is lost, and that is.
func TestUnkeptAfterVerify(t *testing.T) {
	const size = 40 << 20
	l := LayoutOf(size)
	all := FullBitmap(l.Pieces())
	s := newReading(t, size, "p")
	s.have(size, false, "p")
	verify := false
	for _, a := range s.step(Held{Digest: s.d, Size: size, Have: all}) {
		_, ok := a.(Verify)
		verify = verify || ok
	}
	if !verify {
		t.Fatal("the whole is not verified")
	}
	b, stripe := s.c.blobs[s.d], leaseKey{s: ScopeOrigin}
	b.leases = make(leases)
	s.c.setLease(b, stripe, lease{holder: s.c.cfg.Self, done: true, until: s.c.now.Add(time.Hour)})
	for _, a := range append(s.step(Unkept{Digest: s.d, Size: size, Have: all, Suspect: true}), s.pass(s.c.cfg.Discover)...) {
		switch a := a.(type) {
		case GiveUp, RequestPiece, FetchOrigin, Verify, Announce:
			t.Errorf("%T %+v", a, a)
		case Send:
			switch m := a.Msg.(type) {
			case Have:
				t.Errorf("it tells of %+v", m)
			case Hello:
				if m.Have.Count() > 0 || m.Want {
					t.Errorf("it says that it has %d pieces, wants: %v", m.Have.Count(), m.Want)
				}
			}
		}
	}
	if holder, done, ok := s.c.leaseOf(b, stripe, "p"); ok {
		t.Errorf("a peer is to wait for %s, done: %v", holder, done)
	}
	refused := false
	for _, a := range s.step(PieceRequested{From: "p", Digest: s.d, Piece: 1, Xfer: 7}) {
		_, ok := a.(RefusePiece)
		refused = refused || ok
	}
	if !refused {
		t.Error("a peer is served from a disk that may have lost it")
	}
	less := all.Clone()
	less.Clear(3)
	var asked []PieceIndex
	for _, a := range append(s.step(Unkept{Digest: s.d, Size: size, Have: less, Suspect: true}), s.pass(s.c.cfg.Discover)...) {
		if r, ok := a.(RequestPiece); ok {
			asked = append(asked, r.Piece)
		}
	}
	if len(asked) != 1 || asked[0] != 3 {
		t.Errorf("piece 3 is lost, asked for %v", asked)
	}
	s.step(ReadClosed{Digest: s.d, Reader: 1})
	ended := false
	for _, a := range s.pass(2 * unkeptLinger) {
		g, ok := a.(GiveUp)
		ended = ended || ok && g.Reason == GaveUpAbandoned
	}
	if !ended {
		t.Error("without readers it does not end")
	}
}
