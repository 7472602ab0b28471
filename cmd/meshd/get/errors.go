package get

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/meshd-project/meshd/mirror/gateway"
	"github.com/meshd-project/meshd/seed/file"
)

// Exit codes of `meshd get`. 1 is any other failure, 2 a wrong command line.
const (
	ExitNotFound    = 3   // the origin has no such file
	ExitDenied      = 4   // the origin refuses it, or nobody here may read that host
	ExitDigest      = 5   // the bytes are not what --digest says
	ExitChanged     = 6   // it changes at its origin faster than it can be read
	ExitTimeout     = 7   // --timeout is over
	ExitDisk        = 8   // it could not be written
	ExitInterrupted = 130 // by a signal; what came is kept for the next time
)

// Error is a failure with its exit code.
type Error struct {
	Code int // 1: none of its own
	Err  error

	again time.Duration // may be tried again after this; 0: not
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// ExitCode is how the program ends because of it.
func (e *Error) ExitCode() int { return e.Code }

// pause is the shortest wait before a failed request is repeated.
const pause = 300 * time.Millisecond

// ofCode makes an error of what the node says.
func ofCode(code gateway.Code, retryAfter time.Duration, err error) *Error {
	e := &Error{Code: 1, Err: err}
	switch code {
	case gateway.NotFound:
		e.Code = ExitNotFound
	case gateway.Unauthorized, gateway.Refused:
		e.Code = ExitDenied
	case gateway.Corrupt:
		e.Code = ExitDigest
	case gateway.Changed:
		e.Code, e.again = ExitChanged, pause
	case gateway.Throttled, gateway.Unreachable, gateway.Timeout, gateway.Draining:
		e.again = max(pause, retryAfter)
	}
	return e
}

// ofFile makes an error of what the file's own server did.
func ofFile(err error) *Error {
	e := &Error{Code: 1, Err: err}
	var at *file.Error
	if errors.As(err, &at) {
		e.again = at.RetryAfter
	}
	switch {
	case errors.Is(err, file.ErrNotFound):
		e.Code = ExitNotFound
	case errors.Is(err, file.ErrUnauthorized), errors.Is(err, file.ErrRefused):
		e.Code = ExitDenied
	case errors.Is(err, file.ErrChanged):
		e.Code, e.again = ExitChanged, pause
	case errors.Is(err, file.ErrThrottled), errors.Is(err, file.ErrUnreachable), errors.Is(err, file.ErrTimeout):
		e.again = max(pause, e.again)
	}
	return e
}

// final makes any error one with an exit code; how the context ended comes first.
func final(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var known *Error
	isKnown := errors.As(err, &known)
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &Error{Code: ExitTimeout, Err: errors.New("--timeout is over; what came is kept for the next time")}
	case ctx.Err() != nil:
		return &Error{Code: ExitInterrupted, Err: errors.New("interrupted; what came is kept for the next time")}
	case isKnown:
		return err
	case errors.Is(err, syscall.ENOSPC), errors.As(err, &path), errors.As(err, &link):
		return &Error{Code: ExitDisk, Err: err}
	}
	return &Error{Code: 1, Err: err}
}

// errBytes: the file is not what the user says.
func errBytes(want, got string) *Error {
	return &Error{Code: ExitDigest, Err: fmt.Errorf("the file is not what --digest says: want %s, got %s", want, got)}
}

func statusText(resp *http.Response) string { return fmt.Sprintf("the node answers %s", resp.Status) }
