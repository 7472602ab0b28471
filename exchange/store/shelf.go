package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
)

// The shelf is a Layout that somebody else keeps. Its blobs are not served for being there: whose they are, a directory
// does not say, and a private one is to be had by its digest from nobody. Adopt has one served under a name, once its
// caller knows that who asks by that name may have it; and what came in by such a name anyhow, and lies on the shelf too,
// is not kept twice. Of a shelved blob the store has the sidecar only: it takes no room, and it goes when the file does.

// settled is how long a file has to be on the shelf before the store's own copy goes: some, such as containerd with
// discard_unpacked_layers, throw layers away as soon as they are unpacked.
const settled = 10 * time.Minute

// Adopt makes a blob of the shelf a complete one of the store, under the name d. It hashes all of it, about 1 s for each GB.
// ErrNotFound if it is not on the shelf, or is not what d names; ErrInUse while it is arriving.
func (s *Store) Adopt(d digest.Digest) error {
	if err := s.adopt(d); err != nil {
		return fmt.Errorf("store: adopt %s: %w", d, err)
	}
	return nil
}

func (s *Store) adopt(d digest.Digest) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	if s.shelf == nil || IsFile(d) {
		return ErrNotFound
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.ops.Done()
	info, err := s.shelf.stat(d)
	if err != nil {
		return err
	}
	s.adopting.Lock()
	defer s.adopting.Unlock()
	e, err := s.enterShelved(d, info.Size())
	if err != nil || e == nil {
		return err
	}
	if err := s.hashShelved(e); err != nil {
		s.mu.Lock()
		delete(s.entries, d)
		s.mu.Unlock()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrCorrupt) {
			return fmt.Errorf("%w: %w", ErrNotFound, err)
		}
		return err
	}
	log.Infow("blob adopted from the shelf", "blob", d, "bytes", info.Size())
	return nil
}

// enterShelved makes an entry that its caller has for itself, in the place of a closed partial. It returns nil if the blob
// is here already.
func (s *Store) enterShelved(d digest.Digest, size int64) (*entry, error) {
	l, err := newLayout(size, s.cfg.PieceSize(size))
	if err != nil {
		return nil, err
	}
	var out leaving
	s.room.Lock()
	defer s.room.Unlock()
	s.dropPartial(d, &out)
	s.erase(&out)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch old := s.entries[d]; {
	case old != nil && old.state == stateComplete:
		return nil, nil
	case old != nil:
		return nil, ErrInUse
	}
	e := &entry{digest: d, layout: l, state: stateBusy, shelved: true}
	s.entries[d] = e
	return e, nil
}

func (s *Store) hashShelved(e *entry) error {
	f, err := os.Open(s.dataOf(e))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	side, err := s.computeSidecar(e, f)
	if err != nil {
		return err
	}
	if err := s.writeSidecar(e.digest, side, false); err != nil {
		return noSpace(err)
	}
	e.load.Lock()
	e.ledger = newLedger(side, info, s.now(), true)
	e.load.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	e.state, e.used, e.stamped, e.scrubbed = stateComplete, s.now(), s.now(), s.now()
	return nil
}

// dataOf names the file of a complete blob.
func (s *Store) dataOf(e *entry) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.shelved {
		return s.shelf.path(e.digest)
	}
	return s.paths.blob(e.digest)
}

// recoverShelved enters a blob of which the store has the sidecar and the shelf the bytes, if they are still there.
func (s *Store) recoverShelved(d digest.Digest, meta fs.FileInfo) bool {
	if s.shelf == nil || checkDigest(d) != nil {
		return false
	}
	info, err := s.shelf.stat(d)
	if err != nil {
		return false
	}
	side, err := s.readSidecarHeader(d)
	if err != nil || side.layout.size != info.Size() || !s.accepts(side.layout) {
		return false
	}
	s.entries[d] = &entry{
		digest: d, layout: side.layout, mediaType: side.mediaType, state: stateComplete, shelved: true,
		used: meta.ModTime(), stamped: meta.ModTime(),
	}
	return true
}

// keepShelf lets go of blobs that have left the shelf, and of the store's own copies of those that have settled there.
func (s *Store) keepShelf() {
	if s.shelf == nil {
		return
	}
	for _, e := range s.idleBlobs() {
		info, err := s.shelf.stat(e.digest)
		s.mu.Lock()
		shelved, pinned, size := e.shelved, s.isPinned(e.digest), e.layout.size
		s.mu.Unlock()
		switch {
		case shelved && errors.Is(err, ErrNotFound):
			s.lose(e, err)
		case shelved || err != nil || pinned || IsFile(e.digest) || info.Size() != size:
		case s.now().Sub(info.ModTime()) >= settled:
			s.reshelve(e)
		}
	}
}

// idleBlobs lists the complete blobs that nobody uses.
func (s *Store) idleBlobs() (out []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if e.state == stateComplete && e.idle() {
			out = append(out, e)
		}
	}
	return out
}

// reshelve deletes the store's own copy of a blob. The other is hashed piece by piece when it is read.
func (s *Store) reshelve(e *entry) {
	var out leaving
	e.load.Lock()
	s.mu.Lock()
	if s.entries[e.digest] == e && e.idle() {
		e.ledger, e.scrubbed = nil, time.Time{}
		e.shelved = true
		s.bytes -= e.layout.size
		s.discard(s.paths.blob(e.digest), &out)
		log.Infow("blob is on the shelf, the copy here goes", "blob", e.digest, "bytes", e.layout.size)
	}
	s.mu.Unlock()
	e.load.Unlock()
	s.erase(&out)
}
