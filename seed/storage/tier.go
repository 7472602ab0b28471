package storage

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
)

// Times and bounds of a Tier.
const (
	lookEvery  = 2 * time.Second  // at the store, for what is new
	claimWait  = 5 * time.Second  // while another seed writes a blob
	hereFor    = 10 * time.Minute // an outline is remembered
	absentFor  = 30 * time.Second // so is that there is none
	maxKnown   = 4096             // outlines remembered, and blobs distrusted
	writers    = 2
	maxReading = 64 << 20 // bytes of pieces in memory on their way out of the bucket
)

var (
	errSlow      = errors.New("the bucket sends nothing, or less than 1 MiB/s")
	errForbidden = errors.New("the bucket refuses")
)

// Tier is a bucket behind a seed's store.
type Tier struct {
	keeper store.Keeper
	st     *store.Store
	read   health
	write  health

	mu    sync.Mutex
	done  map[digest.Digest]bool      // of what is in the store: in the bucket
	later map[digest.Digest]time.Time // claimed by others, or being written
	known *simplelru.LRU[digest.Digest, known]
	sums  Sums
}

// known is what was learned of a blob in the bucket.
type known struct {
	object store.Object // nil: it is not there, or not to be trusted
	bad    bool         // it is there, and is not what it should be: to be written anew
	served int64        // bytes since the blob was last complete here
	until  time.Time
}

// Sums are counted since the start.
type Sums struct {
	BlobsOut, BytesOut int64 // written to the bucket
	BytesIn            int64 // read from the bucket
	Instead            int64 // fetches that went to the registry because the bucket failed
}

// State is how a tier is.
type State struct {
	Read, Write Health
	Pending     int // blobs that wait to be written
	Sums
}

// New returns the tier of a store. It does nothing until Run, but Origin reads at once.
func New(k store.Keeper, st *store.Store) *Tier {
	lru, err := simplelru.NewLRU[digest.Digest, known](maxKnown, nil)
	if err != nil {
		panic(err) // the size is not positive
	}
	return &Tier{keeper: k, st: st, done: make(map[digest.Digest]bool), later: make(map[digest.Digest]time.Time), known: lru}
}

// State tells how the tier is.
func (t *Tier) State() State {
	blobs := t.st.List()
	t.mu.Lock()
	defer t.mu.Unlock()
	out := State{Read: t.read.show(), Write: t.write.show(), Sums: t.sums}
	for _, b := range blobs {
		if ours(b) && !t.done[b.Digest] {
			out.Pending++
		}
	}
	return out
}

// ours reports whether a blob of the store belongs in the bucket.
func ours(b store.Info) bool { return b.Complete && !store.IsFile(b.Digest) }

// Run writes what the store has and the bucket has not, until ctx is done. What is under way then is given up, and found
// again by the next Run.
func (t *Tier) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		t.writeAll(ctx, t.due())
		select {
		case <-ctx.Done():
		case <-time.After(max(lookEvery, t.write.resting())):
		}
	}
	return nil
}

// due lists what has to be written, what was used longest ago first, and forgets what the store no longer has.
func (t *Tier) due() []digest.Digest {
	blobs := t.st.List()
	slices.SortStableFunc(blobs, func(a, b store.Info) int { return a.Used.Compare(b.Used) })
	t.mu.Lock()
	defer t.mu.Unlock()
	done := make(map[digest.Digest]bool, len(blobs))
	var out []digest.Digest
	for _, b := range blobs {
		if !ours(b) {
			continue
		}
		if k, ok := t.known.Peek(b.Digest); ok && k.served > 0 {
			k.served = 0 // it was good
			t.known.Add(b.Digest, k)
		}
		if t.done[b.Digest] {
			done[b.Digest] = true
			continue
		}
		if time.Now().After(t.later[b.Digest]) {
			out = append(out, b.Digest)
		}
	}
	t.done = done
	for d, at := range t.later {
		if time.Now().After(at) {
			delete(t.later, d)
		}
	}
	return out
}

// writeAll writes blobs, a few at a time, until the bucket fails.
func (t *Tier) writeAll(ctx context.Context, due []digest.Digest) {
	var work sync.WaitGroup
	defer work.Wait()
	next := make(chan digest.Digest)
	defer close(next)
	for range min(writers, len(due)) {
		work.Go(func() {
			for d := range next {
				if t.write.resting() <= 0 && ctx.Err() == nil {
					t.writeOne(ctx, d)
				}
			}
		})
	}
	for _, d := range due {
		next <- d
	}
}

// writeOne writes a blob and notes how it went.
func (t *Tier) writeOne(ctx context.Context, d digest.Digest) {
	size, err := t.put(ctx, d)
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, ErrClaimed):
		t.mu.Lock()
		t.later[d] = time.Now().Add(claimWait)
		t.mu.Unlock()
		return
	case errors.Is(err, errLocal):
		log.Debugw("blob not written to the bucket", "blob", d, "err", err) // it has left the store, or rots there
	case err != nil:
		t.write.fail("write", err)
		return
	default:
		t.write.ok()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done[d] = true
	if k, ok := t.known.Peek(d); ok && k.object == nil {
		t.known.Remove(d)
	}
	if size > 0 {
		t.sums.BlobsOut++
		t.sums.BytesOut += size
	}
}

// errLocal says that the blob could not be had from the store.
var errLocal = errors.New("blob is not in the store")

// put writes a blob unless it is in the bucket and good. It returns the bytes written.
func (t *Tier) put(ctx context.Context, d digest.Digest) (int64, error) {
	if t.bad(d) {
		if err := t.keeper.Drop(ctx, d); err != nil {
			return 0, err
		}
		t.mu.Lock()
		t.known.Remove(d)
		t.mu.Unlock()
	}
	switch o, err := t.keeper.Open(ctx, d); {
	case err == nil:
		return 0, o.Close()
	case !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrInvalid): // a damaged outline is written anew
		return 0, err
	}
	b, err := t.st.Get(d)
	if err != nil {
		return 0, errors.Join(errLocal, err)
	}
	defer b.Close()
	o, err := b.Outline()
	if err != nil {
		return 0, errors.Join(errLocal, err)
	}
	ctx, cancel := context.WithTimeout(ctx, readTime(o.Size)+4*askTime)
	defer cancel()
	src := &source{b: b}
	if err := t.keeper.Keep(ctx, d, o, src); err != nil {
		if src.err != nil {
			err = errors.Join(errLocal, err)
		}
		return 0, err
	}
	if !src.read { // it has come into the bucket meanwhile
		return 0, nil
	}
	return o.Size, nil
}

// bad reports whether a blob in the bucket was found to be another.
func (t *Tier) bad(d digest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	k, _ := t.known.Peek(d)
	return k.bad
}

// source reads the store's blob, and remembers whether that was asked for and has failed.
type source struct {
	b    *store.Blob
	read bool
	err  error
}

func (s *source) ReadAt(p []byte, off int64) (int, error) {
	s.read = true
	n, err := s.b.ReadAt(p, off)
	if n < len(p) {
		s.err = err
	}
	return n, err
}
