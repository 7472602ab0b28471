package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// Body is an origin's answer. Reading it to the end fails unless all that was promised came.
type Body struct {
	Size   int64 // of the whole file in bytes; -1 if neither the answer nor a strong version tells
	Offset int64 // of the first byte
	Ranged bool  // a range was asked for and is coming; otherwise the whole file is

	ctx    context.Context
	cancel context.CancelFunc
	at     *url.URL
	body   io.ReadCloser
	left   int64 // bytes still promised; -1 unknown
	idle   time.Duration
	timer  *time.Timer
	late   atomic.Bool
}

// Read opens n bytes of a version from off; n < 0 is to the end. ErrChanged if the origin has another version by now;
// ErrNoRange if it sends the whole file and off is not 0. A version that is not strong can be had whole only.
func (c *Client) Read(ctx context.Context, r Request, v Version, off, n int64) (*Body, error) {
	extra := http.Header{}
	ranged := off > 0 || n >= 0 && off+n != v.Size
	if ranged {
		extra.Set("Range", rangeText(off, n))
	}
	v.condition(extra)
	ctx, cancel := context.WithCancel(ctx)
	resp, at, err := c.ask(ctx, r, http.MethodGet, extra)
	if err != nil {
		cancel()
		return nil, err
	}
	b := &Body{ctx: ctx, cancel: cancel, at: at, body: resp.Body, idle: c.cfg.IdleTimeout}
	b.timer = time.AfterFunc(time.Hour, func() { b.late.Store(true); cancel() })
	b.timer.Stop()
	if err := b.begin(resp, v, off, n, ranged); err != nil {
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

func rangeText(off, n int64) string {
	if n < 0 {
		return fmt.Sprintf("bytes=%d-", off)
	}
	return fmt.Sprintf("bytes=%d-%d", off, off+n-1)
}

// begin checks an answer's head.
func (b *Body) begin(resp *http.Response, v Version, off, n int64, ranged bool) error {
	fail := func(err error) error { return &Error{At: show(b.at), Status: resp.StatusCode, Err: err} }
	switch {
	case resp.StatusCode == http.StatusOK:
		b.Size, b.left = resp.ContentLength, resp.ContentLength
	case resp.StatusCode == http.StatusPartialContent && ranged:
		first, size, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil {
			return fail(fmt.Errorf("%w: %w", ErrInvalid, err))
		}
		b.Offset, b.Size, b.Ranged, b.left = first, size, true, resp.ContentLength
		if b.left < 0 && n >= 0 {
			b.left = n
		}
	default:
		return statusError(b.at, resp)
	}
	if v.Strong() && !v.same(versionOf(resp.Header, b.Size)) {
		return fail(ErrChanged)
	}
	if b.Size < 0 && v.Strong() {
		b.Size = v.Size
	}
	if b.left < 0 && b.Size >= 0 { // an answer that only the end of the connection ends
		b.left = b.Size - b.Offset
	}
	switch {
	case !b.Ranged && off > 0:
		return fail(ErrNoRange)
	case b.Ranged && b.Offset != off, b.Ranged && n >= 0 && b.left != min(n, max(b.Size-off, 0)) && b.Size >= 0:
		return fail(fmt.Errorf("%w: another range than was asked for", ErrInvalid))
	}
	return nil
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b.timer.Reset(b.idle)
	n, err := b.body.Read(p)
	b.timer.Stop()
	if n > 0 && b.left >= 0 {
		if b.left -= int64(n); b.left < 0 {
			return 0, b.fail(fmt.Errorf("%w: more bytes than promised", ErrInvalid))
		}
	}
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF && b.left <= 0:
		return n, io.EOF
	case b.late.Load():
		return n, b.fail(ErrTimeout)
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, networkError(b.ctx, b.at, fmt.Errorf("the answer was cut: %w", err))
}

func (b *Body) fail(err error) error { return &Error{At: show(b.at), Err: err} }

// Close ends the request. A body that was read to its end leaves the connection to others.
func (b *Body) Close() error {
	b.timer.Stop()
	err := b.body.Close()
	b.cancel()
	return err
}

// parseContentRange reads "bytes FIRST-LAST/SIZE" and "bytes */SIZE"; size is -1 for "*".
func parseContentRange(s string) (first, size int64, err error) {
	bad := fmt.Errorf("content range %.40q", s)
	spec, ok := strings.CutPrefix(s, "bytes ")
	if !ok {
		return 0, 0, bad
	}
	span, total, ok := strings.Cut(spec, "/")
	if !ok {
		return 0, 0, bad
	}
	size = -1
	if total != "*" {
		if size, err = number(total); err != nil {
			return 0, 0, bad
		}
	}
	if span == "*" {
		return 0, size, nil
	}
	from, to, ok := strings.Cut(span, "-")
	first, err1 := number(from)
	last, err2 := number(to)
	if !ok || err1 != nil || err2 != nil || last < first || size >= 0 && last >= size {
		return 0, 0, bad
	}
	return first, size, nil
}

// number reads digits only.
func number(s string) (int64, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(s, 10, 64)
}

// BaseName is the last element of a URL's path if it can be the name of a file, else "".
func BaseName(u *url.URL) string {
	name := path.Base(u.Path)
	if name == "." || name == "/" || name == ".." || len(name) > 200 || strings.ContainsAny(name, `/\`) || strings.ContainsFunc(name, unicode.IsControl) {
		return ""
	}
	return name
}
