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

// fetchesOf returns the requests to the origin that a step makes, and the ids of those that it stops.
func fetchesOf(acts []Action) (begun []FetchOrigin, stopped []uint64) {
	for _, a := range acts {
		switch a := a.(type) {
		case FetchOrigin:
			begun = append(begun, a)
		case StopOrigin:
			stopped = append(stopped, a.Fetch)
		}
	}
	return begun, stopped
}

// A reader whose pieces were forgotten when another reader took its share of the window gets them though as many requests
// as may be wait for readers further on.
func TestUnkeptFetchesForgottenPieces(t *testing.T) {
	const size = 64 << 20
	l := LayoutOf(size)
	s := newReading(t, size)
	reading := func(r uint64, first PieceIndex, end int64) []Action {
		off, _ := l.Span(first)
		return s.step(Reading{Digest: s.d, Reader: r, Off: off, End: end})
	}
	acts := append(s.step(Unkept{Digest: s.d, Size: size, Have: NewBitmap(l.Pieces())}), s.pass(s.c.cfg.Discover)...)
	acts = append(acts, reading(2, 60, 40<<20)...)
	begun, _ := fetchesOf(acts)
	if len(begun) != 2 || begun[0].First != 0 || begun[1].First != 60 {
		t.Fatalf("the origin is asked for %+v", begun)
	}
	room := PieceIndex(s.c.cfg.WindowBytes(l) / l.PieceSize)
	for p := range room / 2 {
		s.step(OriginPiece{Digest: s.d, Fetch: begun[0].Fetch, Piece: p})
		s.step(OriginPiece{Digest: s.d, Fetch: begun[1].Fetch, Piece: 60 + p})
	}
	reading(3, 0, l.PieceSize)
	s.step(ReadClosed{Digest: s.d, Reader: 3})
	s.step(ReadClosed{Digest: s.d, Reader: 2})
	again, stopped := fetchesOf(reading(1, room/3, -1))
	if len(again) != 1 || again[0].First != room/3 || len(stopped) != 1 || stopped[0] != begun[1].Fetch {
		t.Errorf("for the piece after %d the origin is asked for %+v, and %d stops", room/3, again, stopped)
	}
}

// A request to the origin ends when somebody comes who keeps what it brings.
func TestUnkeptLeavesTheOriginToThoseWhoCome(t *testing.T) {
	const size = 40 << 20
	s := newReading(t, size, "p")
	acts := append(s.step(Unkept{Digest: s.d, Size: size, Have: NewBitmap(LayoutOf(size).Pieces())}), s.pass(s.c.cfg.Discover)...)
	begun, _ := fetchesOf(acts)
	again, stopped := fetchesOf(s.have(size, true, "p"))
	if len(begun) != 1 || len(stopped) != 1 || stopped[0] != begun[0].Fetch || len(again) > 0 {
		t.Errorf("asked %+v, stopped %d, asked again %+v", begun, stopped, again)
	}
}
