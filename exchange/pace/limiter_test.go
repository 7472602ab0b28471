package pace

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// log notes when bytes went, in the time of a bubble.
type log struct {
	mu    sync.Mutex
	start time.Time
	times []time.Duration
	bytes []int
}

func (l *log) add(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times, l.bytes = append(l.times, time.Since(l.start)), append(l.bytes, n)
}

// within returns the bytes in [from, from+1s).
func (l *log) within(from time.Duration) (sum int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, at := range l.times {
		if at >= from && at < from+time.Second {
			sum += l.bytes[i]
		}
	}
	return sum
}

// check fails unless every second, begun at any 50 ms, saw the rate within 5 %.
func (l *log) check(t *testing.T, from, to time.Duration, rate int) {
	t.Helper()
	for at := from; at+time.Second <= to; at += 50 * time.Millisecond {
		if got := float64(l.within(at)) / float64(rate); got < 0.95 || got > 1.05 {
			t.Errorf("second from %v: %.3f of the rate", at, got)
		}
	}
}

// stream moves bytes through a limiter, at most speed of them a second, until ctx ends.
func stream(ctx context.Context, l *Limiter, c swarm.Class, speed int, moved func(int)) {
	for ctx.Err() == nil {
		n := l.Chunk()
		time.Sleep(time.Duration(n) * time.Second / time.Duration(speed))
		if l.Wait(ctx, c, n) != nil {
			return
		}
		moved(n)
	}
}

func TestRateIsExactOverEverySecond(t *testing.T) {
	for _, rate := range []int{600e3, 10e6, 100e6, 1e9} {
		for _, streams := range []int{1, 3, 24} {
			t.Run(fmt.Sprintf("%d by %d", rate, streams), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					defer cancel()
					l, seen := New(int64(rate)), &log{start: time.Now()}
					var wg sync.WaitGroup
					for range streams {
						wg.Go(func() { stream(ctx, l, swarm.Foreground, 4*rate, seen.add) })
					}
					wg.Wait()
					seen.check(t, 0, 3*time.Second, rate)
				})
			})
		}
	}
}

func TestRateChangesWhileStreamsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		l, seen := New(0), &log{start: time.Now()}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { stream(ctx, l, swarm.Foreground, 20e6, seen.add) })
		}
		time.Sleep(2 * time.Second)
		if got := seen.within(500 * time.Millisecond); got < 150e6 {
			t.Errorf("%d bytes in a second without a limit", got)
		}
		l.SetRate(10e6)
		time.Sleep(2 * time.Second)
		l.SetRate(40e6)
		wg.Wait()
		seen.check(t, 2*time.Second+20*time.Millisecond, 4*time.Second, 10e6)
		seen.check(t, 4*time.Second+20*time.Millisecond, 6*time.Second, 40e6)
	})
}

// Whoever waits under a low rate goes on under the next at once, and a bucket that shrinks meanwhile fails nobody.
func TestNobodyWaitsForARateThatIsNoMore(t *testing.T) {
	for _, c := range []swarm.Class{swarm.Foreground, swarm.Background} {
		for _, next := range []int64{0, 1 << 20} {
			synctest.Test(t, func(t *testing.T) {
				l := New(1 << 30)
				l.SetRate(1)
				start := time.Now()
				time.AfterFunc(time.Minute, func() { l.SetRate(next) })
				if err := l.Wait(t.Context(), c, MaxChunk); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < time.Minute || took > time.Minute+time.Second {
					t.Errorf("class %v: 256 KiB under 1 B/s, and after a minute under %d B/s, took %v", c, next, took)
				}
			})
		}
	}
}

func TestForegroundGoesFirst(t *testing.T) {
	const rate = 10e6
	for _, row := range []struct {
		name             string
		speed            int // of one foreground stream
		atLeast, atMost  float64
		backLeast, backM float64
	}{
		{"it could use all", 4 * rate, 0.93, 1, 0.02, 0.07},
		{"it leaves half", rate / 2, 0.47, 0.51, 0.45, 0.55},
		{"it is not there", 0, 0, 0, 0.95, 1.05},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				l := New(rate)
				first, second, both := &log{start: time.Now()}, &log{start: time.Now()}, &log{start: time.Now()}
				var wg sync.WaitGroup
				if row.speed > 0 {
					wg.Go(func() {
						stream(ctx, l, swarm.Foreground, row.speed, func(n int) { first.add(n); both.add(n) })
					})
				}
				for range 6 {
					wg.Go(func() {
						stream(ctx, l, swarm.Background, 4*rate, func(n int) { second.add(n); both.add(n) })
					})
				}
				wg.Wait()
				fore, back := float64(first.within(time.Second))/rate, float64(second.within(time.Second))/rate
				if fore < row.atLeast || fore > row.atMost || back < row.backLeast || back > row.backM {
					t.Errorf("the foreground got %.3f, the background %.3f", fore, back)
				}
				both.check(t, time.Second, 2*time.Second, rate)
			})
		})
	}
}

func TestChargedBytesCount(t *testing.T) {
	const rate = 10e6
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		l, seen := New(rate), &log{start: time.Now()}
		var wg sync.WaitGroup
		wg.Go(func() { stream(ctx, l, swarm.Foreground, 4*rate, seen.add) })
		wg.Go(func() { // control messages: a fifth of the rate, and nobody asks
			for ctx.Err() == nil {
				l.Charge(2000)
				seen.add(2000)
				time.Sleep(time.Millisecond)
			}
		})
		wg.Wait()
		seen.check(t, 0, 2*time.Second, rate)
	})
}

func TestDebtIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(1e6)
		for range 10000 {
			l.Charge(64 << 10)
		}
		began := time.Now()
		if err := l.Wait(t.Context(), swarm.Foreground, l.Chunk()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < time.Second/2 || took > 3*time.Second/2 {
			t.Errorf("waited %v for what others took", took)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	for _, class := range []swarm.Class{swarm.Foreground, swarm.Background} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			l := New(1000)
			l.Charge(1 << 20)
			var wg sync.WaitGroup
			for range 3 { // one at the bucket, two in the queue
				wg.Go(func() {
					if err := l.Wait(ctx, class, 1000); err == nil {
						t.Error("passed")
					}
				})
			}
			wg.Wait()
			if err := New(0).Wait(ctx, class, 1); !errors.Is(err, context.Canceled) {
				t.Errorf("without a limit: %v", err)
			}
		})
	}
}

func TestNoLimit(t *testing.T) {
	var none *Limiter
	for name, l := range map[string]*Limiter{"nil": none, "zero": New(0), "negative": New(-5)} {
		if l.Rate() != 0 || l.Chunk() != MaxChunk {
			t.Errorf("%s: rate %d, chunk %d", name, l.Rate(), l.Chunk())
		}
		l.Charge(1 << 30)
		if err := l.Wait(t.Context(), swarm.Background, 1<<30); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
