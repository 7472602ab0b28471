package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/mirror"
	"github.com/meshd-project/meshd/node/files"
	"github.com/meshd-project/meshd/seed/origin"
)

// meshBlobs is the exchange as the mirror sees it: mirror.Blobs.
type meshBlobs struct {
	x *exchange.Exchange
	// rest: after a part, the rest of a blob is brought in as well.
	rest bool
}

func (b meshBlobs) Open(ctx context.Context, w mirror.BlobWant) (mirror.Blob, error) {
	want := exchange.Want{
		Digest: w.Digest, Size: w.Size, Authorization: w.Authorization, Class: swarm.Foreground,
		Origin: swarm.OriginRef{Registry: w.Registry, Repository: w.Repository}, Granted: true,
	}
	if w.Len > 0 {
		want.Off, want.End = w.Off, w.Off+w.Len
		want.Sparse = !b.rest
		if b.rest {
			want.Class = swarm.Background // goes on when the client has left
		}
	}
	h, err := b.x.Open(ctx, want)
	if err != nil {
		return nil, mirrorError(err)
	}
	return meshBlob{h}, nil
}

func (b meshBlobs) Stat(d digest.Digest) (int64, bool) { return b.x.Stat(d) }

// mirrorError puts the cause that the mirror has a row for in front of an exchange error. The rest of the chain, an
// origin's own error in it, stays.
func mirrorError(err error) error {
	var refused *exchange.RefusedError
	switch {
	case errors.Is(err, exchange.ErrCorruptOrigin):
		return fmt.Errorf("%w: %w", mirror.ErrCorrupt, err)
	case errors.Is(err, store.ErrNoSpace):
		return fmt.Errorf("%w: %w", mirror.ErrNoSpace, err)
	case errors.Is(err, exchange.ErrClosed):
		return fmt.Errorf("%w: %w", mirror.ErrDraining, err)
	case errors.Is(err, exchange.ErrInvalidDigest), errors.As(err, &refused) && refused.Kind == swarm.OriginNotFound:
		return fmt.Errorf("%w: %w", mirror.ErrNotFound, err)
	case errors.Is(err, exchange.ErrBusy), errors.As(err, &refused) && refused.Kind == swarm.OriginThrottled:
		return fmt.Errorf("%w: %w", mirror.ErrBusy, err)
	}
	return err
}

type meshBlob struct{ *exchange.Handle }

func (b meshBlob) Reader(off, n int64) (mirror.BlobReader, error) {
	r, err := b.Handle.Reader(off, n)
	if err != nil {
		return nil, mirrorError(err)
	}
	return r, nil
}

// documents keeps manifests in the store: mirror.Documents.
type documents struct{ st *store.Store }

// maxDocument bounds a manifest read from the store, in bytes: the mirror's own bound on manifests.
const maxDocument = 4 << 20

func (d documents) Get(dg digest.Digest) (mediaType string, data []byte, ok bool) {
	if _, scoped := store.Content(dg); scoped {
		return "", nil, false
	}
	b, err := d.st.Get(dg)
	if err != nil {
		return "", nil, false
	}
	defer b.Close()
	if b.MediaType() == "" || b.Size() > maxDocument {
		return "", nil, false
	}
	data = make([]byte, b.Size())
	if _, err := b.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		log.Warnw("document not read", "blob", dg, "err", err)
		return "", nil, false
	}
	return b.MediaType(), data, true
}

func (d documents) Put(dg digest.Digest, mediaType string, data []byte) error {
	return d.st.Put(dg, mediaType, data)
}

// mirrorOrigin is the registry client as the mirror sees it: mirror.Origin. *origin.Error is a mirror.OriginError.
type mirrorOrigin struct{ c *origin.Client }

