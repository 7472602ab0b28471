package origin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"
)

// How long a registry may take nothing of a body, and how long to answer once it has all: it may copy a whole layer in
// its storage before it does.
const (
	pushStall  = time.Minute
	pushAnswer = 5 * time.Minute
)

// locationPath covers where registries keep uploads that are not at blobs/uploads/.
var locationPath = regexp.MustCompile(`^(/[A-Za-z0-9._~:+=@-]+)+/?$`)

// Push sends a part of a push, or a deletion: r.Path may be a whole path of the registry's API, beginning with a slash,
// as its Location has named it. It goes to the registry's first own address, once, and no redirect is followed. Without a
// body, or with one in memory (bytes.Reader), it is authenticated as any other request; what that has got serves those with
// another body. An answer below 400 is
// returned as it is, its body as by Do; every other answer, and none, is an *Error.
//
// The registry may take nothing of the body for a minute, and may take 5 minutes to answer it.
func (c *Client) Push(ctx context.Context, r Request) (*http.Response, error) {
	q, err := c.pushQuery(r)
	if err != nil {
		return nil, err
	}
	inner, cancel := context.WithCancelCause(ctx)
	patience := &patience{timer: time.AfterFunc(pushAnswer, func() { cancel(ErrTimeout) })}
	if q.body != nil {
		q.body = pushBody{r.Body, patience}
	}
	if m, ok := r.Body.(inMemory); ok {
		size := m.Size()
		q.again = func() io.Reader { return pushBody{sized{io.NewSectionReader(m, 0, size), size}, patience} }
		q.body = q.again()
	}
	a, err := c.visit(inner, q, hop{url: q.url, cred: q.cred, to: q.ep.direct()})
	patience.end()
	if err == nil && a.StatusCode >= http.StatusBadRequest {
		err = answerError(q, a)
	}
	if err == nil && inner.Err() != nil {
		a.Body.Close()
		err = causeOf(inner)
	}
	if err != nil {
		err = networkError(ctx.Err(), q, causeOf(inner), err)
		cancel(nil)
		return nil, err
	}
	a.cancel = cancel
	resp := *a.Response
	resp.Body = c.newStream(ctx, q, a)
	resp.Request = nil // it holds credentials
	return &resp, nil
}

// pushQuery makes the query of a push.
func (c *Client) pushQuery(r Request) (*query, error) {
	at := r.Path
	if strings.HasPrefix(at, "/") {
		r.Path = "blobs/uploads/"
		if len(at) > maxPath || !locationPath.MatchString(at) || path.Clean(at) != strings.TrimSuffix(at, "/") {
			return nil, badReference(r.Method, r.Ref, fmt.Errorf("%w: path", ErrReference))
		}
	}
	q, err := c.request(r)
	if err != nil {
		return nil, err
	}
	if at != r.Path {
		q.url.Path = q.ep.base.Path + at
	}
	q.push = true
	return q, nil
}

// patience is the registry's time. It is safe for concurrent use: a body may still be read when the answer is there.
type patience struct {
	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

// set gives the registry so long from now on; 0 stops the clock.
func (p *patience) set(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over:
	case d == 0:
		p.timer.Stop()
	default:
		p.timer.Reset(d)
	}
}

// end stops the clock for good.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.timer.Stop()
}

// pushBody is a client's body. The registry's time runs while nothing is read of it.
type pushBody struct {
	io.Reader
	patience *patience
}

// Read implements io.Reader.
func (b pushBody) Read(p []byte) (int, error) {
	b.patience.set(0) // the client's time is the caller's to bound
	n, err := b.Reader.Read(p)
	if err != nil {
		b.patience.set(pushAnswer)
	} else {
		b.patience.set(pushStall)
	}
	return n, err
}

// inMemory is a body that can be sent more than once: a bytes.Reader or strings.Reader.
type inMemory interface {
	io.ReaderAt
	Size() int64
}

// sized is a reader of known length.
type sized struct {
	io.Reader
	size int64
}

// Len is size.
func (s sized) Len() int { return int(s.size) }

// Len tells the length of a body that knows it.
func (b pushBody) Len() int {
	if sized, ok := b.Reader.(interface{ Len() int }); ok {
		return sized.Len()
	}
	return -1
}
