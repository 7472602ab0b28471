package get

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/meshd-project/meshd/mirror/gateway"
	"github.com/meshd-project/meshd/node"
	"github.com/meshd-project/meshd/seed/file"
)

// File is what the user asks for.
type File struct {
	URL    string
	Header http.Header // for the file's origin only
	Filter []string    // query parameters that do not tell one file from another
	SHA256 string      // "" or sha256:HEX

	// Waiting is told by another goroutine, while a source is asked, what a node says of the file; nil: nobody wants to know.
	Waiting func(gateway.Waiting)
}

// Answer is a version of a file, from an offset on.
type Answer struct {
	Body io.ReadCloser // fails unless all that was promised came
	Off  int64         // of its first byte: what was asked for, or 0
	Size int64         // of the whole file in bytes; -1 unknown
	Tag  string        // tells the version from others; "" if nothing does
}

// Source gives files. Its errors are *Error, or say that it cannot be asked (ErrAbsent).
type Source interface {
	// Open asks for a file from off on, if it still is the version that tag says, else from its start. An off of 0 takes
	// any version.
	Open(ctx context.Context, f File, off int64, tag string) (*Answer, error)
	// String names the source for people.
	String() string
}

// ErrAbsent says that a source is not there, or is not for this user or this file: another may be.
var ErrAbsent = errors.New("not there for this")

// Alone reads files from their own servers.
type Alone struct{ Client *file.Client }

func (a Alone) String() string { return "the file's server" }

// Open implements Source.
func (a Alone) Open(ctx context.Context, f File, off int64, tag string) (*Answer, error) {
	r, err := file.Parse(f.URL, f.Header, f.Filter)
	if err != nil {
		return nil, ofFile(err)
	}
	info, err := a.Client.Probe(ctx, r)
	if err != nil {
		return nil, ofFile(err)
	}
	out := &Answer{Size: info.Size}
	if info.Strong() {
		out.Tag = r.Tag(info.Version, nil)
	}
	if out.Tag == tag && tag != "" {
		out.Off = off
	}
	if out.Off > 0 && out.Off == info.Size {
		out.Body = http.NoBody
		return out, nil
	}
	body, err := a.Client.Read(ctx, r, info.Version, out.Off, -1)
	if errors.Is(err, file.ErrNoRange) {
		out.Off = 0
		body, err = a.Client.Read(ctx, r, info.Version, 0, -1)
	}
	if err != nil {
		return nil, ofFile(err)
	}
	out.Body, out.Size = explained{body}, body.Size
	return out, nil
}

// explained gives the errors of a file.Body their meaning.
type explained struct{ *file.Body }

func (e explained) Read(p []byte) (int, error) {
	n, err := e.Body.Read(p)
	if err != nil && err != io.EOF {
		err = ofFile(err)
	}
	return n, err
}

// Admin asks the node's admin API.
type Admin struct {
	// Post sends a request; ErrAbsent if no node answers or it does not let this user.
	Post func(ctx context.Context, path string, in any, header http.Header) (*http.Response, error)
}

func (a Admin) String() string { return "the node" }

// Open implements Source.
func (a Admin) Open(ctx context.Context, f File, off int64, tag string) (*Answer, error) {
	resp, err := a.Post(waiting(ctx, f), "/v1/files", node.FileRequest{URL: f.URL, Header: f.Header, Filter: f.Filter, Digest: f.SHA256}, headerOf(off, tag))
	if err != nil {
		return nil, cannotAsk(err)
	}
	return answerOf(resp)
}

// Gateway asks at the node's mirror address.
type Gateway struct {
	Addr string // HOST:PORT
	HTTP *http.Client
}

func (g Gateway) String() string { return "the node's gateway" }

// Open implements Source.
func (g Gateway) Open(ctx context.Context, f File, off int64, tag string) (*Answer, error) {
	req, err := http.NewRequestWithContext(waiting(ctx, f), http.MethodGet, "http://"+g.Addr+"/", nil)
	if err != nil {
		return nil, &Error{Code: 2, Err: errors.New("--mirror-addr is not HOST:PORT")}
	}
	r, err := file.Parse(f.URL, f.Header, f.Filter)
	if err != nil {
		return nil, ofFile(err)
	}
	req.URL.Opaque = gateway.Prefix + r.URL.String() // as it is: the path holds a whole URL
	req.Header = headerOf(off, tag)
	for name, values := range r.Header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "meshd-get")
	if f.SHA256 != "" {
		req.Header.Set(gateway.DigestHeader, f.SHA256)
	}
	if len(f.Filter) > 0 {
		req.Header.Set(gateway.FilterHeader, strings.Join(f.Filter, ","))
	}
	resp, err := g.HTTP.Do(req)
	if err != nil {
		return nil, cannotAsk(err)
	}
	return answerOf(resp)
}

// cannotAsk is a node that gives no answer: another source may. The text of *url.Error would have the whole URL.
func cannotAsk(err error) error {
	var wrapped *url.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w: nothing listens there", ErrAbsent)
	case errors.As(err, &wrapped):
		err = wrapped.Err
	}
	return fmt.Errorf("%w: %w", ErrAbsent, err)
}

// headerOf is what a node is asked with.
func headerOf(off int64, tag string) http.Header {
	h := http.Header{gateway.WaitHeader: {"1"}}
	if off > 0 && tag != "" {
		h.Set("Range", fmt.Sprintf("bytes=%d-", off))
		h.Set("If-Range", `"`+tag+`"`)
	}
	return h
}

// answerOf reads the head of a node's answer.
func answerOf(resp *http.Response) (*Answer, error) {
	a := &Answer{Body: cut{resp.Body}, Size: resp.ContentLength, Tag: strings.Trim(resp.Header.Get("ETag"), `"`)}
	switch resp.StatusCode {
	case http.StatusOK:
		return a, nil
	case http.StatusPartialContent:
		span, total, _ := strings.Cut(strings.TrimPrefix(resp.Header.Get("Content-Range"), "bytes "), "/")
		first, _, _ := strings.Cut(span, "-")
		var err1, err2 error
		a.Off, err1 = strconv.ParseInt(first, 10, 64)
		a.Size, err2 = strconv.ParseInt(total, 10, 64)
		if err := errors.Join(err1, err2); err != nil || a.Off < 0 || a.Size < a.Off {
			_ = resp.Body.Close()
			return nil, &Error{Code: 1, Err: errors.New("the node's answer makes no sense")}
		}
		return a, nil
	}
	defer resp.Body.Close()
	code := gateway.Code(resp.Header.Get(gateway.ErrorHeader))
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	switch {
	case code == "", code == gateway.Refused: // no such route, no right to it, or not this host
		return nil, fmt.Errorf("%w: %s", ErrAbsent, statusText(resp))
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return nil, &Error{Code: ExitChanged, Err: errors.New("the file has changed"), again: pause}
	}
	after, _ := time.ParseDuration(resp.Header.Get("Retry-After") + "s")
	why := strings.TrimSpace(strings.TrimPrefix(string(text), "meshd: "))
	return nil, ofCode(code, after, errors.New(cmp.Or(why, statusText(resp))))
}

// cut gives the errors of a connection to the node their meaning: it can be asked again.
type cut struct{ io.ReadCloser }

func (c cut) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = &Error{Code: 1, Err: fmt.Errorf("the node's answer was cut: %w", err), again: pause}
	}
	return n, err
}
