package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// stream is an answer's body: bounded in the wait for each byte, with errors that say where they come from.
// One goroutine reads; any may close.
type stream struct {
	ctx    context.Context // the caller's, to tell its end from ours
	q      *query
	a      *answer
	idle   time.Duration
	timer  *time.Timer
	late   atomic.Bool
	closed atomic.Bool
	n      int64 // bytes read
	err    error // sticky
}

func (c *Client) newStream(ctx context.Context, q *query, a *answer) *stream {
	s := &stream{ctx: ctx, q: q, a: a, idle: c.cfg.IdleTimeout}
	s.timer = time.AfterFunc(time.Hour, func() {
		s.late.Store(true)
		a.cancel(ErrTimeout)
	})
	s.timer.Stop()
	return s
}

// Read reads what has come. Errors but io.EOF are *Error.
func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.timer.Reset(s.idle)
	n, err := s.a.Body.Read(p)
	s.timer.Stop()
	s.n += int64(n)
	if err != nil {
		s.err = s.explain(err)
	}
	return n, s.err
}

func (s *stream) explain(err error) error {
	switch {
	case err == io.EOF:
		return io.EOF
	case s.closed.Load():
		return s.fail(ErrClosed, false)
	case s.late.Load():
		return s.fail(fmt.Errorf("after %d bytes: %w", s.n, ErrTimeout), true)
	case s.ctx.Err() != nil:
		return networkError(s.ctx, s.q, nil, err)
	}
	return s.fail(fmt.Errorf("after %d bytes: %w: %w", s.n, ErrUnreachable, clipped{err}), true)
}

// fail makes cause what this and every later Read returns.
func (s *stream) fail(cause error, temporary bool) error {
	s.err = &Error{Registry: s.q.ep.name, Op: s.q.op(), Err: cause, Temporary: temporary}
	return s.err
}

// Close ends the request. A body that was read to its end leaves the connection to others.
func (s *stream) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.timer.Stop()
	_ = s.a.Body.Close() // before the cancellation: after the end, this leaves the connection to others
	s.a.cancel(nil)
	return nil
}

// Body is the bytes of a blob, from Offset on. Read ends with io.EOF only after all bytes that were promised have
// come; a body that ends early is an *Error with io.ErrUnexpectedEOF, one that goes on too long with
// ErrInvalid. The bytes are not verified. A Body belongs to one reader and has to be closed.
type Body struct {
	// Size is the whole blob's, -1 if the origin does not tell.
	Size int64
	// Offset is where the first byte lies in the blob.
	Offset int64
	// Ranged tells that the origin honoured the range. Otherwise the whole blob is coming, to its end, even if a
	// Length was asked for.
	Ranged bool

	*stream
	left  int64 // bytes still promised, -1 unknown
	limit *rate.Limiter
}

// Read reads what has come, at the pace of the configured limit.
func (b *Body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if b.left == 0 {
		return 0, b.end()
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	if b.limit != nil && len(p) > b.limit.Burst() {
		p = p[:b.limit.Burst()]
	}
	n, err := b.stream.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	if err == io.EOF && b.left > 0 {
		err = b.short()
	}
	if n > 0 {
		b.pace(n)
	}
	if err == nil || errors.Is(err, io.EOF) && n > 0 {
		return n, nil // the end is told by the next Read
	}
	return n, err
}

// end checks that nothing follows the promised bytes.
func (b *Body) end() error {
	var one [1]byte
	for {
		n, err := b.stream.Read(one[:])
		switch {
		case n > 0:
			return b.fail(fmt.Errorf("%w: more bytes than promised", ErrInvalid), false)
		case err != nil:
			return err
		}
	}
}

func (b *Body) short() error {
	return b.fail(fmt.Errorf("%w: %d bytes missing: %w", ErrUnreachable, b.left, io.ErrUnexpectedEOF), true)
}

// pace waits until n bytes are allowed.
func (b *Body) pace(n int) {
	if b.limit == nil {
		return
	}
	if wait := b.limit.ReserveN(time.Now(), n).Delay(); wait > 0 {
		sleep(b.a.Request.Context(), wait) // an end of the request shows in the next Read
	}
}

// newLimiter allows bytes per second in bursts of an eighth of that, at least 64 KiB; nil for no limit.
func newLimiter(bytes int64) *rate.Limiter {
	if bytes <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytes), int(min(max(bytes/8, 64<<10), 8<<20)))
}
