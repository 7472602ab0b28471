package swarm

import "math/bits"

// Bounds of the piece size, in bytes (ALGORITHM 2.a).
const (
	MinPieceSize = 512 << 10
	MaxPieceSize = 8 << 20
	// MaxBlobSize is the largest blob that the mesh takes, in bytes: with it a bitmap stays at 16 KiB.
	MaxBlobSize = 1 << 40
)

// PieceIndex numbers the pieces of one blob from 0.
type PieceIndex uint32

// Layout says how a blob of Size bytes is cut into pieces. It is a pure function of the size, so that all
// nodes agree without talk; sizes come from descriptors, peers or the origin.
type Layout struct {
	Size      int64 // bytes; 0 is an empty blob, which has no piece
	PieceSize int64 // bytes; a power of two; only the last piece may be shorter
}

// LayoutOf returns the layout of a blob of size bytes: size/1024 rounded down to a power of two, within
// MinPieceSize and MaxPieceSize. A blob of up to 1 MiB is one piece. Start and end of a pull take some hops of one
// piece's time each; below a thousandth of the blob they no longer count, and what each piece costs does.
func LayoutOf(size int64) Layout {
	if size <= 1<<20 {
		return Layout{Size: size, PieceSize: 1 << 20}
	}
	p := int64(1) << (bits.Len64(uint64(size>>10)) - 1)
	return Layout{Size: size, PieceSize: min(max(p, MinPieceSize), MaxPieceSize)}
}

// Pieces returns the number of pieces.
func (l Layout) Pieces() int {
	if l.Size <= 0 {
		return 0
	}
	return int((l.Size + l.PieceSize - 1) / l.PieceSize)
}

// Span returns the first byte of piece i and its length. It is zero for an index out of range.
func (l Layout) Span(i PieceIndex) (off, n int64) {
	off = int64(i) * l.PieceSize
	if off >= l.Size {
		return 0, 0
	}
	return off, min(l.PieceSize, l.Size-off)
}

// Piece returns the index of the piece that holds byte off.
func (l Layout) Piece(off int64) PieceIndex { return PieceIndex(off / l.PieceSize) }
