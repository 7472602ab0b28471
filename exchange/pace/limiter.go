package pace

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
	"golang.org/x/time/rate"
)

const (
	// MaxChunk is the unit in which bytes move while there is no limit.
	MaxChunk = 256 << 10
	minChunk = 1 << 10

	chunkTime = 2 * time.Millisecond
	burstTime = 30 * time.Millisecond

	// patience is how many times the time of its chunk the background waits for the foreground.
	patience = 20
	// maxDebt bounds what Charge lets others pay for.
	maxDebt = time.Second
)

// Limiter lets bytes through at a rate.
type Limiter struct {
	bucket  *rate.Limiter
	rate    atomic.Int64                  // bytes/s; 0: no limit
	changed atomic.Pointer[chan struct{}] // closed at the next change of the rate
	// One of each class at a time is at the bucket, the others queue here: a wait under an old rate is short then, and
	// the foreground has at most one chunk of the background before it.
	turns [2]chan struct{}
}

// New returns a limiter of so many bytes a second; 0 or less is no limit.
func New(bytesPerSecond int64) *Limiter {
	l := &Limiter{bucket: rate.NewLimiter(rate.Inf, minChunk)}
	for i := range l.turns {
		l.turns[i] = make(chan struct{}, 1)
	}
	l.changed.Store(new(chan struct{}))
	l.SetRate(bytesPerSecond)
	return l
}

// Rate returns bytes a second; 0: no limit.
func (l *Limiter) Rate() int64 {
	if l == nil {
		return 0
	}
	return l.rate.Load()
}

// SetRate changes the rate, also for those who wait.
func (l *Limiter) SetRate(bytesPerSecond int64) {
	bytesPerSecond = max(bytesPerSecond, 0)
	l.rate.Store(bytesPerSecond)
	next := make(chan struct{})
	defer func() {
		if before := *l.changed.Swap(&next); before != nil {
			close(before)
		}
	}()
	if bytesPerSecond == 0 {
		l.bucket.SetLimit(rate.Inf)
		return
	}
	l.bucket.SetLimit(rate.Limit(bytesPerSecond))
	l.bucket.SetBurst(max(bytesIn(burstTime, bytesPerSecond), 4*minChunk))
}

func bytesIn(d time.Duration, bytesPerSecond int64) int {
	return int(min(float64(bytesPerSecond)*d.Seconds(), 1<<40))
}

// Chunk returns how many bytes to move between two calls of Wait, at most MaxChunk.
func (l *Limiter) Chunk() int {
	r := l.Rate()
	if r == 0 {
		return MaxChunk
	}
	return min(max(bytesIn(chunkTime, r), minChunk), MaxChunk)
}

// Wait returns when n bytes may go, or have been paid for if they came already. It fails with ctx. n is best a Chunk at most.
func (l *Limiter) Wait(ctx context.Context, c swarm.Class, n int) error {
	if l.Rate() == 0 {
		return ctx.Err()
	}
	turn := l.turns[min(int(c), 1)]
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for n > 0 {
		part := min(n, minBurst(l.bucket))
		if c != swarm.Foreground {
			if err := l.yield(ctx, part); err != nil {
				return err
			}
		}
		taken, err := l.take(ctx, part)
		if err != nil {
			return err
		}
		if taken {
			n -= part
		}
	}
	return nil
}

// take waits for n tokens. It gives up, and is to be asked anew, when the rate changes: a KiB at a byte a second would be a
// quarter of an hour.
func (l *Limiter) take(ctx context.Context, n int) (taken bool, err error) {
	changed := *l.changed.Load()
	r := l.bucket.ReserveN(time.Now(), n)
	if !r.OK() { // the bucket has shrunk
		return false, ctx.Err()
	}
	timer := time.NewTimer(r.Delay())
	defer timer.Stop()
	select {
	case <-timer.C:
		return true, nil
	case <-changed:
		r.Cancel()
		return false, nil
	case <-ctx.Done():
		r.Cancel()
		return false, ctx.Err()
	}
}

// minBurst is what a bucket gives at once for sure: a change of the rate may halve it meanwhile.
func minBurst(b *rate.Limiter) int { return max(b.Burst()/2, 1) }

// yield waits until the foreground leaves tokens, or has been waited for long enough.
func (l *Limiter) yield(ctx context.Context, n int) error {
	began := time.Now()
	for {
		changed := *l.changed.Load()
		r := l.Rate()
		if r == 0 {
			return nil
		}
		long := time.Duration(float64((patience-1)*n) / float64(r) * float64(time.Second))
		missing := float64(l.bucket.Burst())/2 - l.bucket.Tokens()
		wait := min(time.Duration(missing/float64(r)*float64(time.Second))+time.Microsecond, long-time.Since(began))
		if missing <= 0 || wait <= 0 {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// Charge counts n bytes that have gone without asking, as control messages do: those who ask make room for them. It
// never waits.
func (l *Limiter) Charge(n int) {
	r := l.Rate()
	if r == 0 || l.bucket.Tokens() < -float64(bytesIn(maxDebt, r)) {
		return
	}
	for now := time.Now(); n > 0; {
		part := min(n, minBurst(l.bucket))
		l.bucket.ReserveN(now, part)
		n -= part
	}
}
