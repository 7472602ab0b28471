package store

import "sync"

// flusher has written ranges brought to the disk early, so that the sync at the end of a blob is short. It is a
// goroutine of its own because the kernel may make it wait when the disk's queue is full. It runs only while there
// is something to flush; what waits is at most one range for each piece.
type flusher struct {
	f file

	mu      sync.Mutex
	cond    sync.Cond
	pending [][2]int64 // offset, length
	running bool
	stopped bool
}

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
	w.pending = append(w.pending, [2]int64{off, n})
	if !w.running {
		w.running = true
		go w.run()
	}
}

func (w *flusher) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.stopped && len(w.pending) > 0 {
		batch := w.pending
		w.pending = nil
		w.mu.Unlock()
		for _, r := range batch {
			w.f.Flush(r[0], r[1])
		}
		w.mu.Lock()
	}
	w.running = false
	w.cond.Broadcast()
}

// Stop drops what waits and ends the goroutine.
func (w *flusher) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	for w.running {
		w.cond.Wait()
	}
	w.pending = nil
}