func (o mirrorOrigin) Do(ctx context.Context, r mirror.OriginRequest) (*http.Response, error) {
	return o.c.Do(ctx, origin.Request{
		Ref: origin.Ref(r.Ref), Method: r.Method, Path: r.Path, RawQuery: r.RawQuery, Header: r.Header,
		Authorization: r.Authorization, Body: r.Body,
	})
}

func (o mirrorOrigin) Push(ctx context.Context, r mirror.OriginRequest) (*http.Response, error) {
	return o.c.Push(ctx, origin.Request{
		Ref: origin.Ref(r.Ref), Method: r.Method, Path: r.Path, RawQuery: r.RawQuery, Header: r.Header,
		Authorization: r.Authorization, Body: r.Body,
	})
}

func (o mirrorOrigin) Base(registry string) (*url.URL, error) {
	base, _, err := o.c.Direct(registry)
	return base, err
}

func (o mirrorOrigin) HeadBlob(ctx context.Context, ref mirror.Ref, d digest.Digest, authorization string) (int64, error) {
	return o.c.HeadBlob(ctx, origin.BlobRequest{Ref: origin.Ref(ref), Digest: d, Length: -1, Authorization: authorization})
}

func (o mirrorOrigin) Hosts(name string) bool { return o.c.Listed(name) }

// exchangeOrigin is the registry client as the exchange sees it: exchange.Origin.
type exchangeOrigin struct {
	c               *origin.Client
	defaultRegistry string // peers may have this node fetch from it too
	files           *files.Files
}

func (o exchangeOrigin) Blob(ctx context.Context, ref swarm.OriginRef, authorization string, d digest.Digest, off, n int64) (exchange.OriginBody, error) {
	if files.Mine(ref.Registry) {
		return o.files.Blob(ctx, ref, d, off, n)
	}
	b, err := o.c.Blob(ctx, origin.BlobRequest{
		Ref: origin.Ref(ref), Digest: d, Offset: off, Length: n, Authorization: authorization,
	})
	if err != nil {
		return exchange.OriginBody{}, err
	}
	return exchange.OriginBody{ReadCloser: b, Size: b.Size, Offset: b.Offset, Ranged: b.Ranged}, nil
}

func (o exchangeOrigin) Listed(registry string) bool {
	if files.Mine(registry) {
		return o.files.Listed()
	}
	return o.c.Listed(registry) || strings.EqualFold(registry, o.defaultRegistry)
}

func (o exchangeOrigin) Classify(err error) (swarm.OriginErrorKind, time.Duration) {
	if kind, after, ok := files.Kinds(err); ok {
		return kind, after
	}
	var retryAfter time.Duration
	var oe *origin.Error
	if errors.As(err, &oe) {
		retryAfter = oe.RetryAfter
	}
	for _, row := range originKinds {
		if errors.Is(err, row.err) {
			return row.kind, retryAfter
		}
	}
	return swarm.OriginUnreachable, retryAfter
}

// originKinds says what the origin's errors mean to the core; the first that matches counts.
var originKinds = []struct {
	err  error
	kind swarm.OriginErrorKind
}{
	{origin.ErrNoRange, swarm.OriginNoRange},
	{origin.ErrUnauthorized, swarm.OriginUnauthorized},
	{origin.ErrDenied, swarm.OriginUnauthorized},
	{origin.ErrNotFound, swarm.OriginNotFound},
	{origin.ErrThrottled, swarm.OriginThrottled},
	{origin.ErrUnreachable, swarm.OriginUnreachable},
	{origin.ErrRefused, swarm.OriginRefused},
	{origin.ErrReference, swarm.OriginRefused},
	{origin.ErrInvalid, swarm.OriginInvalid},
	{origin.ErrRange, swarm.OriginInvalid},
}

// The seams hold.
var (
	_ mirror.Blobs       = meshBlobs{}
	_ mirror.Documents   = documents{}
	_ mirror.Origin      = mirrorOrigin{}
	_ mirror.OriginError = (*origin.Error)(nil)
	_ exchange.Origin    = exchangeOrigin{}
)
