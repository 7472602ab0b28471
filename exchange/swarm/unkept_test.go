package swarm

import "testing"

// newReading returns a script with a reader of a blob of size bytes that some peers of the zone have whole.
func newReading(t *testing.T, size int64, peers ...PeerID) *script {
	s := newScript(t, peers...)
	s.step(Wanted{Digest: s.d, Size: size, Class: Foreground, Origin: OriginRef{Registry: "r", Repository: "x"}})
	s.step(Reading{Digest: s.d, Reader: 1, Off: 0, End: -1})
	return s
}

// have has peers say that they have a blob whole.
func (s *script) have(size int64, wants bool, peers ...PeerID) (acts []Action) {
	for _, id := range peers {
		h := Hello{Digest: s.d, Size: size, Want: wants, Reply: true, Have: NewBitmap(LayoutOf(size).Pieces())}
		if !wants {
			h.Have = FullBitmap(h.Have.Len())
		}
		acts = append(acts, s.step(Received{From: id, Msg: h})...)
	}
	return acts
}

// What is not kept asks nothing of the origin while somebody else is to bring it in, and all of it, once, when nobody is.
func TestUnkeptLeavesTheOriginToOthers(t *testing.T) {
	const size = 40 << 20
	n := LayoutOf(size).Pieces()
	for _, others := range []bool{false, true} {
		s := newReading(t, size, "p")
		if others {
			s.have(size, true, "p")
		}
		acts := append(s.step(Unkept{Digest: s.d, Size: size, Have: NewBitmap(n)}), s.pass(s.c.cfg.LastResort/2)...)
		asked := 0
		for _, a := range acts {
			switch a := a.(type) {
			case FetchOrigin:
				asked++
			case Send:
				if cl, ok := a.Msg.(Claim); ok && cl.State != ClaimRelease {
					t.Errorf("it claims %+v", cl)
				}
				if h, ok := a.Msg.(Hello); ok && asked > 0 && (h.Want || h.Have.Count() > 0) {
					t.Errorf("it tells others %+v", h)
				}
			}
		}
		if want := map[bool]int{false: 1}[others]; asked != want {
			t.Errorf("others want it: %v; the origin is asked %d times, want %d", others, asked, want)
		}
	}
}
