package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
)

// Put stores a blob that is in memory, such as a manifest, with its media type of at most MaxMediaType bytes ("" if
// unknown). ErrDigestMismatch if data is not what d names. Of a blob that is here already just the media type is
// taken over, if one is given. ErrInUse while a Partial of it is open. It does not wait for the disk.
func (s *Store) Put(d digest.Digest, mediaType string, data []byte) error {
	if err := s.put(d, mediaType, data); err != nil {
		return fmt.Errorf("store: put %s: %w", d, err)
	}
	return nil
}

func (s *Store) put(d digest.Digest, mediaType string, data []byte) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	if len(mediaType) > MaxMediaType {
		return fmt.Errorf("media type of %d bytes: %w", len(mediaType), ErrInvalid)
	}
	if content, _ := Content(d); content.Algorithm().FromBytes(data) != content {
		return ErrDigestMismatch
	}
	l, err := newLayout(int64(len(data)), s.cfg.PieceSize(int64(len(data))))
	if err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.ops.Done()
	err = s.putNew(d, l, mediaType, data)
	if errors.Is(err, ErrComplete) {
		return s.retype(d, mediaType)
	}
	return err
}

// putNew stores a blob that is not here; ErrComplete if it is.
func (s *Store) putNew(d digest.Digest, l layout, mediaType string, data []byte) error {
	var out leaving
	defer s.tell(&out)
	s.room.Lock()
	defer s.room.Unlock()
	s.dropPartial(d, &out)
	if err := s.restoreDirs(d); err != nil {
		return err
	}
	e := &entry{digest: d, layout: l, mediaType: mediaType, state: stateBusy}
	if err := s.enterNew(e, &out); err != nil {
		return err
	}
	if err := s.putFiles(e, data); err != nil {
		s.forget(e)
		return noSpace(err)
	}
	return nil
}

// dropPartial removes a closed partial of d.
func (s *Store) dropPartial(d digest.Digest, out *leaving) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[d]; e != nil && e.state == statePartial {
		s.detach(e, out)
	}
}

// retype gives a complete blob the media type that was learned later.
func (s *Store) retype(d digest.Digest, mediaType string) error {
	b, err := s.Get(d)
	if err != nil {
		return err
	}
	defer b.Close()
	if mediaType == "" || mediaType == b.mediaType {
		return nil
	}
	b.e.load.Lock()
	defer b.e.load.Unlock()
	side := sidecar{layout: b.ledger.layout, mediaType: mediaType, hashes: b.ledger.hashes}
	if err := s.writeSidecar(d, side, true); err != nil {
		return noSpace(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.e.mediaType = mediaType
	return nil
}

// putFiles writes sidecar and data of a new entry and makes it complete.
func (s *Store) putFiles(e *entry, data []byte) error {
	d := e.digest
	side := sidecar{layout: e.layout, mediaType: e.mediaType, hashes: make([]Hash, e.layout.pieces())}
	for i := range side.hashes {
		off, n := e.layout.span(i)
		side.hashes[i] = sha256.Sum256(data[off : off+n])
	}
	if err := s.writeFile(s.paths.partial(d), data, false); err != nil {
		return err
	}
	info, err := os.Stat(s.paths.partial(d))
	if err != nil {
		return err
	}
	if err := s.writeSidecar(d, side, false); err != nil {
		return err
	}
	if err := s.disk.Rename(s.paths.partial(d), s.paths.blob(d)); err != nil {
		s.remove(s.paths.meta(d))
		s.remove(s.paths.blob(d))
		return err
	}
	e.load.Lock()
	e.ledger = newLedger(side, info, s.now(), true)
	e.load.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	e.state, e.used, e.stamped, e.scrubbed = stateComplete, s.now(), s.now(), s.now()
	return nil
}
