package store

import (
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
)

// Hash is the SHA-256 of a piece.
type Hash = [sha256.Size]byte

// layout says how a blob is cut into pieces: all of pieceSize bytes, but the last, which may be shorter.
type layout struct {
	size, pieceSize int64 // bytes
}

// newLayout refuses sizes that no blob can have.
func newLayout(size, pieceSize int64) (layout, error) {
	if size < 0 || pieceSize <= 0 || pieceSize > 1<<40 || size > MaxPieces*pieceSize {
		return layout{}, fmt.Errorf("size %d in pieces of %d: %w", size, pieceSize, ErrInvalid)
	}
	return layout{size, pieceSize}, nil
}

func (l layout) pieces() int { return int((l.size + l.pieceSize - 1) / l.pieceSize) }

// span returns the first byte of piece i and its length, 0 for an index out of range.
func (l layout) span(i int) (off, n int64) {
	off = int64(i) * l.pieceSize
	if i < 0 || off >= l.size {
		return 0, 0
	}
	return off, min(l.pieceSize, l.size-off)
}

// cover returns the pieces [first, end) that overlap n bytes from off. The range must lie in the blob.
func (l layout) cover(off, n int64) (first, end int) {
	if n <= 0 {
		return 0, 0
	}
	return int(off / l.pieceSize), int((off+n-1)/l.pieceSize) + 1
}

// bufSize is the unit of reading behind the writers: small enough to stay in the processor's cache.
const bufSize = 256 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, bufSize); return &b }}

// copyRange feeds n bytes of r from off to w. A short file is io.ErrUnexpectedEOF.
func copyRange(w io.Writer, r io.ReaderAt, off, n int64) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for n > 0 {
		b := (*buf)[:min(n, bufSize)]
		got, err := r.ReadAt(b, off)
		if got < len(b) {
			if err == io.EOF || err == nil {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		off, n = off+int64(got), n-int64(got)
	}
	return nil
}

// sumOf returns the SHA-256 of a piece in memory.
func sumOf(piece []byte) Hash { return sha256.Sum256(piece) }

// hashRange returns the SHA-256 of n bytes of r from off.
func hashRange(r io.ReaderAt, off, n int64) (sum Hash, err error) {
	h := sha256.New()
	if err := copyRange(h, r, off, n); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}
