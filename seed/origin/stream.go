package origin

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// stream is an answer's body: bounded in the wait for each byte, with errors that say where they come from.
// One goroutine reads; any may close.
type stream struct {
	ended  func() error // how the caller's context ended, to tell that from our own time-outs
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
	s := &stream{ended: ctx.Err, q: q, a: a, idle: c.cfg.IdleTimeout}
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
	case s.ended() != nil:
		s.err = networkError(s.ended(), s.q, nil, err)
		return s.err
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
