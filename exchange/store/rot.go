package store

import "github.com/opencontainers/go-digest"

// rot takes a blob out of use of which some bytes are wrong. What is right of it stays, as an arriving blob whose journal
// names every piece: the next Begin hashes them and keeps those that hold, so that only the others are fetched again. A blob
// of one piece is dropped.
func (s *Store) rot(e *entry, l *ledger, why error) {
	s.rotting.Lock()
	defer s.rotting.Unlock()
	d := e.digest
	left := &entry{digest: d, layout: l.layout, state: stateBusy}
	drop := len(l.hashes) < 2 || e.shelved
	s.mu.Lock()
	if s.entries[d] != e || e.state != stateComplete {
		s.mu.Unlock()
		return
	}
	s.scrubs.corrupt++
	if !drop {
		s.entries[d] = left
	}
	s.mu.Unlock()
	if drop {
		s.lose(e, why)
		return
	}
	l.condemn()
	log.Errorw("blob has rotted, what holds of it is kept", "blob", d, "bytes", l.layout.size, "err", why)
	err := s.unmake(d, l)
	if err != nil {
		log.Warnw("rotten blob not kept in part", "blob", d, "err", err)
	}
	s.remove(s.paths.meta(d))
	s.remove(s.paths.blob(d)) // if it could not be moved
	s.shelve(left, err == nil, l.layout.size)
	s.tell(&leaving{blobs: []digest.Digest{d}})
}

// unmake writes the journal of a blob that is complete and moves its data back. A crash in between leaves a complete blob,
// or files that Open removes.
func (s *Store) unmake(d digest.Digest, l *ledger) error {
	journal := journalHeader{digest: d, layout: l.layout}.encode()
	for i, sum := range l.hashes {
		journal = record{piece: i, hash: sum}.append(journal)
	}
	if err := s.writeFile(s.paths.journal(d), journal, false); err != nil {
		return err
	}
	return s.disk.Rename(s.paths.blob(d), s.paths.partial(d))
}
