package exchange

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
)

// openBlob has the store make room, and tells the core what an earlier run left.
func (x *Exchange) openBlob(a swarm.OpenBlob) {
	s := x.sessionFor(a.Digest)
	if s == nil {
		return
	}
	s.wanted()
	x.later(s, func() {
		have, err := x.beginWithRoom(s, a.Size)
		if errors.Is(err, store.ErrComplete) && x.adopt(s) {
			x.post(swarm.Held{Digest: s.digest, Size: s.size, Have: swarm.FullBitmap(s.layout.Pieces())})
			return
		}
		if err != nil {
			x.notKept(a.Size, err)
			err = fmt.Errorf("make room for %s: %w", a.Digest, err)
			if !x.stream(s, a.Size, err) {
				x.storeFailed(s, err)
			}
			return
		}
		x.roomAgain()
		x.tellHeld(s, a.Size, have)
	})
}

// tellHeld tells the core what the store holds, and only then those who wait to add to it: the core drops pieces of a
// blob that it does not know to be open.
func (x *Exchange) tellHeld(s *session, size int64, have swarm.Bitmap) {
	x.post(heldBy{swarm.Held{Digest: s.digest, Size: size, Have: have}, s})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = size
	s.signal()
}

// heldBy is a Held that is true while a session lasts.
type heldBy struct {
	swarm.Held
	by *session
}

// live returns an event as the core is to have it; false if it speaks for a session that has ended meanwhile: to the core,
// which would not ask for the blob to be opened again, that would be one that stays open. The loop calls it.
func (x *Exchange) live(ev swarm.Event) (swarm.Event, bool) {
	switch e := ev.(type) {
	case heldBy:
		return e.Held, x.lasts(e.by)
	case unkeptBy:
		return e.Unkept, x.lasts(e.by)
	case swarm.PieceArrived:
		e.Passed = x.passed(e.Digest, e.Piece)
		return e, true
	case swarm.OriginPiece:
		e.Passed = x.passed(e.Digest, e.Piece)
		return e, true
	}
	return ev, true
}

