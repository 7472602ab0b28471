package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

// Begin opens a blob of size bytes for writing, in pieces of pieceSize bytes, the last one shorter. What an
// earlier Partial of the same layout left is hashed, which takes about 0.4 s for each GB on two cores, and kept
// where it holds. One of another layout is thrown away.
//
// ErrComplete: the blob is here already. ErrInUse: a Partial or Put of it is open. ErrNoSpace: there is no room, or
// would be none left for others, even with everything unused deleted.
func (s *Store) Begin(d digest.Digest, size, pieceSize int64) (*Partial, error) {
	p, err := s.begin(d, size, pieceSize)
	if err != nil {
		return nil, fmt.Errorf("store: begin %s: %w", d, err)
	}
	return p, nil
}

func (s *Store) begin(d digest.Digest, size, pieceSize int64) (*Partial, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	l, err := newLayout(size, pieceSize)
	if err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.ops.Done()
	var out leaving
	defer s.tell(&out)
	e, err := s.claimPartial(d, l, &out)
	if err != nil {
		return nil, err
	}
	var p *Partial
	if e != nil {
		if p, err = s.resume(e); errors.Is(err, errJournal) || errors.Is(err, fs.ErrNotExist) {
			log.Warnw("partial not resumed", "blob", d, "err", err)
			s.forget(e)
			e = nil
		} else if err != nil {
			s.shelve(e, true, e.claimed)
			return nil, noSpace(err)
		}
	}
	if e == nil {
		if e, p, err = s.create(d, l, &out); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	e.state, e.partial, e.used = stateLive, p, s.now()
	s.mu.Unlock()
	return p, nil
}

// claimPartial takes a closed partial of the same layout for its caller alone. It returns nil if there is none, after
// removing one of another layout.
func (s *Store) claimPartial(d digest.Digest, l layout, out *leaving) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[d]
	switch {
	case e == nil:
		return nil, nil
	case e.state == stateComplete:
		return nil, ErrComplete
	case e.state != statePartial:
		return nil, ErrInUse
	case e.layout != l:
		s.detach(e, out)
		return nil, nil
	}
	e.state = stateBusy
	return e, nil
}

// forget removes an entry that its caller had for itself, with its files.
func (s *Store) forget(e *entry) {
	var out leaving
	s.mu.Lock()
	s.detach(e, &out)
	s.mu.Unlock()
	s.erase(&out)
}

// create makes the files of a new partial.
func (s *Store) create(d digest.Digest, l layout, out *leaving) (*entry, *Partial, error) {
	s.room.Lock()
	defer s.room.Unlock()
	s.erase(out)
	if err := s.restoreDirs(d); err != nil {
		return nil, nil, err
	}
	e := &entry{digest: d, layout: l, state: stateBusy}
	if err := s.enterNew(e, out); err != nil {
		return nil, nil, err
	}
	p, err := s.createFiles(e)
	if err != nil {
		s.forget(e)
		return nil, nil, noSpace(err)
	}
	return e, p, nil
}

// enterNew reserves room for a new entry, unless somebody was faster.
func (s *Store) enterNew(e *entry, out *leaving) error {
	s.mu.Lock()
	old := s.entries[e.digest] // entries are added under room only, so none comes between
	complete := old != nil && old.state == stateComplete
	s.mu.Unlock()
	switch {
	case complete:
		return ErrComplete
	case old != nil:
		return ErrInUse
	}
	err := s.reserve(e, out)
	s.erase(out)
	return err
}

func (s *Store) createFiles(e *entry) (p *Partial, err error) {
	data, err := s.disk.Open(s.paths.partial(e.digest), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	defer closeOnError(data, &err)
	if err := s.allocate(e, data); err != nil {
		return nil, err
	}
	f, err := s.disk.Open(s.paths.journal(e.digest), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	defer closeOnError(f, &err)
	j, err := newJournal(f, journalHeader{digest: e.digest, layout: e.layout})
	if err != nil {
		return nil, err
	}
	return newPartial(s, e, data, j), nil
}

func closeOnError(c io.Closer, err *error) {
	if *err != nil {
		_ = c.Close()
	}
}

// allocate brings the data file to its length. Where blocks cannot be set aside, the bytes are counted as promised until
// they are written, so that the room is not given twice.
func (s *Store) allocate(e *entry, data file) error {
	set, err := data.Allocate(e.layout.size)
	if err != nil || set {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.promised += e.layout.size
	s.promised += e.layout.size
	return nil
}

// resume opens the files of a closed partial and proves what its journal claims.
func (s *Store) resume(e *entry) (p *Partial, err error) {
	data, err := s.disk.Open(s.paths.partial(e.digest), os.O_RDWR)
	if err != nil {
		return nil, err
	}
	defer closeOnError(data, &err)
	f, err := s.disk.Open(s.paths.journal(e.digest), os.O_RDWR)
	if err != nil {
		return nil, err
	}
	defer closeOnError(f, &err)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	claims := make(map[int]record)
	h, good, err := scanJournal(io.NewSectionReader(f, 0, info.Size()), func(r record) { claims[r.piece] = r })
	if err != nil {
		return nil, err
	}
	if h.digest != e.digest || h.layout != e.layout {
		return nil, errJournal
	}
	if err := f.Truncate(good); err != nil {
		return nil, err
	}
	if err := s.allocate(e, data); err != nil {
		return nil, err
	}
	head := int64(len(h.encode()))
	p = newPartial(s, e, data, &journal{f: f, head: head, end: good})
	p.prove(claims)
	return p, nil
}

// prove hashes the pieces that a journal claims and takes those that match. Nobody else knows p yet.
func (p *Partial) prove(claims map[int]record) {
	todo := make(chan record)
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range min(runtime.GOMAXPROCS(0), len(claims)) {
		wg.Go(func() {
			for r := range todo {
				off, n := p.layout.span(r.piece)
				p.s.hashing <- struct{}{}
				sum, err := hashRange(p.data, off, n)
				<-p.s.hashing
				if err != nil || sum != r.hash {
					failed.Add(1)
					continue
				}
				p.settle(r, nil)
			}
		})
	}
	for _, r := range claims {
		todo <- r
	}
	close(todo)
	wg.Wait()
	if len(claims) > 0 {
		log.Infow("partial resumed", "blob", p.e.digest, "bytes", p.bytes, "pieces", p.held, "failed", failed.Load())
	}
}
