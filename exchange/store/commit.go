package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Commit verifies the blob, unless Verify did, makes it durable and returns it in use. Once verified it does not stop
// for ctx. It waits for the disk, though little is left to write by then; readers that may have verified
// bytes before they are durable are served after Verify.
//
// After ErrIncomplete, ErrDigestMismatch or ctx's error the partial is as before. After another error nobody knows
// what the disk holds: the partial takes no more, and Close removes it. Pieces already read stay readable through
// descriptors. After success the Partial can still be read; Close lets it go. Another Commit is Get.
func (p *Partial) Commit(ctx context.Context) (*Blob, error) {
	if err := p.verify(ctx); err != nil {
		return nil, p.wrap("commit", err)
	}
	switch err := p.seize(); {
	case errors.Is(err, ErrComplete):
		return p.s.Get(p.e.digest)
	case err != nil:
		return nil, p.wrap("commit", err)
	}
	b, err := p.commit()
	if err != nil {
		p.yield(phaseOpen)
		return nil, p.wrap("commit", err)
	}
	p.yield(phaseComplete)
	return b, nil
}

// commit runs while the partial is seized.
func (p *Partial) commit() (*Blob, error) {
	side := sidecar{layout: p.layout, hashes: make([]Hash, len(p.pieces))}
	p.mu.Lock()
	broken, verified := p.broken, p.verified
	for i := range p.pieces {
		side.hashes[i] = p.pieces[i].hash
	}
	p.mu.Unlock()
	if broken != nil {
		return nil, broken
	}
	if !verified { // a Reset came between
		return nil, ErrIncomplete
	}
	// Opened first, so that a blob that is in place is never without its reader for want of a descriptor.
	f, err := os.Open(p.s.paths.partial(p.e.digest))
	if err != nil {
		return nil, err
	}
	info, err := p.keep(side)
	if err != nil {
		_ = f.Close()
		p.mu.Lock()
		p.broken = fmt.Errorf("commit failed: %w", err)
		p.mu.Unlock()
		return nil, noSpace(err)
	}
	return p.s.adoptCommitted(p.e, f, newLedger(side, info, p.s.now(), true)), nil
}

// keep makes the verified data durable and moves it to its place:
//
//	fsync(data)                  what is renamed is what was verified
//	write and rename sidecar     before the blob, so that the blob is never seen without; not synced, see doc.go
//	rename data, fsync(blobs/)   the blob is there
//	unlink journal               a crash before leaves an orphan for Open
//
// An error of the last fsync alone is no failure: before the rename and after it the file is equally whole.
func (p *Partial) keep(side sidecar) (fs.FileInfo, error) {
	s, d := p.s, p.e.digest
	p.flusher.Stop()
	p.hasher.Stop()
	if err := p.data.Sync(); err != nil {
		return nil, err
	}
	info, err := p.data.Stat()
	if err != nil {
		return nil, err
	}
	if err := s.writeSidecar(d, side, false); err != nil {
		log.Warnw("sidecar not written", "blob", d, "err", err) // it can be computed again
	}
	if err := s.disk.Rename(s.paths.partial(d), s.paths.blob(d)); err != nil {
		s.remove(s.paths.meta(d))
		s.remove(s.paths.blob(d)) // if it was renamed all the same, nobody will know of it
		return nil, err
	}
	if err := s.disk.SyncDir(s.paths.blobs(d.Algorithm())); err != nil {
		log.Warnw("directory not synced", "blob", d, "err", err)
	}
	if err := p.journal.f.Close(); err != nil {
		log.Warnw("journal not closed", "blob", d, "err", err)
	}
	s.remove(s.paths.journal(d))
	return info, nil
}

// adoptCommitted makes the entry a complete blob that f has open.
func (s *Store) adoptCommitted(e *entry, f *os.File, l *ledger) *Blob {
	e.load.Lock()
	e.ledger = l
	e.load.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	e.state, e.used, e.stamped, e.scrubbed = stateComplete, s.now(), s.now(), s.now()
	s.promised -= e.promised
	e.promised = 0
	e.refs++
	return &Blob{s: s, e: e, f: f, ledger: l, mediaType: e.mediaType}
}
