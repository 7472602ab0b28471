package dht

import (
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
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
)

// ownRecords are the records that this node keeps alive: each is placed again at 0.3 to 0.45 of its validity. Those that
// others may make needless are looked at each time before: if there are enough of them, this node's is left to run out.
type ownRecords struct {
	ttl     time.Duration
	place   func(context.Context, cid.Cid) error
	enough  func(context.Context, *record) bool
	limit   *semaphore.Weighted
	changed chan struct{} // capacity 1: the earliest record may be another one now

	placed, failed atomic.Int64 // placements, those that failed

	mu   sync.Mutex
	keys map[cid.Cid]*record
	due  dueHeap
}

// record is one key that this node announces itself under, or may. The lock of ownRecords guards what changes.
type record struct {
	key    cid.Cid
	blob   digest.Digest
	global bool          // it is not the zone's key
	must   bool          // placed however many others there are
	at     time.Time     // when it is placed next
	retry  time.Duration // the wait after the last failure, 0 after a success
	here   bool          // placed by this node within its validity, and not left to others since
	index  int           // in the heap, -1 while it is being placed
}

func newOwnRecords(ttl time.Duration, place func(context.Context, cid.Cid) error, enough func(context.Context, *record) bool) *ownRecords {
	return &ownRecords{
		ttl: ttl, place: place, enough: enough, limit: semaphore.NewWeighted(provideLimit), changed: make(chan struct{}, 1),
		keys: make(map[cid.Cid]*record),
	}
}

// provide keeps a record, and places it now if wait is 0. One that is kept and fresh is left as it is.
func (o *ownRecords) provide(ctx context.Context, want record, wait time.Duration) error {
	o.mu.Lock()
	r := o.keys[want.key]
	switch {
	case r == nil:
		r = &want
		r.index = -1
		o.keys[r.key] = r
	case r.index < 0 || wait > 0 || r.here && r.retry == 0:
		r.must = want.must
		o.mu.Unlock()
		return nil // under way, placed already, or looked at when it is due
	default:
		r.must = want.must
		heap.Remove(&o.due, r.index)
	}
	if wait > 0 {
		r.at = time.Now().Add(wait)
		o.push(r)
		o.mu.Unlock()
		return nil
	}
	o.mu.Unlock()
	return o.renew(ctx, r)
}

// once places a record that is not kept.
func (o *ownRecords) once(ctx context.Context, r *record) error {
	if err := o.limit.Acquire(ctx, 1); err != nil {
		return err
	}
	defer o.limit.Release(1)
	ctx, cancel := context.WithTimeout(ctx, provideTimeout)
	defer cancel()
	if !r.must && o.enough(ctx, r) {
		return nil
	}
	o.placed.Add(1)
	if err := o.place(ctx, r.key); err != nil && !errors.Is(err, kb.ErrLookupFailure) {
		o.failed.Add(1)
		return err
	}
	return nil
}

func (o *ownRecords) withdraw(blob digest.Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, r := range o.keys {
		if r.blob == blob {
			o.remove(key, r)
		}
	}
}

// remove forgets a record; mu is held.
func (o *ownRecords) remove(key cid.Cid, r *record) {
	delete(o.keys, key)
	if r.index >= 0 {
		heap.Remove(&o.due, r.index)
	}
}

// renew places r, which is not in the heap, unless others are enough, and puts it back.
func (o *ownRecords) renew(ctx context.Context, r *record) error {
	o.mu.Lock()
	must := r.must
	o.mu.Unlock()
	left := false
	err := o.limit.Acquire(ctx, 1)
	if err == nil {
		err = func() error {
			defer o.limit.Release(1)
			ctx, cancel := context.WithTimeout(ctx, provideTimeout)
			defer cancel()
			if left = !must && o.enough(ctx, r); left {
				return nil
			}
			o.placed.Add(1)
			return o.place(ctx, r.key)
		}()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.keys[r.key] != r {
		return nil // withdrawn meanwhile
	}
	renewal := time.Duration((0.3 + 0.15*rand.Float64()) * float64(o.ttl))
	if err != nil {
		o.failed.Add(1)
		r.retry = min(max(2*r.retry, retryFirst), renewal)
		r.at = time.Now().Add(time.Duration((0.75 + 0.5*rand.Float64()) * float64(r.retry)))
	} else {
		r.retry, r.here = 0, !left
		r.at = time.Now().Add(renewal)
	}
	o.push(r)
	if errors.Is(err, kb.ErrLookupFailure) {
		return nil // nobody else in the table
	}
	return err
}

// count returns the records that this node has placed, and those that it leaves to others.
func (o *ownRecords) count() (placed, left int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.keys {
		if r.here {
			placed++
		} else {
			left++
		}
	}
	return placed, left
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
