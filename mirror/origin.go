package mirror

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
)

// OriginRequest is one question to a registry about a repository.
type OriginRequest struct {
	Ref
	Method        string      // GET or HEAD
	Path          string      // below /v2/<repository>/: "manifests/latest", "tags/list"
	RawQuery      string      // encoded, without ns
	Header        http.Header // Accept and If-None-Match; of a push also Content-Type, Content-Range and Range
	Authorization string      // the client's own header, "" if anonymous
	Body          io.Reader   // nil on a pull; of a push, with a method Len() int if the length is known
}

// Origin answers what only the registry can know. Implementations are safe for
// concurrent use, keep within ctx, retry by themselves what is worth a retry, and
// fetch anonymous tokens by themselves.
type Origin interface {
	// Do returns a response with status 2xx or 304, whose body the caller closes.
	// Every other answer is an error with an [OriginError] in its chain; no answer
	// is an error whose OriginError has status 0, or any other error.
	Do(ctx context.Context, req OriginRequest) (*http.Response, error)
	// HeadBlob asks whether the credentials may have the blob. size is -1 if the
	// registry does not tell. Errors as Do.
	HeadBlob(ctx context.Context, ref Ref, d digest.Digest, authorization string) (size int64, err error)
	// Push sends a part of a push, or a deletion, once: Path may be a whole path
	// that a Location of the registry has named, beginning with a slash. Redirects
	// are not followed, and every answer below 400 is returned. It bounds the
	// registry's time by progress. Errors as Do.
	Push(ctx context.Context, req OriginRequest) (*http.Response, error)
	// Base is the address of a registry's API, what stands before /v2/, as far as
	// Push goes there.
	Base(registry string) (*url.URL, error)
	// Hosts reports whether name is a configured registry, whatever it looks like.
	Hosts(name string) bool
}

// OriginError is an answer of the origin that the client should get as it is.
type OriginError interface {
	error
	// HTTP returns the origin's answer: WWW-Authenticate, Retry-After and
	// Content-Type are read from header; body may be empty or cut. Status 0 means
	// that there was no answer.
	HTTP() (status int, header http.Header, body []byte)
}

// Documents keeps manifests on disk. Implementations are safe for concurrent use.
type Documents interface {
	// Get returns a document and the media type it was stored with. The mirror
	// verifies the bytes again and takes a damaged document for a missing one.
	Get(d digest.Digest) (mediaType string, data []byte, ok bool)
	// Put keeps a document that matches d. Putting one again replaces it. A failure costs a later
	// question to the origin and nothing else.
	Put(d digest.Digest, mediaType string, data []byte) error
}
