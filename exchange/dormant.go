package exchange

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
)

// Spans is the number of runs of pieces as which a blob that is here in part is announced: span i is the pieces from
// i/Spans of them up to (i+1)/Spans. One that is not here whole is not announced.
const Spans = 4

// A blob that an earlier run or an abandoned pull left in part, and that nobody wants here, sleeps: its session is open for
// peers, who find it by its spans. It keeps its room on disk meanwhile.
const (
	dormantMost = 16        // blobs; the others stay on disk and are not announced
	dormantFor  = time.Hour // then it is left to the store, until it is wanted
	dormantPoll = time.Minute
)

// announceSpans opens what is here in part for peers, and announces what spans of it are whole.
func (x *Exchange) announceSpans(ctx context.Context) {
	blobs := x.store.List()
	slices.SortFunc(blobs, func(a, b store.Info) int { return b.Used.Compare(a.Used) })
	for _, b := range blobs {
		if b.Complete || b.Have == 0 || x.alone() || ctx.Err() != nil {
			continue
		}
		s := x.revive(ctx, b)
		if s == nil || x.providers == nil {
			continue
		}
		spans := s.spans()
		if len(spans) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, provideTimeout)
		if err := x.providers.ProvideSpans(ctx, b.Digest, spans); err != nil && ctx.Err() == nil {
			log.Debugw("spans not announced", "blob", b.Digest, "err", err)
		}
		cancel()
	}
}

// revive returns the sleeping session of a blob that is here in part, opening it if need be; nil if it is wanted, has been
// shown for long enough, or there are too many.
func (x *Exchange) revive(ctx context.Context, b store.Info) *session {
	s, fresh := x.dormant(b)
	if !fresh {
		return s
	}
	opened := make(chan error, 1)
	x.later(s, func() {
		have, err := x.begin(s, b.Size)
		if err == nil {
			x.tellHeld(s, b.Size, have)
		}
		opened <- err
	})
	var err error
	select {
	case err = <-opened:
	case <-ctx.Done():
		return nil // stopping ends all sessions
	}
	if err != nil {
		log.Debugw("partial not opened for peers", "blob", b.Digest, "err", err)
		x.retire(s)
		return nil
	}
	x.spawn(func() { x.watchDormant(ctx, s) })
	return s
}

// dormant returns the sleeping session of a digest, and whether it is new.
func (x *Exchange) dormant(b store.Info) (s *session, fresh bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s := x.sessions[b.Digest]; s != nil {
		if s.asleep() {
			return s, false
		}
		return nil, false
	}
	if x.stopped || len(x.slept) >= dormantMost || x.slept[b.Digest] || b.PieceSize != swarm.LayoutOf(b.Size).PieceSize {
		return nil, false
	}
	x.slept[b.Digest] = true
	s = x.sessionLocked(b.Digest)
	s.sleeping = true // nobody else has it yet
	return s, true
}

// asleep reports whether nobody wants a session's blob here.
func (s *session) asleep() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sleeping
}

func (s *session) isRetired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired
}

// spans returns the spans of which every piece is here.
func (s *session) spans() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []int
	n := s.layout.Pieces()
	for i := range Spans {
		first, end := i*n/Spans, (i+1)*n/Spans
		whole := first < end && s.part != nil
		for p := first; p < end && whole; p++ {
			whole = s.have.Has(swarm.PieceIndex(p))
		}
		if whole {
			out = append(out, i)
		}
	}
	return out
}

// watchDormant closes a sleeping session after its time.
func (x *Exchange) watchDormant(ctx context.Context, s *session) {
	wait := time.NewTimer(dormantFor)
	defer wait.Stop()
	defer func() {
		if !s.isRetired() { // it was wanted meanwhile, and may sleep again
			x.mu.Lock()
			delete(x.slept, s.digest)
			x.mu.Unlock()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.gone:
			return
		case <-wait.C:
		}
		if x.retire(s) || !s.asleep() {
			return
		}
		wait.Reset(dormantPoll) // a piece is being sent
	}
}

// retire closes a sleeping session and reports whether it did: not one that is wanted, or in use by an upload.
func (x *Exchange) retire(s *session) bool {
	s.mu.Lock()
	if !s.sleeping || s.refs > 1 {
		s.mu.Unlock()
		return false
	}
	s.fading = true // it is not offered any more
	s.mu.Unlock()
	// First of all the core has to forget it: should it be wanted from here on, the core asks for it to be opened.
	x.post(swarm.Dropped{Digest: s.digest})
	s.mu.Lock()
	s.fading = false
	s.retired = s.sleeping && s.refs == 1
	retired := s.retired
	s.mu.Unlock()
	if retired {
		x.post(swarm.Dropped{Digest: s.digest}) // once more: a peer may have asked for it in between
		x.endSession(s, ErrAbandoned)
	}
	return retired
}

// retireAll closes what sleeps, for the room that it keeps.
func (x *Exchange) retireAll() {
	x.mu.Lock()
	var all []*session
	for d := range x.slept {
		if s := x.sessions[d]; s != nil {
			all = append(all, s)
		}
	}
	x.mu.Unlock()
	for _, s := range all {
		if x.retire(s) {
			<-s.gone
		}
	}
}

// beginWithRoom is begin, and once more without what sleeps if there is no room.
func (x *Exchange) beginWithRoom(s *session, size int64) (swarm.Bitmap, error) {
	have, err := x.begin(s, size)
	if errors.Is(err, store.ErrNoSpace) {
		x.retireAll()
		have, err = x.begin(s, size)
	}
	return have, err
}

// offer tells the core of a sleeping session, which it may have forgotten.
func (s *session) offer(x *Exchange) {
	s.mu.Lock()
	tell := s.sleeping && !s.fading && !s.retired && s.part != nil
	size, have := s.size, s.have.Clone()
	s.mu.Unlock()
	if tell {
		x.post(heldBy{swarm.Held{Digest: s.digest, Size: size, Have: have}, s})
	}
}
