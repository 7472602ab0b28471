package origin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/opencontainers/go-digest"
)

// BlobRequest names a blob, or a part of it.
type BlobRequest struct {
	Ref
	Digest digest.Digest
	Offset int64 // first byte
	Length int64 // bytes; negative: to the end. 0 is not allowed

	// Authorization is the client's own header; empty is anonymous.
	Authorization string
}

// Blob opens a blob. Without Offset and Length the whole is asked for. An origin that answers the range of an Offset above 0
// with the whole blob gives ErrNoRange, and nothing of it is read. A Length that reaches past the end is cut.
func (c *Client) Blob(ctx context.Context, r BlobRequest) (*Body, error) {
	q, err := c.blobQuery(http.MethodGet, r)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Offset < 0 || r.Length == 0:
		return nil, q.invalid(fmt.Errorf("%w: bytes %d+%d of a blob", ErrReference, r.Offset, r.Length))
	case r.Length > 0 && r.Offset+r.Length < r.Offset:
		r.Length = -1 // past the last byte that an offset can name
		fallthrough
	case r.Length < 0 && r.Offset > 0:
		q.header.Set("Range", fmt.Sprintf("bytes=%d-", r.Offset))
	case r.Length > 0:
		q.header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.Offset, r.Offset+r.Length-1))
	}
	a, err := c.ask(ctx, q)
	if r.Offset == 0 && r.Length > 1 && unsatisfiable(err) {
		// Some registries refuse a range that ends past the blob instead of cutting it (RFC 9110, 14.1.2): take it whole.
		q.header.Del("Range")
		r.Length = -1
		a, err = c.ask(ctx, q)
	}
	if err != nil {
		return nil, err
	}
	b, err := c.openBody(ctx, q, r, a)
	if err != nil {
		a.cancel(nil) // before closing: what is left is not read
		_ = a.Body.Close()
		return nil, q.invalid(err)
	}
	return b, nil
}

// openBody judges an answer by its header.
func (c *Client) openBody(ctx context.Context, q *query, r BlobRequest, a *answer) (*Body, error) {
	b := &Body{stream: c.newStream(ctx, q, a), Size: a.ContentLength, left: a.ContentLength}
	switch a.StatusCode {
	case http.StatusOK:
		if r.Offset > 0 {
			return nil, ErrNoRange
		}
		return b, nil
	case http.StatusPartialContent:
	default:
		return nil, fmt.Errorf("%w: status %d for a blob", ErrInvalid, a.StatusCode)
	}
	got, err := parseContentRange(a.Header.Get("Content-Range"))
	if err != nil {
		return nil, err
	}
	if got.first != r.Offset || r.Length > 0 && got.length() > r.Length {
		return nil, fmt.Errorf("%w: bytes %d-%d for %d+%d", ErrInvalid, got.first, got.last, r.Offset, r.Length)
	}
	if a.ContentLength >= 0 && a.ContentLength != got.length() {
		return nil, fmt.Errorf("%w: Content-Length %d for bytes %d-%d", ErrInvalid, a.ContentLength, got.first, got.last)
	}
	b.Size, b.Offset, b.Ranged, b.left = got.size, got.first, true, got.length()
	// A range cut short by the server has to show as short, unless it ends with the blob.
	if want := r.wanted(got.size); want > got.length() {
		b.left = want
	}
	return b, nil
}

// wanted is how many bytes a range should have of a blob of that size; 0 if that is unknown.
func (r BlobRequest) wanted(size int64) int64 {
	switch {
	case size < 0:
		return 0
	case r.Length < 0:
		return size - r.Offset
	}
	return min(r.Length, size-r.Offset)
}

// HeadBlob asks whether a blob is there and how large it is; the size is -1 if the origin does not tell. An origin
// that does not answer HEAD as it should is asked for the first byte, which is not read.
func (c *Client) HeadBlob(ctx context.Context, r BlobRequest) (size int64, err error) {
	q, err := c.blobQuery(http.MethodHead, r)
	if err != nil {
		return 0, err
	}
	a, err := c.ask(ctx, q)
	if err == nil {
		a.drain()
		// A length of 0 is what proxies make of a HEAD that they do not understand.
		if a.StatusCode == http.StatusOK && (a.ContentLength > 0 || a.ContentLength == 0 && r.empty()) {
			return a.ContentLength, nil
		}
	} else if !headUnsupported(err) {
		return 0, err
	}
	r.Offset, r.Length = 0, 1
	b, err := c.Blob(ctx, r)
	if err == nil {
		_ = b.Close()
		return b.Size, nil
	}
	if unsatisfiable(err) && r.empty() {
		return 0, nil // an empty blob has no first byte
	}
	return 0, err
}

// unsatisfiable tells whether an origin answered 416.
func unsatisfiable(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusRequestedRangeNotSatisfiable
}

// empty tells whether the digest is that of no bytes.
func (r BlobRequest) empty() bool { return r.Digest == r.Digest.Algorithm().FromString("") }

// headUnsupported tells whether a refused HEAD says little about a GET.
func headUnsupported(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	case http.StatusUnauthorized, http.StatusForbidden:
		return e.storage // the signature may be for GET alone
	}
	return false
}

func (c *Client) blobQuery(method string, r BlobRequest) (*query, error) {
	if err := r.Digest.Validate(); err != nil {
		return nil, badReference(method, r.Ref, fmt.Errorf("%w: digest %s: %w", ErrReference, clip(string(r.Digest)), err))
	}
	return c.query(method, r.Ref, "blobs/"+r.Digest.String(), r.Authorization)
}

// query checks a reference and addresses a request to it.
func (c *Client) query(method string, ref Ref, path, authorization string) (*query, error) {
	ep, err := c.endpoint(ref.Registry)
	if err != nil {
		return nil, badReference(method, ref, err)
	}
	if err := checkRepository(ref.Repository); err != nil {
		return nil, badReference(method, ref, err)
	}
	if strings.ContainsFunc(authorization, unicode.IsControl) {
		return nil, badReference(method, ref, fmt.Errorf("%w: Authorization", ErrReference))
	}
	u := *ep.base
	u.Path = strings.Join([]string{ep.base.Path, "v2", ref.Repository, path}, "/")
	return &query{
		ep:         ep,
		repository: ref.Repository,
		method:     method,
		url:        &u,
		header:     http.Header{"Accept": {"*/*"}},
		cred:       newCredential(authorization),
	}, nil
}

// invalid makes the error of an answer, or a question, that makes no sense.
func (q *query) invalid(err error) *Error {
	return &Error{Registry: q.ep.name, Op: q.op(), Err: err}
}

// badReference makes the error of a request that names nothing.
func badReference(method string, ref Ref, err error) *Error {
	return &Error{Registry: clip(ref.Registry), Op: method + " " + clip(ref.Repository), Err: err}
}
