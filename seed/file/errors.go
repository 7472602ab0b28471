package file

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/meshd-project/meshd/seed/origin"
)

// Errors that callers tell apart with errors.Is. Those of a Client are *Error.
var (
	ErrURL          = errors.New("not a URL of a file")
	ErrHeader       = errors.New("not a header for a file's origin")
	ErrRefused      = errors.New("this host is not allowed")
	ErrNotFound     = errors.New("the origin has no such file")
	ErrUnauthorized = errors.New("the origin refuses the file")
	ErrThrottled    = errors.New("the origin asks to be left alone")
	ErrUnreachable  = errors.New("the origin does not answer as it should")
	ErrTimeout      = errors.New("the origin takes too long")
	ErrInvalid      = errors.New("the origin's answer makes no sense")
	ErrChanged      = errors.New("the file has changed at its origin")
	ErrNoRange      = errors.New("the origin sends the whole file only")
)

// Error is what a Client's methods return.
type Error struct {
	At         string // URL without query
	Status     int    // 0: none came
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("%s: %v (%d %s)", e.At, e.Err, e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("%s: %v", e.At, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// statusError makes an error of an answer that is none of 200 and 206.
func statusError(u *url.URL, resp *http.Response) *Error {
	e := &Error{At: show(u), Status: resp.StatusCode, Err: ErrInvalid}
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound, code == http.StatusGone:
		e.Err = ErrNotFound
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		e.Err = ErrUnauthorized
	case code == http.StatusPreconditionFailed, code == http.StatusRequestedRangeNotSatisfiable:
		e.Err = ErrChanged
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		e.Err, e.RetryAfter = ErrThrottled, retryAfter(resp.Header.Get("Retry-After"))
	case code >= 500:
		e.Err = ErrUnreachable
	}
	return e
}

// maxRetryAfter bounds what an origin may ask for.
const maxRetryAfter = 5 * time.Minute

func retryAfter(s string) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return min(time.Duration(min(n, 1<<20))*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(s); err == nil {
		return min(max(time.Until(at), 0), maxRetryAfter)
	}
	return 0
}

// networkError makes an error of a request that got no answer, or lost it. The text of *url.Error has the whole URL.
func networkError(ctx context.Context, u *url.URL, err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	e := &Error{At: show(u)}
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		e.Err = context.Cause(ctx)
	case errors.Is(err, origin.ErrRefused), errors.Is(err, ErrRefused):
		e.Err = fmt.Errorf("%w: %w", ErrRefused, err)
	case errors.As(err, &timeout) && timeout.Timeout():
		e.Err = fmt.Errorf("%w: %w", ErrTimeout, err)
	default:
		e.Err = fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return e
}
