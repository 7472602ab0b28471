package store

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Local is a store as a Backend: the default one.
func Local(s *Store) Keeper { return local{s} }

type local struct{ s *Store }

func (l local) Open(_ context.Context, d digest.Digest) (Object, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	b, err := l.s.Get(d)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Outline implements Object.
func (b *Blob) Outline() (Outline, error) {
	return Outline{
		Size: b.Size(), PieceSize: b.PieceSize(), MediaType: b.mediaType, Hashes: slices.Clone(b.ledger.hashes),
	}, nil
}

func (l local) Keep(ctx context.Context, d digest.Digest, o Outline, r io.ReaderAt) error {
	if _, err := o.MarshalBinary(); err != nil {
		return err
	}
	p, err := l.s.Begin(d, o.Size, o.PieceSize)
	if errors.Is(err, ErrComplete) {
		return nil
	}
	if err != nil {
		return err
	}
	w := &pieceWriter{p: p, hashes: o.Hashes}
	if err = Prove(ctx, w, d, o, r); err != nil {
		return errors.Join(err, p.Discard())
	}
	b, err := p.Commit(ctx)
	if err != nil {
		return errors.Join(err, p.Discard())
	}
	return errors.Join(b.Close(), p.Close(), l.s.retypeNew(d, o.MediaType))
}

// retypeNew gives a blob its media type, if there is one.
func (s *Store) retypeNew(d digest.Digest, mediaType string) error {
	if mediaType == "" {
		return nil
	}
	return s.retype(d, mediaType)
}

// pieceWriter writes the pieces that Prove has proven.
type pieceWriter struct {
	p      *Partial
	hashes []Hash
	next   int
}

func (w *pieceWriter) Write(piece []byte) (int, error) {
	if err := w.p.WritePiece(w.next, piece, w.hashes[w.next], nil); err != nil {
		return 0, err
	}
	w.next++
	return len(piece), nil
}

func (l local) Drop(_ context.Context, d digest.Digest) error {
	if err := l.s.Delete(d); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

func (l local) Walk(ctx context.Context, f func(digest.Digest) error) error {
	for _, b := range l.s.List() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !b.Complete {
			continue
		}
		if err := f(b.Digest); err != nil {
			return err
		}
	}
	return nil
}