// lasts reports whether a session has not ended.
func (x *Exchange) lasts(s *session) bool {
	if x.session(s.digest) != s {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.retired && s.phase != failed
}

// later runs a store operation of a session after those before it.
func (x *Exchange) later(s *session, f func()) {
	s.storeOps.do(func(run func()) bool { return x.spawn(run) }, f)
}

// begin opens the partial of a session for a size and returns the pieces that are there already.
func (x *Exchange) begin(s *session, size int64) (swarm.Bitmap, error) {
	if s.after != nil {
		<-s.after.gone
		s.after = nil
	}
	if err := s.dropOtherSize(size); err != nil {
		return swarm.Bitmap{}, err
	}
	s.mu.Lock()
	open := s.part != nil
	s.mu.Unlock()
	if !open {
		if err := s.beginPartial(x.store, size); err != nil {
			return swarm.Bitmap{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have.Clone(), nil
}

// adopt ends a session whose blob came into the store by another way.
func (x *Exchange) adopt(s *session) bool {
	blob, err := x.store.Get(s.digest)
	if err != nil {
		return false
	}
	f, err := blob.OpenFile()
	if err != nil {
		_ = blob.Close()
		return false
	}
	s.mu.Lock()
	s.blob, s.file = blob, f
	s.size, s.layout = blob.Size(), swarm.LayoutOf(blob.Size())
	s.have = swarm.FullBitmap(s.layout.Pieces())
	s.held = s.have.Len()
	s.phase = verified
	s.signal()
	s.mu.Unlock()
	x.finish(s)
	return true
}

// dropOtherSize gives up the partial if the size that was believed turned out wrong.
func (s *session) dropOtherSize(size int64) error {
	s.mu.Lock()
	p := s.part
	if p == nil || s.size == size {
		s.mu.Unlock()
		return nil
	}
	s.part, s.phase, s.told = nil, opening, -1
	s.gen++
	s.closeFile()
	s.signal()
	s.mu.Unlock()
	s.writing.Lock() // wait for writes under way
	defer s.writing.Unlock()
	return p.Discard()
}

func (s *session) beginPartial(st *store.Store, size int64) error {
	l := swarm.LayoutOf(size)
	p, err := st.Begin(s.digest, size, l.PieceSize)
	if err != nil {
		return err
	}
	f, err := p.OpenFile()
	if err != nil {
		_ = p.Close()
		return err
	}
	have := swarm.NewBitmap(l.Pieces())
	for i := range l.Pieces() {
		if p.Have(i) {
			have.Set(swarm.PieceIndex(i))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part, s.file, s.size, s.layout = p, f, size, l
	s.have, s.held = have, have.Count()
	if s.phase == opening {
		s.phase = filling
	}
	s.signal()
	return nil
}

// storeFailed ends a session whose blob the store cannot take.
func (x *Exchange) storeFailed(s *session, err error) {
	log.Warnw("store failed", "blob", s.digest, "err", err)
	s.mu.Lock()
	if s.storeErr == nil {
		s.storeErr = err
	}
	s.mu.Unlock()
	x.post(swarm.OpenFailed{Digest: s.digest})
}

// keep stores a piece whose bytes match its attestation and wakes the readers. kept is false if the piece was
// here already or the session has moved on; an error is the store's.
func (s *session) keep(gen int, i swarm.PieceIndex, data []byte, a wire.Attestation) (kept bool, err error) {
	p := s.claimWrite(gen, i)
	if p == nil {
		return false, nil
	}
	s.writing.RLock()
	s.mu.Lock()
	current := s.gen == gen
	s.mu.Unlock()
	if current {
		err = p.WritePiece(int(i), data, store.Hash(a.Hash), a.Proof())
	}
	s.mu.Lock()
	if current = current && err == nil && s.gen == gen; current && !s.have.Has(i) {
		s.have.Set(i)
		s.held++
		s.flowing = true
		s.signal()
	}
	close(s.busy[i])
	delete(s.busy, i)
	s.mu.Unlock()
	s.writing.RUnlock()
	return current, err
}

// claimWrite makes the caller the only writer of a piece, after whoever writes it now. It returns nil if the piece
// is here, or there is nothing to write to.
func (s *session) claimWrite(gen int, i swarm.PieceIndex) *store.Partial {
	for {
		s.mu.Lock()
		if s.part == nil || s.unkept.on || s.phase != filling || s.gen != gen || s.have.Has(i) {
			s.mu.Unlock()
			return nil
		}
		other := s.busy[i]
		if s.resets > 0 {
			other = s.changed
		}
		if other == nil {
			s.busy[i] = make(chan struct{})
			p := s.part
			s.mu.Unlock()
			return p
		}
		s.mu.Unlock()
		<-other
	}
}

// verify checks the whole against its digest, lets readers have the last piece, and keeps the blob.
func (x *Exchange) verify(ctx context.Context, d digest.Digest) {
	s := x.session(d)
	if s == nil {
		if info, err := x.store.Stat(d); err == nil && info.Complete {
			x.pending = append(x.pending, swarm.Verified{Digest: d})
		}
		return
	}
	x.later(s, func() {
		s.mu.Lock()
		p := s.part
		s.mu.Unlock()
		if p == nil {
			return
		}
		err := p.Verify(ctx)
		if err == nil {
			err = x.seal(ctx, p)
		}
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, store.ErrDigestMismatch), errors.Is(err, ErrSealed):
			x.logMismatch(s)
			x.suspect(s, p)
			x.post(swarm.VerifyFailed{Digest: d})
			return
		case err != nil:
			x.storeFailed(s, fmt.Errorf("verify %s: %w", d, err))
			return
		}
		s.mu.Lock()
		s.phase = verified
		s.signal()
		s.mu.Unlock()
		x.accuse(s, p)
		x.commit(ctx, s, p)
	})
}

// seal asks whether the others have the same bytes of a file, which no digest tells.
func (x *Exchange) seal(ctx context.Context, p *store.Partial) error {
	if x.cfg.Seal == nil || !store.IsFile(p.Digest()) {
		return nil
	}
	root, err := p.Root()
	if err != nil {
		return err
	}
	return x.cfg.Seal(ctx, p.Digest(), root)
}

// commit makes a verified blob durable and ends its session. If the disk fails it does not, and the readers go on without it
// (suspect.go).
func (x *Exchange) commit(ctx context.Context, s *session, p *store.Partial) {
	blob, err := p.Commit(ctx)
	if err != nil {
		err = fmt.Errorf("keep %s: %w", s.digest, err)
		x.notKept(p.Size(), err)
		if !x.stream(s, p.Size(), err) {
			x.storeFailed(s, err)
		}
		return
	}
	x.keptAgain()
	s.mu.Lock()
	s.blob, s.part = blob, nil
	s.refs++
	s.mu.Unlock()
	_ = p.Close()
	log.Infow("blob complete", "blob", s.digest, "bytes", s.size, "dur", time.Since(s.started))
	x.finish(s)
	x.post(swarm.Verified{Digest: s.digest})
	x.release(s) // from here on it may be evicted: the core would take it for held if it heard of that first
}

// logMismatch names the origin of a blob whose SHA-256 is wrong.
func (x *Exchange) logMismatch(s *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.blamedLocked()
	log.Warnw("blob is not what its name says", "blob", s.digest, "bytes", s.size,
		"origin", o.Registry+"/"+o.Repository, "origins", max(len(s.sources), 1))
}

// discard drops all pieces of a session. Whoever read some of them fails; others read what comes next. If the core gives
// the blob up in the same step, all are told why, and nobody that it comes again.
func (x *Exchange) discard(d digest.Digest) {
	s := x.session(d)
	if s == nil {
		return
	}
	var end error
	for _, a := range x.actions {
		if g, ok := a.(swarm.GiveUp); ok && g.Digest == d {
			end = s.reason(g.Reason)
		}
	}
	s.mu.Lock()
	if end != nil {
		s.phase, s.err = failed, end
	}
	s.gen++
	if s.part != nil || s.unkept.on {
		s.have, s.held = swarm.NewBitmap(s.layout.Pieces()), 0
	}
	clear(s.unkept.held)
	if u := s.unkept.suspect; u != nil {
		clear(u.salvaged)
	}
	s.flowing, s.doubted = false, true
	s.resets++
	s.signal()
	s.mu.Unlock()
	x.later(s, func() {
		if err := s.reset(); err != nil {
			x.storeFailed(s, fmt.Errorf("drop pieces of %s: %w", d, err))
		}
	})
}

// reset has the store forget all pieces, and lets pieces be written again.
func (s *session) reset() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	p := s.part
	s.mu.Unlock()
	var err error
	if p != nil {
		err = p.Reset()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resets--
	s.signal()
	return err
}
