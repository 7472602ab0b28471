package swarm

import "math/bits"

// Bitmap is the set of pieces of a blob that somebody holds. The zero value is empty and of length 0.
type Bitmap struct {
	words []uint64
	n     int
}

// NewBitmap returns an empty set over n pieces.
func NewBitmap(n int) Bitmap { return Bitmap{words: make([]uint64, (n+63)/64), n: n} }

// FullBitmap returns the set of all n pieces.
func FullBitmap(n int) Bitmap {
	b := NewBitmap(n)
	for i := range n {
		b.Set(PieceIndex(i))
	}
	return b
}

// Len returns the number of pieces of the blob, held or not.
func (b Bitmap) Len() int { return b.n }

// Has reports whether piece i is in the set; an index out of range is not.
func (b Bitmap) Has(i PieceIndex) bool {
	return int(i) < b.n && b.words[i/64]&(1<<(i%64)) != 0
}

// Set adds piece i; an index out of range is ignored.
func (b Bitmap) Set(i PieceIndex) {
	if int(i) < b.n {
		b.words[i/64] |= 1 << (i % 64)
	}
}

// Clear removes piece i.
func (b Bitmap) Clear(i PieceIndex) {
	if int(i) < b.n {
		b.words[i/64] &^= 1 << (i % 64)
	}
}

// Count returns the number of pieces in the set.
func (b Bitmap) Count() int {
	c := 0
	for _, w := range b.words {
		c += bits.OnesCount64(w)
	}
	return c
}

// Full reports whether every piece is in the set.
func (b Bitmap) Full() bool { return b.Count() == b.n }

// Clone returns a copy that shares nothing with b.
func (b Bitmap) Clone() Bitmap {
	return Bitmap{words: append([]uint64(nil), b.words...), n: b.n}
}

// Bytes returns the set as ceil(Len/8) bytes, piece 0 in the lowest bit of the first byte.
func (b Bitmap) Bytes() []byte {
	out := make([]byte, (b.n+7)/8)
	for i := range out {
		out[i] = byte(b.words[i/8] >> (8 * (i % 8)))
	}
	return out
}

// BitmapFromBytes is the inverse of Bytes for n pieces. Missing bytes count as zero; bits past n are dropped.
func BitmapFromBytes(n int, raw []byte) Bitmap {
	b := NewBitmap(n)
	for i := range n {
		if i/8 < len(raw) && raw[i/8]&(1<<(i%8)) != 0 {
			b.Set(PieceIndex(i))
		}
	}
	return b
}
