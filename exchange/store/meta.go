package store

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
)

// readSidecar reads the sidecar of a complete blob.
func (s *Store) readSidecar(d digest.Digest) (sidecar, error) {
	f, err := os.Open(s.paths.meta(d))
	if err != nil {
		return sidecar{}, err
	}
	defer f.Close()
	// A sidecar has a bound; a damaged one may have any size.
	b, err := io.ReadAll(io.LimitReader(f, sidecarHeaderMax+MaxPieces*sha256.Size+sha256.Size))
	if err != nil {
		return sidecar{}, err
	}
	return parseSidecar(b)
}

// readSidecarHeader reads just the header.
func (s *Store) readSidecarHeader(d digest.Digest) (sidecar, error) {
	f, err := os.Open(s.paths.meta(d))
	if err != nil {
		return sidecar{}, err
	}
	defer f.Close()
	b := make([]byte, sidecarHeaderMax)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return sidecar{}, err
	}
	side, _, err := parseSidecarHeader(b[:n])
	return side, err
}

// writeSidecar writes a sidecar so that it is there whole or not at all. Unless sync is set a power loss may take it,
// after which it is computed again.
func (s *Store) writeSidecar(d digest.Digest, side sidecar, sync bool) error {
	name := s.paths.meta(d)
	if err := s.writeFile(name+tempExt, side.encode(), sync); err != nil {
		return err
	}
	return s.disk.Rename(name+tempExt, name)
}

func (s *Store) writeFile(name string, data []byte, sync bool) error {
	f, err := s.disk.Open(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(data, 0); err == nil && sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		s.remove(name)
	}
	return err
}

// computeSidecar hashes a complete blob that has lost its sidecar. ErrCorrupt if it does not match its digest.
func (s *Store) computeSidecar(e *entry, f *os.File) (sidecar, error) {
	s.mu.Lock()
	mediaType := e.mediaType
	s.mu.Unlock()
	l, err := newLayout(e.layout.size, s.cfg.PieceSize(e.layout.size))
	if err != nil {
		return sidecar{}, err
	}
	side := sidecar{layout: l, mediaType: mediaType, hashes: make([]Hash, l.pieces())}
	whole := e.content().Algorithm().Hash()
	for i := range side.hashes {
		piece := sha256.New()
		off, n := l.span(i)
		if err := copyRange(io.MultiWriter(whole, piece), f, off, n); err != nil {
			return sidecar{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		piece.Sum(side.hashes[i][:0])
	}
	if digest.NewDigest(e.content().Algorithm(), whole) != e.content() {
		return sidecar{}, fmt.Errorf("%w: %w", ErrCorrupt, ErrDigestMismatch)
	}
	return side, nil
}
