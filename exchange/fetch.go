package exchange

import (
	"context"
	"fmt"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// Fetch brings a whole blob onto the disk and returns when it is complete there, or as the fetch fails; at once if it is
// there. progress is told the bytes that are here, by this goroutine, and must not wait; nil: nobody is. No time bounds it
// but ctx: a session without progress fails by itself. When ctx ends, a background fetch that nobody else wants ends too, and
// what has come stays for the next. Wants as for Open, whose parts it does not know.
func (x *Exchange) Fetch(ctx context.Context, w Want, progress func(bytes int64)) error {
	w.Off, w.End, w.Sparse, w.stored = 0, 0, false, true
	h, err := x.enter(w)
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	if progress == nil {
		progress = func(int64) {}
	}
	if h.s == nil {
		progress(h.size)
		return nil
	}
	err = h.whole(ctx, progress)
	if ctx.Err() != nil {
		_ = h.Close() // first, so that the core sees that there is no reader
		x.post(swarm.Unwanted{Digest: h.s.digest})
	}
	if err != nil {
		return fmt.Errorf("fetch %s: %w", w.Digest, err)
	}
	return nil
}

// whole returns when the session has ended.
func (h *Handle) whole(ctx context.Context, progress func(int64)) error {
	s := h.s
	for {
		s.mu.Lock()
		held, err, changed := s.heldBytes(), s.err, s.changed
		if s.unkept.on && err == nil {
			err = s.storeErr
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
		progress(held)
		select {
		case <-changed:
		case <-s.gone:
			return h.kept()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// heldBytes is the bytes that are here, to a piece. The caller holds s.mu.
func (s *session) heldBytes() int64 {
	return max(0, min(int64(s.held)*s.layout.PieceSize, s.size))
}

// kept says whether the blob of a session that has ended is on disk.
func (h *Handle) kept() error {
	s := h.s
	info, err := h.x.store.Stat(s.digest)
	if err == nil && info.Complete {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.storeErr != nil:
		return s.storeErr
	}
	return ErrClosed
}
