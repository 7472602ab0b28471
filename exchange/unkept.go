package exchange

import (
	"bytes"
	"context"
	"fmt"
	"hash"
	"io"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
)

// A blob that the store cannot take streams through memory to its readers (swarm.Unkept): what is on disk already stays
// and is read from there, the rest is held while swarm.Window says so. One that was proven and could not be made durable is
// read from the disk too, but each piece is hashed first: a kernel that failed to write a page may have thrown it away.

// unkept is that part of a session. Guarded by session.mu.
type unkept struct {
	on         bool
	reserved   int64                       // bytes of Exchange.streams
	held       map[swarm.PieceIndex][]byte // never changed, so that readers need no lock
	windowed   bool                        // the core has said what to hold
	now, later swarm.Bitmap                // as in swarm.Window
	disproved  int                         // generation of bytes that were found wrong, plus 1
	suspect    *suspect                    // what is on disk may be lost; nil: it is good
	untold     map[swarm.PieceIndex]bool   // held, and the core has yet to be told so
}

// stream has a session go on without the store, which failed by err, and reports whether it does: for a blob that local
// clients read and whose bytes its digest proves, or that was proven, while there is memory.
func (x *Exchange) stream(s *session, size int64, err error) bool {
	if !ofDisk(err) {
		return false
	}
	began, ok := s.beginStream(x, size, err)
	if began {
		log.Warnw("blob is not kept, it is streamed to its readers", "blob", s.digest, "bytes", size, "err", err)
		x.tellUnkept(s)
		s.mu.Lock()
		s.told = size
		s.signal()
		s.mu.Unlock()
	}
	return ok
}

// tellUnkept tells the core what there is on disk of a blob that is not kept.
func (x *Exchange) tellUnkept(s *session) {
	s.mu.Lock()
	u := &s.unkept
	ev := swarm.Unkept{Digest: s.digest, Size: s.size, Have: s.have.Clone(), Suspect: u.suspect != nil}
	for i := range u.held {
		ev.Have.Clear(i)
	}
	s.mu.Unlock()
	x.post(unkeptBy{ev, s})
}

// beginStream reports whether a session is not kept from now on, and whether it is not kept at all.
func (s *session) beginStream(x *Exchange, size int64, err error) (began, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := swarm.LayoutOf(size)
	need := x.cfg.Swarm.WindowBytes(l)
	if s.phase == verified {
		need += maxSalvaged * l.PieceSize
	}
	switch {
	case s.unkept.on:
		return false, true
	case s.clients == 0, s.phase == failed, s.phase != verified && store.IsFile(s.digest), !x.streams.TryAcquire(need):
		return false, false
	}
	if s.part == nil {
		s.size, s.layout, s.have, s.held = size, l, swarm.NewBitmap(l.Pieces()), 0
	}
	s.unkept = unkept{on: true, reserved: need, held: make(map[swarm.PieceIndex][]byte), untold: make(map[swarm.PieceIndex]bool)}
	if s.phase == verified {
		s.unkept.suspect = newSuspect(s.part)
	}
	s.phase, s.storeErr = filling, err
	s.signal()
	return true, true
}

// unkeptBy is an Unkept that is true while a session lasts.
type unkeptBy struct {
	swarm.Unkept
	by *session
}

// setWindow has a session hold what the core says, and forget the rest.
func (x *Exchange) setWindow(a swarm.Window) {
	s := x.session(a.Digest)
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := &s.unkept
	u.now, u.later, u.windowed = a.Now, a.Later, true
	for i := range u.held {
		if !u.now.Has(i) {
			delete(u.held, i)
			s.have.Clear(i)
			s.held--
		}
	}
	s.signal()
}

// keepPiece stores a piece whose bytes match its attestation or, of a blob that is not kept, holds it for the readers.
// Otherwise as session.keep.
func (x *Exchange) keepPiece(ctx context.Context, s *session, gen int, i swarm.PieceIndex, data []byte, a wire.Attestation) (kept bool, err error) {
	kept, err = s.keep(gen, i, data, a)
	if err != nil {
		x.notKept(int64(len(data)), err)
		s.mu.Lock()
		size := s.size
		s.mu.Unlock()
		if !x.stream(s, size, err) {
			return false, err
		}
	}
	return kept || s.hold(ctx, gen, i, data), nil
}

// hold takes a piece of a blob that is not kept into memory if a reader wants it soon.
func (s *session) hold(ctx context.Context, gen int, i swarm.PieceIndex, data []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := &s.unkept
	for {
		switch {
		case !u.on, s.gen != gen, s.phase != filling, s.have.Has(i), u.windowed && !u.now.Has(i):
			return false
		case u.windowed:
			u.held[i], u.untold[i] = bytes.Clone(data), true
			s.have.Set(i)
			s.held++
			s.flowing = true
			s.signal()
			return true
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			s.mu.Lock()
			return false
		}
		s.mu.Lock()
	}
}

// toldOf notes that the core knows of a piece, and on whose word it rests.
func (s *session) toldOf(i swarm.PieceIndex) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unkept.untold[i] {
		delete(s.unkept.untold, i)
		s.signal()
	}
}

