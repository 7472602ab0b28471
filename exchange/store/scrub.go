package store

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/time/rate"
)

// scrubIdle is how often a scrubber that has nothing to do looks for something.
const scrubIdle = time.Minute

// Scrub is how far the scrubber is. Numbers count from Open.
type Scrub struct {
	Paused  bool
	Due     int   // blobs that it has yet to look at
	Blobs   int64 // that it looked at to the end
	Bytes   int64 // that it hashed
	Corrupt int64 // blobs with wrong bytes, also those that a reader came upon
	// Oldest is the longest time since a blob here was last hashed from end to end; 0 if there is none. A blob that an
	// earlier run has hashed counts from Open.
	Oldest time.Duration
}

// scrubber is the state of the scrubber. Store.mu guards it.
type scrubber struct {
	paused  bool
	moved   chan struct{} // closed when paused changes
	blobs   int64
	bytes   int64
	corrupt int64
}

// PauseScrub stops the scrubber within a piece, or lets it go on.
func (s *Store) PauseScrub(paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scrubs.paused != paused {
		s.scrubs.paused = paused
		close(s.scrubs.moved)
		s.scrubs.moved = make(chan struct{})
	}
}

// Scrub tells how far the scrubber is.
func (s *Store) Scrub() Scrub {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	out := Scrub{Paused: s.scrubs.paused, Blobs: s.scrubs.blobs, Bytes: s.scrubs.bytes, Corrupt: s.scrubs.corrupt}
	for _, e := range s.entries {
		if e.state != stateComplete {
			continue
		}
		age := now.Sub(e.scrubbed)
		if e.scrubbed.IsZero() {
			age = now.Sub(s.opened)
			out.Due++
		} else if age >= s.cfg.ScrubEvery {
			out.Due++
		}
		out.Oldest = max(out.Oldest, age)
	}
	return out
}

// scrub hashes what is due, one blob after the other, until ctx is done.
func (s *Store) scrub(ctx context.Context) {
	pace := rate.NewLimiter(rate.Limit(s.cfg.ScrubRate), bufSize)
	for s.awaitScrub(ctx) {
		e := s.nextScrub()
		if e == nil {
			wait(ctx, scrubIdle)
			continue
		}
		err := s.scrubBlob(ctx, pace, e)
		s.unref(e)
		if err != nil && ctx.Err() == nil {
			log.Warnw("blob not scrubbed", "blob", e.digest, "err", err)
		}
	}
}

// awaitScrub returns true when there may be work, false when ctx is done.
func (s *Store) awaitScrub(ctx context.Context) bool {
	for ctx.Err() == nil {
		s.mu.Lock()
		paused, moved := s.scrubs.paused, s.scrubs.moved
		s.mu.Unlock()
		if !paused {
			return true
		}
		select {
		case <-moved:
		case <-ctx.Done():
		}
	}
	return false
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// nextScrub takes the blob into use that was hashed longest ago, nil if none is due. One that is being read waits until it
// is not: its readers check it themselves, and its pages had better stay in memory. It is no use for LRU.
func (s *Store) nextScrub() *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := s.now().Add(-s.cfg.ScrubEvery)
	var next *entry
	for _, e := range s.entries {
		if e.state != stateComplete || !e.idle() || e.scrubbed.After(due) {
			continue
		}
		if next == nil || e.scrubbed.Before(next.scrubbed) || e.scrubbed.Equal(next.scrubbed) && e.digest < next.digest {
			next = e
		}
	}
	if next != nil {
		next.refs++
		next.scrubbed = s.now() // also if it fails: others come first then
	}
	return next
}

// scrubBlob hashes all of a blob that the caller has in use.
func (s *Store) scrubBlob(ctx context.Context, pace *rate.Limiter, e *entry) error {
	b, err := s.openBlob(e)
	if err != nil {
		return err
	}
	defer b.f.Close()
	r := &scrubReader{ctx: ctx, s: s, f: b.f, pace: pace}
	for i := range b.ledger.hashes {
		if !s.awaitScrub(ctx) {
			return ctx.Err()
		}
		if err := b.ledger.scrub(r, i); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.rot(e, b.ledger, fmt.Errorf("%w: %w", ErrCorrupt, err))
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scrubs.blobs++
	return nil
}

// scrub hashes piece i, proven or not.
func (l *ledger) scrub(r *scrubReader, i int) error {
	off, n := l.layout.span(i)
	sum, err := hashRange(r, off, n)
	if err == nil && sum != l.hashes[i] {
		err = ErrCorrupt
	}
	l.mu.Lock()
	l.proven[i] = err == nil
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("piece %d: %w", i, err)
	}
	return nil
}

// scrubReader reads slowly, and from the disk itself: pages that are in memory say nothing of it.
type scrubReader struct {
	ctx  context.Context
	s    *Store
	f    *os.File
	pace *rate.Limiter
}

func (r *scrubReader) ReadAt(b []byte, off int64) (int, error) {
	if err := r.pace.WaitN(r.ctx, len(b)); err != nil {
		return 0, err
	}
	forgetPages(r.f, off, int64(len(b)))
	n, err := r.f.ReadAt(b, off)
	forgetPages(r.f, off, int64(len(b)))
	r.s.mu.Lock()
	r.s.scrubs.bytes += int64(n)
	r.s.mu.Unlock()
	return n, err
}
