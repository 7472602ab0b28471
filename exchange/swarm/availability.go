package swarm

import (
	"math/bits"
	"math/rand/v2"
)

// availability counts, for each piece, the neighbours that have it, and keeps as sets what piece choice asks for, so
// that a choice looks at words and not at pieces.
type availability struct {
	nearCount, farCount []uint16 // neighbours of the own and of other zones
	near, far           Bitmap   // counts above 0
	busy                Bitmap   // in flight, from a peer or the origin
	lot                 []uint16 // decides between pieces that as many have; each node draws its own
}

func newAvailability(n int, rng *rand.Rand) availability {
	lot := make([]uint16, n)
	for i := range lot {
		lot[i] = uint16(rng.Uint32())
	}
	return availability{
		nearCount: make([]uint16, n), farCount: make([]uint16, n),
		near: NewBitmap(n), far: NewBitmap(n), busy: NewBitmap(n), lot: lot,
	}
}

// add counts one neighbour more (by 1) or less (by -1) for a piece.
func (a *availability) add(i PieceIndex, near bool, by int) {
	count, set := a.farCount, a.far
	if near {
		count, set = a.nearCount, a.near
	}
	count[i] = uint16(int(count[i]) + by)
	if count[i] > 0 {
		set.Set(i)
	} else {
		set.Clear(i)
	}
}

// where says who has a piece that is missing here and not in flight.
type where uint8

const (
	inZone  where = iota // a neighbour of the zone
	abroad               // only neighbours of other zones
	nowhere              // no neighbour: the origin
)

// lacking returns the set, as words, of pieces that are missing and wanted, not in flight, and held as w says: word k
// holds pieces 64k and up.
func (b *blob) lacking(w where, k int) uint64 {
	a := &b.avail
	free := ^(b.have.words[k] | a.busy.words[k])
	switch w {
	case inZone:
		free &= a.near.words[k]
	case abroad:
		free &= a.far.words[k] &^ a.near.words[k]
	case nowhere:
		free &^= a.near.words[k] | a.far.words[k]
	}
	if b.sparse {
		free &= b.cover.words[k]
	}
	if rest := b.have.n - 64*k; rest < 64 {
		free &= 1<<rest - 1
	}
	return free
}

// bitsOf yields the pieces of word k of a set and reports whether all were taken.
func bitsOf(k int, w uint64, yield func(PieceIndex) bool) bool {
	for ; w != 0; w &= w - 1 {
		if !yield(PieceIndex(64*k + bits.TrailingZeros64(w))) {
			return false
		}
	}
	return true
}

// lacks reports whether any missing piece is held as w says.
func (b *blob) lacks(w where) bool {
	for k := range b.have.words {
		if b.lacking(w, k) != 0 {
			return true
		}
	}
	return false
}