// awaitWindow waits until a piece of a blob that is not kept is one to be held or skipped.
func (s *session) awaitWindow(ctx context.Context, gen int, i swarm.PieceIndex) error {
	for {
		s.mu.Lock()
		u := &s.unkept
		wait := u.on && s.gen == gen && s.phase == filling && (!u.windowed || u.later.Has(i) && !u.now.Has(i))
		changed := s.changed
		s.mu.Unlock()
		if !wait {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// passed reports whether a piece that came is held no more: the readers of a blob that is not kept were quicker than the
// word of it.
func (x *Exchange) passed(d digest.Digest, i swarm.PieceIndex) bool {
	s := x.session(d)
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unkept.on && !s.have.Has(i)
}

// forget gives the memory of a session that has ended back.
func (x *Exchange) forget(s *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.streams.Release(s.unkept.reserved)
	s.unkept.reserved, s.unkept.held, s.unkept.suspect = 0, nil, nil
}

// nextUnkept is next for a blob that is not kept, by the piece: 0 bytes if it is kept, errMoved if what is there is to be
// looked at again.
func (r *Reader) nextUnkept(limit int64) (int64, io.Reader, error) {
	s := r.s
	if s == nil {
		return 0, nil, nil
	}
	s.mu.Lock()
	if !s.unkept.on || s.phase != filling {
		s.mu.Unlock()
		return 0, nil, nil
	}
	i := s.layout.Piece(r.off)
	off, size := s.layout.Span(i)
	data, here := s.unkept.held[i], s.have.Has(i) && s.gen == r.gen
	doubtful := data == nil && s.unkept.suspect != nil
	s.mu.Unlock()
	if !here {
		return 0, nil, errMoved
	}
	n := min(limit, off+size-r.off, r.end-r.off)
	if doubtful {
		return r.nextSuspect(i, n)
	}
	if err := r.prove(i, data); err != nil {
		return 0, nil, err
	}
	if data == nil {
		f, err := r.open()
		return n, f, err
	}
	at := r.off - off
	return n, r.inMemory(data[at : at+n]), nil
}

// inMemory has bytes of the piece at the offset read from memory.
func (r *Reader) inMemory(b []byte) io.Reader {
	if r.off/r.piece != r.told/r.piece {
		r.tell(false)
	}
	r.moved = true
	r.x.accounts.streamed.Add(int64(len(b)))
	return bytes.NewReader(b)
}

// whole proves, before the last piece of a blob that is not kept goes to a reader of all of it, that it matches its
// digest: the store does not. Of a blob of one piece so does every reader, of any part.
type whole struct {
	sum hash.Hash
	to  int64 // bytes that went into sum
}

// prove takes piece i, which is about to be read, into the sum of the whole, and with the last compares it. If the blob is
// not what its name says it returns ErrRestarted, or errMoved if the reader was given none of it: once others are to come.
func (r *Reader) prove(i swarm.PieceIndex, data []byte) error {
	s := r.s
	s.mu.Lock()
	l, sus := s.layout, s.unkept.suspect
	s.mu.Unlock()
	if sus != nil {
		off, n := l.Span(i)
		return r.proveAgain(data, off+n, sus.proven[i])
	}
	if (r.from > 0 || r.end < r.size) && l.Pieces() > 1 {
		return nil // a part says nothing of the whole
	}
	content, _ := store.Content(s.digest)
	if r.whole.sum == nil {
		r.whole = whole{sum: content.Algorithm().Hash()}
	}
	off, n := l.Span(i)
	if r.whole.to >= off+n {
		return nil
	}
	if err := r.sumDisk(off); err != nil {
		return err
	}
	if data != nil {
		_, _ = r.whole.sum.Write(data)
		r.whole.to = off + n
	} else if err := r.sumDisk(off + n); err != nil {
		return err
	}
	if r.whole.to < l.Size || digest.NewDigest(content.Algorithm(), r.whole.sum) == content {
		return nil
	}
	return r.restart()
}

// restart has all pieces dropped, because some were wrong. It returns ErrRestarted, or errMoved if the reader was given none.
func (r *Reader) restart() error {
	r.disprove()
	if !r.given {
		return errMoved
	}
	return fmt.Errorf("read %s: %w", r.s.digest, ErrRestarted)
}

// sumDisk takes what is on disk up to an offset into the sum: what was read before the disk was full, and is hashed at
// some 0.6 s for each GB now.
func (r *Reader) sumDisk(to int64) error {
	if r.whole.to >= to {
		return nil
	}
	f, err := r.s.openAt(r.whole.to)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.CopyN(r.whole.sum, f, to-r.whole.to)
	r.whole.to += n
	return err
}

// disprove has all pieces of a blob that is not what its name says fetched again, from others, and returns when they are
// dropped.
func (r *Reader) disprove() {
	s := r.s
	for {
		s.mu.Lock()
		over, changed := s.gen != r.gen || s.phase == failed, s.changed
		first := !over && s.unkept.disproved != r.gen+1 && len(s.unkept.untold) == 0
		if first {
			s.unkept.disproved = r.gen + 1
		}
		s.mu.Unlock()
		if over {
			return
		}
		if first {
			r.x.logMismatch(s)
			r.x.post(swarm.VerifyFailed{Digest: s.digest})
		}
		select {
		case <-changed:
		case <-r.closed:
			return
		}
	}
}
