package swarm

import (
	"testing"

	"pgregory.net/rapid"
)

func TestLayoutOf(t *testing.T) {
	for _, tc := range []struct {
		size, piece int64
		pieces      int
	}{
		{0, 1 << 20, 0},
		{1, 1 << 20, 1},
		{1 << 20, 1 << 20, 1},
		{1<<20 + 1, 512 << 10, 3},
		{100e6, 512 << 10, 191},
		{1.28e9, 1 << 20, 1221},
		{3.48e9, 2 << 20, 1660},
		{20e9, 8 << 20, 2385},
		{1 << 29, 512 << 10, 1024},
		{1<<29 + 1, 512 << 10, 1025},
		{1 << 30, 1 << 20, 1024},
	} {
		l := LayoutOf(tc.size)
		if l.PieceSize != tc.piece || l.Pieces() != tc.pieces {
			t.Errorf("LayoutOf(%d) = %d pieces of %d, want %d of %d", tc.size, l.Pieces(), l.PieceSize, tc.pieces, tc.piece)
		}
	}
}

func TestPiecesCoverTheBlob(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := LayoutOf(rapid.Int64Range(0, 1<<34).Draw(t, "size"))
		var next int64
		for i := range l.Pieces() {
			off, n := l.Span(PieceIndex(i))
			if off != next || n <= 0 || l.Piece(off) != PieceIndex(i) || l.Piece(off+n-1) != PieceIndex(i) {
				t.Fatalf("piece %d spans %d+%d after %d", i, off, n, next)
			}
			next = off + n
		}
		if next != l.Size {
			t.Fatalf("pieces end at %d of %d", next, l.Size)
		}
		if off, n := l.Span(PieceIndex(l.Pieces())); off != 0 || n != 0 {
			t.Fatalf("piece out of range spans %d+%d", off, n)
		}
	})
}

func TestBitmapAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(t, "n")
		b, model := NewBitmap(n), map[PieceIndex]bool{}
		for _, op := range rapid.SliceOf(rapid.IntRange(-310, 310)).Draw(t, "ops") {
			if op >= 0 {
				b.Set(PieceIndex(op))
				if op < n {
					model[PieceIndex(op)] = true
				}
			} else {
				b.Clear(PieceIndex(-op))
				delete(model, PieceIndex(-op))
			}
		}
		back := BitmapFromBytes(n, b.Bytes())
		if b.Count() != len(model) || back.Count() != len(model) || b.Full() != (len(model) == n) {
			t.Fatalf("count %d, after a round trip %d, want %d", b.Count(), back.Count(), len(model))
		}
		for i := range n {
			if p := PieceIndex(i); b.Has(p) != model[p] || back.Has(p) != model[p] {
				t.Fatalf("piece %d", i)
			}
		}
	})
}

func TestRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfDistinct(rapid.Uint32Range(0, 200), rapid.ID).Draw(t, "units")
		want := map[uint32]bool{}
		for _, u := range list {
			want[u] = true
		}
		n := 0
		each(runs(list), func(u uint32) {
			if !want[u] {
				t.Fatalf("unit %d was not there", u)
			}
			n++
		})
		if n != len(want) {
			t.Fatalf("%d units of %d", n, len(want))
		}
	})
}
