package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/pace"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/mirror"
	"github.com/meshd-project/meshd/seed/origin"
)

// How long a registry's answer counts whether anybody may read a repository, and how many are remembered.
const (
	publicTTL  = 5 * time.Minute
	privateTTL = time.Minute
	maxAnswers = 4096
)

// directBlobs decides how a blob goes through the mesh. What anybody may read is public, also for a client that sends
// credentials for it, as docker and crane do after a login. What needs credentials is private: the exchange keeps it apart,
// under a name of its own for each registry, so that another registry's yes for its digest does not open it. What the
// mesh cannot take is passed on from its origin and not kept: a private blob whose digest is not sha256, and one for which
// neither the store nor the memory for streaming (exchange.Config.StreamBytes) has room.
type directBlobs struct {
	mirror.Blobs
	origin *origin.Client
	limits *pace.Limits

	mu      sync.Mutex
	answers *simplelru.LRU[mirror.Ref, answer]
}

// answer is what a registry said when asked without credentials.
type answer struct {
	public bool
	until  time.Time
}

func newDirectBlobs(mesh mirror.Blobs, o *origin.Client, limits *pace.Limits) *directBlobs {
	answers, err := simplelru.NewLRU[mirror.Ref, answer](maxAnswers, nil)
	if err != nil {
		panic(err) // the size is not positive
	}
	return &directBlobs{Blobs: mesh, origin: o, limits: limits, answers: answers}
}

// Open implements mirror.Blobs.
func (b *directBlobs) Open(ctx context.Context, w mirror.BlobWant) (mirror.Blob, error) {
	if w.Authorization != "" && !w.Private && b.public(ctx, w) {
		w.Authorization = ""
	}
	if w.Authorization == "" || w.Digest.Algorithm() == digest.SHA256 {
		blob, err := b.Blobs.Open(ctx, w)
		if !errors.Is(err, mirror.ErrNoSpace) {
			return blob, err
		}
		log.Warnw("no room for a blob on disk or in memory, it is passed on from the registry", "blob", w.Digest, "origin", w.Registry, "err", err)
	}
	r := origin.BlobRequest{Ref: origin.Ref(w.Ref), Digest: w.Digest, Length: -1, Authorization: w.Authorization}
	size, err := b.origin.HeadBlob(ctx, r)
	if err != nil {
		return nil, err
	}
	if size < 0 {
		return nil, fmt.Errorf("open blob %s of %s: the registry does not tell its size", w.Digest, w.Ref)
	}
	return &directBlob{origin: b.origin, limits: b.limits, request: r, size: size}, nil
}

// public reports whether anybody may read a blob. The registry's answer for one blob counts for its repository for a
// while; one that it did not give clearly counts for this blob only.
func (b *directBlobs) public(ctx context.Context, w mirror.BlobWant) bool {
	b.mu.Lock()
	known, ok := b.answers.Get(w.Ref)
	b.mu.Unlock()
	if ok && time.Now().Before(known.until) {
		return known.public
	}
	_, err := b.origin.HeadBlob(ctx, origin.BlobRequest{Ref: origin.Ref(w.Ref), Digest: w.Digest, Length: -1})
	now := answer{public: err == nil, until: time.Now().Add(publicTTL)}
	switch {
	case errors.Is(err, origin.ErrUnauthorized), errors.Is(err, origin.ErrDenied):
		now.until = time.Now().Add(privateTTL)
	case err != nil:
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers.Add(w.Ref, now)
	return now.public
}

// directBlob is a blob at its origin: mirror.Blob.
type directBlob struct {
	origin  *origin.Client
	limits  *pace.Limits
	request origin.BlobRequest
	size    int64
}

func (b *directBlob) Size() int64 { return b.size }

func (b *directBlob) Close() error { return nil }

// Reader asks the origin for the range. The whole is checked against the digest before its last bytes go out.
func (b *directBlob) Reader(off, n int64) (mirror.BlobReader, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &directReader{name: fmt.Sprintf("blob %s of %s", b.request.Digest, b.request.Ref), left: n, cancel: cancel}
	r.dial = func() (io.ReadCloser, error) { return b.dial(ctx, off, n) }
	if off == 0 && n == b.size {
		r.check = b.request.Digest.Verifier()
	}
	return r, nil
}

// dial asks the origin for a range; one without ranges sends the whole, of which the start is skipped. The body ends
// with ctx.
func (b *directBlob) dial(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	q := b.request
	q.Offset = off
	if off+n < b.size {
		q.Length = n
	}
	body, err := b.origin.Blob(ctx, q)
	if errors.Is(err, origin.ErrNoRange) {
		q.Offset, q.Length = 0, -1
		body, err = b.origin.Blob(ctx, q)
	}
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = body.Close() })
	if _, err := io.CopyN(io.Discard, body, off-body.Offset); err != nil {
		return nil, fmt.Errorf("skip to byte %d: %w", off, err)
	}
	return pacedBody{body, func(p []byte) (int, error) {
		n, _, err := pace.Read(ctx, swarm.Foreground, body, p, b.limits.Origin, b.limits.Download)
		return n, err
	}}, nil
}

// pacedBody reads an origin within the rates of the node, ahead of the background.
type pacedBody struct {
	io.Closer
	read func(p []byte) (int, error)
}

func (b pacedBody) Read(p []byte) (int, error) { return b.read(p) }

// directReader reads a range of a directBlob: mirror.BlobReader. The origin is asked at the first Read or WriteTo.
type directReader struct {
	name   string
	dial   func() (io.ReadCloser, error)
	cancel context.CancelFunc // ends the body; any goroutine may call it
	left   int64              // bytes not read yet
	check  digest.Verifier    // nil for a part
	body   io.ReadCloser
	buf    []byte
	next   []byte // the part of buf that is read and checked, and not handed out yet
}

// chunk is what is read at a time, in bytes; the last is held back until the whole is verified.
const chunk = 256 << 10

func (r *directReader) Close() error {
	r.cancel()
	return nil
}

// Read implements io.Reader.
func (r *directReader) Read(p []byte) (int, error) {
	if len(r.next) == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.next)
	r.next = r.next[n:]
	return n, nil
}

// WriteTo implements io.WriterTo.
func (r *directReader) WriteTo(w io.Writer) (int64, error) {
	defer r.cancel()
	return io.Copy(w, struct{ io.Reader }{r})
}

// fill reads the next chunk, and with the last checks the whole.
func (r *directReader) fill() error {
	if r.body == nil {
		body, err := r.dial()
		if err != nil {
			return fmt.Errorf("read %s: %w", r.name, err)
		}
		r.body = body
	}
	if r.buf == nil {
		r.buf = make([]byte, min(chunk, r.left))
	}
	buf := r.buf[:min(chunk, r.left)]
	if _, err := io.ReadFull(r.body, buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %s: %w", r.name, err)
	}
	r.left -= int64(len(buf))
	r.next = buf
	if r.check == nil {
		return nil
	}
	_, _ = r.check.Write(buf)
	if r.left == 0 && !r.check.Verified() {
		r.next, r.left = nil, 1 // no clean end
		return fmt.Errorf("read %s: %w", r.name, mirror.ErrCorrupt)
	}
	return nil
}
