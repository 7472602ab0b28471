package store

import (
	"context"
	"hash"
	"io"
	"sync"
)

// hashStep is how many bytes are hashed between two looks at the stop flag: about a millisecond's work.
const hashStep = 1 << 20

// hasher computes the digest of a blob that is growing from its front, behind the writers. It reads the page
// cache rather than the callers' buffers: the copy costs 0.1 s/GB, while to hash in WritePiece would make each write
// wait for its hash (1 GiB: 0.19 s for all writes as it is, 1.1 s then) and would not help pieces out of order.
//
// Its goroutine runs only while there is something to hash.
type hasher struct {
	src   io.ReaderAt
	fresh func() hash.Hash
	slots chan struct{} // bounds how many hashers of the store work at once

	mu      sync.Mutex
	cond    sync.Cond
	h       hash.Hash // the running goroutine's; else guarded by mu
	done    int64     // bytes hashed
	goal    int64     // bytes that may be hashed
	running bool
	stopped bool
	err     error // reading failed; Reset clears it
}

func newHasher(src io.ReaderAt, fresh func() hash.Hash, slots chan struct{}) *hasher {
	h := &hasher{src: src, fresh: fresh, slots: slots, h: fresh()}
	h.cond.L = &h.mu
	return h
}

// Grow says that the first goal bytes are written.
func (h *hasher) Grow(goal int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.goal = max(h.goal, goal)
	if !h.running && !h.stopped && h.err == nil && h.done < h.goal {
		h.running = true
		go h.run()
	}
}

func (h *hasher) run() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for !h.stopped && h.err == nil && h.done < h.goal {
		n := min(h.goal-h.done, hashStep)
		h.mu.Unlock()
		h.slots <- struct{}{}
		err := copyRange(h.h, h.src, h.done, n) // done changes only here while running
		<-h.slots
		h.mu.Lock()
		if h.err = err; err == nil {
			h.done += n
		}
	}
	h.running = false
	h.cond.Broadcast()
}

// Wait returns the digest of the first size bytes once they are hashed. ErrIncomplete: they were not announced, or
// Reset came between.
func (h *hasher) Wait(ctx context.Context, size int64) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.cond.Broadcast()
	})
	defer stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.err != nil:
			return nil, h.err
		case h.goal < size:
			return nil, ErrIncomplete
		case h.done == size:
			return h.h.Sum(nil), nil
		case h.stopped:
			return nil, ErrClosed
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		}
		h.cond.Wait()
	}
}

// Stop ends the goroutine and waits for it. Nothing is hashed afterwards, until Reset.
func (h *hasher) Stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	for h.running {
		h.cond.Wait()
	}
	h.cond.Broadcast()
}

// Reset starts again from nothing.
func (h *hasher) Reset() {
	h.Stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.h, h.done, h.goal, h.err, h.stopped = h.fresh(), 0, 0, nil, false
	h.cond.Broadcast()
}
