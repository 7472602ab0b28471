package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// flights lets callers with one key share one call. The call belongs to none of
// them: it runs in a goroutine of its own under its own time-out, and is
// cancelled only when its last caller has left or on close.
type flights[V any] struct {
	timeout time.Duration
	tickets chan struct{} // bounds the calls that run; shared between groups

	mu     sync.Mutex
	calls  map[hash]*call[V]
	closed bool
	wg     sync.WaitGroup
}

// call is one shared call. waiters is guarded by flights.mu; value and err are
// written before done closes.
type call[V any] struct {
	cancel  context.CancelFunc
	waiters int

	done  chan struct{}
	value V
	err   error
}

func newFlights[V any](timeout time.Duration, tickets chan struct{}) *flights[V] {
	return &flights[V]{timeout: timeout, tickets: tickets, calls: make(map[hash]*call[V])}
}

// do returns the result of fn for key, starting it unless it is under way. ctx
// bounds this caller's wait. shared tells that another caller had started it.
func (f *flights[V]) do(ctx context.Context, key hash, fn func(context.Context) (V, error)) (value V, shared bool, err error) {
	c, shared, err := f.join(key, fn)
	if err != nil {
		return value, false, err
	}
	select {
	case <-c.done:
		return c.value, shared, c.err
	case <-ctx.Done():
		f.leave(key, c)
		return value, shared, ctx.Err()
	}
}

func (f *flights[V]) join(key hash, fn func(context.Context) (V, error)) (*call[V], bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, false, ErrDraining
	}
	if c, ok := f.calls[key]; ok {
		c.waiters++
		return c, true, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	c := &call[V]{cancel: cancel, waiters: 1, done: make(chan struct{})}
	f.calls[key] = c
	f.wg.Go(func() { f.run(ctx, key, c, fn) })
	return c, false, nil
}

func (f *flights[V]) run(ctx context.Context, key hash, c *call[V], fn func(context.Context) (V, error)) {
	defer c.cancel()
	select {
	case f.tickets <- struct{}{}:
		c.value, c.err = fn(ctx)
		<-f.tickets
		// What a cancelled call reports need not say why it ended.
		if cause := ctx.Err(); c.err != nil && cause != nil && !errors.Is(c.err, cause) {
			c.err = fmt.Errorf("%w: %w", cause, c.err)
		}
	case <-ctx.Done():
		c.err = ctx.Err()
	}
	f.forget(key, c)
	close(c.done)
}

// leave drops one waiter; the last one takes the call with it, so that a later
// caller starts anew instead of joining a cancelled call.
func (f *flights[V]) leave(key hash, c *call[V]) {
	f.mu.Lock()
	c.waiters--
	last := c.waiters == 0
	if last && f.calls[key] == c {
		delete(f.calls, key)
	}
	f.mu.Unlock()
	if last {
		c.cancel()
	}
}

func (f *flights[V]) forget(key hash, c *call[V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls[key] == c {
		delete(f.calls, key)
	}
}

// close cancels all calls, refuses new ones and waits until all have ended.
func (f *flights[V]) close() {
	f.mu.Lock()
	f.closed = true
	for _, c := range f.calls {
		c.cancel()
	}
	f.mu.Unlock()
	f.wg.Wait()
}
