package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Ask is a file as a client names it.
type Ask struct {
	URL    string
	Header http.Header // for the origin
	Filter []string    // query parameters that do not count
	Digest string      // "" or ALGORITHM:HEX
	Listed bool        // only hosts that the node lists for the gateway
}

// Files are the files of the world. Implementations may be called from any goroutine. Their errors are *Error where a
// client can do something about them.
type Files interface {
	// Stat asks the origin for the file's version now, with the caller's headers: without its yes there is no file.
	Stat(ctx context.Context, a Ask) (File, error)
}

// File is one version of a file.
type File interface {
	Info() Info
	// Open begins to bring in n bytes from off; n < 0 is to the end. It returns when bytes can be expected. Of a file of unknown
	// length that may be late; it gives up by itself when nobody seems to read it.
	Open(ctx context.Context, off, n int64) (Content, error)
	// Waiting tells what is known while Open, or the first byte, is awaited. It does not wait.
	Waiting() Waiting
}

// Info describes a version.
type Info struct {
	Tag         string // names the version: strong, without quotes; "" if it cannot be told from others
	Size        int64  // bytes; -1 while unknown
	ContentType string
	Modified    string // Last-Modified
}

// Content is an open file.
type Content interface {
	// Size is the file's, in bytes; -1 if only its end will tell.
	Size() int64
	// Reader returns n bytes from off; n < 0 is to the end. Its WriteTo fails unless all of them came and are proven.
	Reader(off, n int64) (Reader, error)
	io.Closer
}

// Reader moves bytes as they come; Close ends it from any goroutine.
type Reader interface {
	io.WriterTo
	io.Closer
}

// Code says in a word what went wrong, for programs.
type Code string

// Codes, with the status that goes with each in Error.Status.
const (
	BadRequest   Code = "request"      // 400: URL, header or digest that none can be
	Refused      Code = "refused"      // 403: this node does not read that host
	NotFound     Code = "not-found"    // 404
	Unauthorized Code = "unauthorized" // 401, 403: the origin's
	Changed      Code = "changed"      // 409: not one version any more
	Corrupt      Code = "digest"       // 502: the bytes are not what the digest says
	Throttled    Code = "throttled"    // 429
	Unreachable  Code = "unreachable"  // 502
	Nonsense     Code = "nonsense"     // 502: what the origin answers is no file
	Timeout      Code = "timeout"      // 504
	Draining     Code = "draining"     // 503
)

// Error is a failure as a client gets it.
type Error struct {
	Code       Code
	Status     int
	RetryAfter time.Duration
	Err        error // its text is shown: no secrets
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Code, e.Err) }

func (e *Error) Unwrap() error { return e.Err }
