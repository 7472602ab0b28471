package store

import (
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"
)

// ledger holds the piece hashes of a complete blob and knows which pieces this process has seen match.
type ledger struct {
	layout layout
	hashes []Hash

	mu     sync.Mutex
	proven []bool
	mtime  time.Time // of the data file when proven was last empty or made
	since  time.Time // the oldest proof
	rotten bool      // others may write to the file now: nothing is proven any more
}

// newLedger returns a ledger for a data file. proven says that this process wrote or hashed all of it just now.
func newLedger(s sidecar, info fs.FileInfo, now time.Time, proven bool) *ledger {
	l := &ledger{
		layout: s.layout, hashes: s.hashes, proven: make([]bool, len(s.hashes)),
		mtime: info.ModTime(), since: now,
	}
	for i := range l.proven {
		l.proven[i] = proven
	}
	return l
}

// refresh forgets proofs that are older than ttl (negative: never) or of a file that has changed since.
func (l *ledger) refresh(info fs.FileInfo, now time.Time, ttl time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mtime.Equal(info.ModTime()) && (ttl < 0 || now.Sub(l.since) < ttl) {
		return
	}
	clear(l.proven)
	l.mtime, l.since = info.ModTime(), now
}

// condemn makes every further proof fail.
func (l *ledger) condemn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rotten = true
}

func (l *ledger) isRotten() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rotten
}

func (l *ledger) isProven(i int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proven[i]
}

// prove hashes those pieces of n bytes from off that are not proven yet. Errors of r are passed on.
func (l *ledger) prove(r io.ReaderAt, off, n int64) error {
	if l.isRotten() {
		return ErrCorrupt
	}
	first, end := l.layout.cover(off, n)
	for i := first; i < end; i++ {
		if l.isProven(i) {
			continue
		}
		start, length := l.layout.span(i)
		sum, err := hashRange(r, start, length)
		if err != nil {
			return fmt.Errorf("piece %d: %w", i, err)
		}
		if sum != l.hashes[i] {
			return fmt.Errorf("piece %d: %w", i, ErrCorrupt)
		}
		l.mu.Lock()
		l.proven[i] = true
		l.mu.Unlock()
	}
	return nil
}
