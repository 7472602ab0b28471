package dht

import (
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"
)

const (
	provideTimeout = 20 * time.Second // one placement, lookup and stores
	provideLimit   = 4                // placements at once
	retryFirst     = 5 * time.Second  // after a placement that failed or found nobody; doubles
	sawTTL         = 5 * time.Minute  // how long a count of holders seen in a lookup counts
	sawMax         = 4096             // counts kept
)

// ownRecords are the records that this node keeps alive: each is placed again at 0.3 to 0.45 of its validity.
type ownRecords struct {
	ttl     time.Duration
	place   func(context.Context, cid.Cid, bool) error
	limit   *semaphore.Weighted
	changed chan struct{} // capacity 1: the earliest record may be another one now

	mu   sync.Mutex
	keys map[cid.Cid]*record
	due  dueHeap
	seen map[digest.Digest]sighting
}

// record is one key that this node announces itself under. The lock of ownRecords guards it.
type record struct {
	key   cid.Cid
	blob  digest.Digest
	at    time.Time     // when it is placed next
	retry time.Duration // the wait after the last failure, 0 after a success
	index int           // in the heap, -1 while it is being placed
}

type sighting struct {
	n  int
	at time.Time
}

func newOwnRecords(ttl time.Duration, place func(context.Context, cid.Cid, bool) error) *ownRecords {
	return &ownRecords{
		ttl: ttl, place: place, limit: semaphore.NewWeighted(provideLimit), changed: make(chan struct{}, 1),
		keys: make(map[cid.Cid]*record), seen: make(map[digest.Digest]sighting),
	}
}

// provide places a record now and keeps it. A record that is kept and fresh is left as it is.
func (o *ownRecords) provide(ctx context.Context, blob digest.Digest, key cid.Cid) error {
	o.mu.Lock()
	r := o.keys[key]
	switch {
	case r == nil:
		r = &record{key: key, blob: blob, index: -1}
		o.keys[key] = r
	case r.index < 0 || r.retry == 0 && !r.at.IsZero():
		o.mu.Unlock()
		return nil // under way, or placed already
	default:
		heap.Remove(&o.due, r.index)
	}
	o.mu.Unlock()
	return o.renew(ctx, r)
}

func (o *ownRecords) withdraw(blob digest.Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, r := range o.keys {
		if r.blob != blob {
			continue
		}
		delete(o.keys, key)
		if r.index >= 0 {
			heap.Remove(&o.due, r.index)
		}
	}
}

// renew places r, which is not in the heap, and puts it back.
func (o *ownRecords) renew(ctx context.Context, r *record) error {
	err := o.limit.Acquire(ctx, 1)
	if err == nil {
		err = func() error {
			defer o.limit.Release(1)
			ctx, cancel := context.WithTimeout(ctx, provideTimeout)
			defer cancel()
			return o.place(ctx, r.key, true)
		}()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.keys[r.key] != r {
		return nil // withdrawn meanwhile
	}
	renewal := time.Duration((0.3 + 0.15*rand.Float64()) * float64(o.ttl))
	if err != nil {
		r.retry = min(max(2*r.retry, retryFirst), renewal)
		r.at = time.Now().Add(time.Duration((0.75 + 0.5*rand.Float64()) * float64(r.retry)))
	} else {
		r.retry = 0
		r.at = time.Now().Add(renewal)
	}
	o.push(r)
	if errors.Is(err, kb.ErrLookupFailure) {
		return nil // nobody else in the table
	}
	return err
}

// push puts r into the heap; mu is held.
func (o *ownRecords) push(r *record) {
	heap.Push(&o.due, r)
	if r.index == 0 {
		select {
		case o.changed <- struct{}{}:
		default:
		}
	}
}

// run places records as they fall due.
func (o *ownRecords) run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(o.untilDue())
		select {
		case <-ctx.Done():
			return nil
		case <-o.changed:
			continue
		case <-timer.C:
		}
		if o.limit.Acquire(ctx, 1) != nil { // do not start what would only wait
			return nil
		}
		o.limit.Release(1)
		if r := o.takeDue(); r != nil {
			wg.Go(func() {
				if err := o.renew(ctx, r); err != nil && ctx.Err() == nil {
					log.Debugw("provider record not renewed", "blob", r.blob, "err", err)
				}
			})
		}
	}
}

func (o *ownRecords) untilDue() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.due) == 0 {
		return time.Hour
	}
	return max(0, time.Until(o.due[0].at))
}

func (o *ownRecords) takeDue() *record {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.due) == 0 || time.Now().Before(o.due[0].at) {
		return nil
	}
	return heap.Pop(&o.due).(*record)
}

// saw notes how many holders a lookup of the zone's key met.
func (o *ownRecords) saw(blob digest.Digest, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.seen) >= sawMax {
		clear(o.seen) // it only saves announcements
	}
	o.seen[blob] = sighting{n: n, at: time.Now()}
}

// holders returns how many holders a recent lookup met, 0 if there was none.
func (o *ownRecords) holders(blob digest.Digest) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.seen[blob]; time.Since(s.at) < sawTTL {
		return s.n
	}
	return 0
}

// dueHeap orders records by the time they are due.
type dueHeap []*record

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *dueHeap) Push(x any) {
	r := x.(*record)
	r.index = len(*h)
	*h = append(*h, r)
}

func (h *dueHeap) Pop() any {
	old := *h
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	r.index = -1
	return r
}
