package store

import (
	"cmp"
	"slices"
	"sync"
)

// flushStep is how many bytes are had written at a time: each call costs the file system something, so that those for
// 1 MiB cost twice as much processor time a GiB as those for 8 MiB (0.1 s), which is what more brings nothing to.
const flushStep = 8 << 20

// flusher has written ranges brought to the disk early, so that the sync at the end of a blob is short: flushStep is
// left to it at most. It is a goroutine of its own because the kernel may make it wait when the disk's queue is full. It
// runs only while there is something to flush; what waits is at most one range for each piece.
type flusher struct {
	f file

	mu      sync.Mutex
	cond    sync.Cond
	pending []span
	bytes   int64 // in pending
	running bool
	stopped bool
}

// span is a range of a file.
type span struct{ off, n int64 }

func newFlusher(f file) *flusher {
	w := &flusher{f: f}
	w.cond.L = &w.mu
	return w
}

// Add queues a range that was written.
func (w *flusher) Add(off, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	w.pending = append(w.pending, span{off, n})
	if w.bytes += n; w.bytes >= flushStep && !w.running {
		w.running = true
		go w.run()
	}
}

func (w *flusher) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.stopped && w.bytes >= flushStep {
		batch := w.pending
		w.pending, w.bytes = nil, 0
		w.mu.Unlock()
		for _, r := range joined(batch) {
			w.f.Flush(r.off, r.n)
		}
		w.mu.Lock()
	}
	w.running = false
	w.cond.Broadcast()
}

// joined sorts ranges that do not overlap, and makes one of neighbours. It changes the slice that it is given.
func joined(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.off, b.off) })
	out := spans[:0]
	for _, s := range spans {
		if last := len(out) - 1; last >= 0 && out[last].off+out[last].n == s.off {
			out[last].n += s.n
		} else {
			out = append(out, s)
		}
	}
	return out
}

// Stop drops what waits and ends the goroutine.
func (w *flusher) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	for w.running {
		w.cond.Wait()
	}
	w.pending, w.bytes = nil, 0
}
