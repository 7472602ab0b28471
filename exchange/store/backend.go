package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// Backend is a place where complete blobs lie under their names: the storage interface. Package storetest holds what every
// backend has to do. All methods may be called from any goroutine; each is tried once, and retrying is the backend's own
// affair. Errors name the blob.
type Backend interface {
	// Open opens a blob. ErrNotFound if it is not there whole. What it reads is for the caller to prove: a backend is not
	// trusted, neither in what it says of a blob nor in its bytes. ctx bounds the opening, not the reading.
	Open(ctx context.Context, d digest.Digest) (Object, error)
}

// Object is an open blob of a Backend. It stays readable, or fails, when the blob is dropped meanwhile.
type Object interface {
	io.ReaderAt
	io.Closer
	// Size is in bytes.
	Size() int64
	// Outline returns what was kept with the blob, ErrNotFound if nothing was.
	Outline() (Outline, error)
}

// Keeper is a Backend that takes blobs in.
type Keeper interface {
	Backend
	// Keep takes o.Size bytes of r in, whole or not at all, and returns when they are as durable as the backend makes them.
	// A blob that is there is left alone. ErrDigestMismatch if the bytes are not what d names, or the pieces not what o
	// says; ErrNoSpace if it is full.
	Keep(ctx context.Context, d digest.Digest, o Outline, r io.ReaderAt) error
	// Drop removes a blob. One that is not there is no error.
	Drop(ctx context.Context, d digest.Digest) error
	// Walk calls f for each blob, in no order, until it fails.
	Walk(ctx context.Context, f func(d digest.Digest) error) error
}

// Outline is what is known of a complete blob besides its bytes.
type Outline struct {
	Size      int64 // bytes
	PieceSize int64 // bytes
	MediaType string
	Hashes    []Hash // SHA-256 of each piece
}

// MarshalBinary gives the form of sidecars.
func (o Outline) MarshalBinary() ([]byte, error) {
	l, err := newLayout(o.Size, o.PieceSize)
	if err != nil {
		return nil, err
	}
	if len(o.Hashes) != l.pieces() || len(o.MediaType) > MaxMediaType {
		return nil, fmt.Errorf("outline of %d hashes for %d pieces: %w", len(o.Hashes), l.pieces(), ErrInvalid)
	}
	return sidecar{layout: l, mediaType: o.MediaType, hashes: o.Hashes}.encode(), nil
}

// UnmarshalBinary takes only what MarshalBinary gives, ErrInvalid otherwise.
func (o *Outline) UnmarshalBinary(b []byte) error {
	s, err := parseSidecar(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	*o = Outline{Size: s.layout.size, PieceSize: s.layout.pieceSize, MediaType: s.mediaType, Hashes: s.hashes}
	return nil
}

// MaxOutline bounds the binary form of an Outline in bytes.
const MaxOutline int64 = sidecarHeaderMax + (MaxPieces+1)*sha256.Size

// Prove copies a blob from r to w, in order, and fails with ErrDigestMismatch before the last piece is written unless every
// piece is what o says and the whole what d names. Backends keep by it what they are given.
func Prove(ctx context.Context, w io.Writer, d digest.Digest, o Outline, r io.ReaderAt) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	if _, err := o.MarshalBinary(); err != nil {
		return err
	}
	content, _ := Content(d)
	whole := content.Algorithm().Hash()
	buf := make([]byte, min(o.PieceSize, o.Size))
	l := layout{o.Size, o.PieceSize}
	for i := range l.pieces() {
		if err := ctx.Err(); err != nil {
			return err
		}
		off, n := l.span(i)
		piece := buf[:n]
		if got, err := r.ReadAt(piece, off); int64(got) < n {
			return fmt.Errorf("read piece %d: %w", i, short(err))
		}
		if sumOf(piece) != o.Hashes[i] {
			return fmt.Errorf("piece %d: %w", i, ErrDigestMismatch)
		}
		_, _ = whole.Write(piece)
		if i == l.pieces()-1 && !IsFile(d) && digest.NewDigest(content.Algorithm(), whole) != content {
			return ErrDigestMismatch
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	if o.Size == 0 && digest.NewDigest(content.Algorithm(), whole) != content {
		return ErrDigestMismatch
	}
	return nil
}

func short(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
