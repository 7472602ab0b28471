package mirror

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
)

// Ref names a repository in a registry.
type Ref struct {
	Registry   string // host or host:port in lower case; Docker Hub is always docker.io
	Repository string // at most 255 bytes, within the OCI grammar
}

func (r Ref) String() string { return r.Registry + "/" + r.Repository }

// BlobWant asks the mesh for a blob on behalf of a client that the origin has
// said yes to.
type BlobWant struct {
	Ref
	Digest digest.Digest
	// Size in bytes if a manifest of this repository or the origin told it, else
	// -1. A manifest may lie: it is a hint until the digest is verified.
	Size int64
	// Authorization is the client's own header, "" if anonymous. It may be sent
	// to Registry and kept in memory while this want lives, and nothing else.
	Authorization string
	// Off and Len are the bytes that the client wants, a part of Size; Len 0 is all.
	// They come first, and what else comes is the implementation's business.
	Off, Len int64
	// Private: the origin has just refused this repository to anonymity.
	Private bool
}

// Blobs is the mesh. Implementations are safe for concurrent use.
type Blobs interface {
	// Open returns when the blob's size is known and bytes can be expected, or
	// why not. ctx bounds this call only; what was returned lives until Close.
	// Callers that want one digest share one fetch, and a caller that leaves does
	// not end it for the others. Retries, several sources and their replacement
	// are the implementation's business.
	//
	// Errors: an [OriginError] anywhere in the chain is the origin's own answer
	// and goes to the client; [ErrNotFound], [ErrBusy], [ErrDraining],
	// [ErrCorrupt] and context.DeadlineExceeded have rows of their own; any other
	// error means that no source could be reached.
	Open(ctx context.Context, want BlobWant) (Blob, error)
	// Stat tells the size of a blob that is complete on the local disk, at the
	// cost of a map lookup.
	Stat(d digest.Digest) (size int64, ok bool)
}

// Blob is an open blob, complete or still arriving.
type Blob interface {
	// Size in bytes, final.
	Size() int64
	// Reader reads n bytes from off. 0 <= off, 0 < n, off+n <= Size.
	Reader(off, n int64) (BlobReader, error)
	// Close gives up the caller's interest. Readers are closed before.
	Close() error
}

// BlobReader yields verified bytes as they arrive.
type BlobReader interface {
	// Read returns io.EOF only after all bytes asked for.
	//
	// Close may be called at any time, from any goroutine and more than once; it
	// ends a Read or WriteTo that is waiting.
	io.ReadCloser
	// WriteTo writes what is left. It hands an *os.File, or an *io.LimitedReader
	// around one, to w's ReadFrom where it can, so that the kernel sends the file.
	// It returns an error, and never a nil one early, if the blob fails midway.
	io.WriterTo
}
