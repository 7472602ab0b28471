package swarm

import (
	"testing"
	"time"
)

// A provider that drips holds a reader up for a few times what a piece of the others takes, not for the longest queue: pieces
// of 8 MiB that take a second each are asked again after four. Who won is asked first from then on, and what that costs is bounded.
func TestReaderHurriesADrippingProvider(t *testing.T) {
	const size = 8 << 30
	s := newReading(t, size, "drips", "quick")
	s.step(Held{Digest: s.d, Size: size, Have: NewBitmap(LayoutOf(size).Pieces())})
	acts := s.have(size, false, "drips", "quick")
	flying := map[PieceIndex]map[PeerID]Time{}
	var waits []time.Duration
	again := 0
	note := func(acts []Action) {
		for _, a := range acts {
			switch a := a.(type) {
			case RequestPiece:
				if flying[a.Piece] == nil {
					flying[a.Piece] = map[PeerID]Time{}
				} else if at, ok := flying[a.Piece]["drips"]; ok && len(flying[a.Piece]) == 1 {
					again++
					waits = append(waits, s.now.Sub(at))
				}
				flying[a.Piece][a.To] = s.now
				s.step(PieceStarted{Digest: s.d, Piece: a.Piece, From: a.To})
			case CancelPiece:
				delete(flying[a.Piece], a.To)
			}
		}
	}
	note(acts)
	off := int64(0)
	have := NewBitmap(LayoutOf(size).Pieces())
	for range 24 { // a piece of the quick one each second
		note(s.pass(time.Second))
		var done *PieceIndex
		for i, at := range flying {
			if from, ok := at["quick"]; ok && s.now.Sub(from) >= time.Second && (done == nil || i < *done) {
				done = &i
			}
		}
		if done == nil {
			continue
		}
		i := *done
		delete(flying, i)
		have.Set(i)
		note(s.step(PieceArrived{Digest: s.d, Piece: i, From: "quick", Took: time.Second}))
		for have.Has(LayoutOf(size).Piece(off)) {
			off += LayoutOf(size).PieceSize
		}
		note(s.step(Reading{Digest: s.d, Reader: 1, Off: off, End: -1}))
	}
	if again == 0 {
		t.Fatal("nothing is asked again")
	}
	for _, w := range waits {
		if w > 8*time.Second {
			t.Errorf("a reader waits %v for a piece that others send in a second", w)
		}
	}
	if most := 2 + len(s.c.blobs[s.d].pieces)/100; s.c.blobs[s.d].hurried > most {
		t.Errorf("%d second requests, want at most %d", s.c.blobs[s.d].hurried, most)
	}
	t.Logf("%d pieces of the quick one; asked again %d times, the first after %v; the dripping one counts as %.0f times slower", have.Count(), again, waits[0], s.c.member("drips").slow)
}
