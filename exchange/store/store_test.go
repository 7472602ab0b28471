package store

import (
	"context"
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestRoundTrip(t *testing.T) {
	for _, row := range []struct {
		name string
		size int
	}{
		{"empty", 0},
		{"one byte", 1},
		{"one piece less one", smallPieces - 1},
		{"one piece", smallPieces},
		{"one piece and one", smallPieces + 1},
		{"many pieces", 40*smallPieces + 7},
		{"many whole pieces", 3000 * smallPieces},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := tempStore(t)
			data := sample(1, row.size)
			d := keep(t, s, data)
			mustRead(t, s, data)
			s = s.reopened(t)
			mustRead(t, s, data)
			i, err := s.Stat(d)
			if err != nil || !i.Complete || i.Size != int64(row.size) || i.Have != i.Size || i.PieceSize != smallPieces {
				t.Errorf("stat: %+v, %v", i, err)
			}
			if _, err := s.Begin(d, int64(row.size), smallPieces); !errors.Is(err, ErrComplete) {
				t.Errorf("begin of a complete blob: %v", err)
			}
		})
	}
}

func TestSHA512(t *testing.T) {
	s := tempStore(t)
	for _, size := range []int{0, 100, 5000} {
		data := sample(2, size)
		d := digest.SHA512.FromBytes(data)
		p, err := s.Begin(d, int64(size), smallPieces)
		if err != nil {
			t.Fatal(err)
		}
		fill(t, p, data)
		b, err := p.Commit(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		wantContent(t, b, data)
		b.Close()
		p.Close()
	}
	if u := s.reopened(t).Usage(); u.Blobs != 3 || u.Bytes != 5100 {
		t.Errorf("after reopening: %+v", u)
	}
}
