package files

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/pace"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/mirror/gateway"
	"github.com/meshd-project/meshd/seed/file"
)

// passed is a file that is read from its origin for one caller and not kept: gateway.Content.
type passed struct {
	version *version
	size    int64      // bytes; -1: only its end will tell
	whole   *file.Body // the answer, if it is the only one that there can be
	cancel  context.CancelFunc
}

// pass opens a file that is not shared. Only GET says how long a version is that is not strong, or that seems empty.
func (v *version) pass(ctx context.Context) (*passed, error) {
	p := &passed{version: v, size: v.info.Size}
	if v.known.version.Strong() && v.info.Size != 0 {
		return p, nil
	}
	var reading context.Context
	reading, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, p.cancel)
	body, err := v.known.client.Read(reading, v.known.request, v.known.version, 0, -1)
	if err == nil && !stop() {
		err = errors.Join(context.Cause(ctx), body.Close())
	}
	if err != nil {
		stop()
		p.cancel()
		return nil, problem(err)
	}
	p.whole, p.size = body, body.Size
	return p, nil
}

// Size implements gateway.Content.
func (p *passed) Size() int64 { return p.size }

// Close implements gateway.Content.
func (p *passed) Close() error {
	if p.whole == nil {
		return nil
	}
	p.cancel()
	return p.whole.Close()
}

// Reader implements gateway.Content. The origin is asked at WriteTo, unless it has been.
func (p *passed) Reader(off, n int64) (gateway.Reader, error) {
	if n < 0 && p.size >= 0 {
		n = p.size - off
	}
	whole := off == 0 && (n < 0 || n == p.size)
	if !whole && p.whole != nil {
		return nil, problem(file.ErrNoRange)
	}
	r := &passing{version: p.version, body: p.whole, off: off, left: n}
	if whole && p.version.digest != "" {
		r.check = p.version.digest.Verifier()
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// passing moves an origin's answer to a caller: gateway.Reader.
type passing struct {
	version *version
	body    *file.Body // nil until the origin is asked
	off     int64
	left    int64 // bytes still promised; -1: to the end
	check   digest.Verifier
	ctx     context.Context // ends with Close, which is how any goroutine ends WriteTo
	cancel  context.CancelFunc
}

// Close implements io.Closer.
func (p *passing) Close() error {
	p.cancel()
	return nil
}

// open asks the origin, unless that was done.
func (p *passing) open() (body *file.Body, err error) {
	if p.body != nil {
		return p.body, p.ctx.Err()
	}
	k := p.version.known
	return k.client.Read(p.ctx, k.request, k.version, p.off, p.left)
}

// WriteTo implements io.WriterTo. One buffer is held back, until it is known that the end is a good one.
func (p *passing) WriteTo(w io.Writer) (written int64, err error) {
	body, err := p.open()
	if err != nil {
		return 0, problem(err)
	}
	defer body.Close()
	defer context.AfterFunc(p.ctx, func() { _ = body.Close() })()
	held, next := make([]byte, 0, pace.MaxChunk), make([]byte, pace.MaxChunk)
	for {
		n, err := p.read(body, next)
		if n > 0 || err == io.EOF {
			if err == io.EOF {
				held = append(held, next[:n]...)
				if bad := p.verify(); bad != nil {
					return written, problem(bad)
				}
			}
			m, werr := w.Write(held)
			written += int64(m)
			if werr != nil || err == io.EOF {
				return written, werr
			}
			held, next = next[:n], held[:cap(held)]
		}
		if err != nil {
			return written, problem(err)
		}
	}
}

// read fills a buffer as far as bytes are there; io.EOF comes with the last, once all that was promised came.
func (p *passing) read(body *file.Body, buf []byte) (int, error) {
	if p.left >= 0 {
		buf = buf[:min(int64(len(buf)), p.left)]
	}
	if len(buf) == 0 {
		return 0, io.EOF
	}
	limits := p.version.files.cfg.Limits
	n, _, err := pace.Read(p.ctx, swarm.Foreground, body, buf, limits.Origin, limits.Download)
	if p.check != nil {
		_, _ = p.check.Write(buf[:n])
	}
	if p.left >= 0 {
		if p.left -= int64(n); p.left == 0 && err == nil {
			return n, io.EOF
		}
	}
	// Of pace.Read, itself: the answer ended within the buffer. One that was cut is a *file.Error.
	early := err == io.EOF || err == io.ErrUnexpectedEOF
	switch {
	case early && p.left < 0:
		err = io.EOF
	case early && p.left > 0:
		err = fmt.Errorf("%w: %d bytes are missing", file.ErrUnreachable, p.left)
	}
	return n, err
}

// verify checks the whole against the digest that the caller gave.
func (p *passing) verify() error {
	if p.check != nil && !p.check.Verified() {
		return fmt.Errorf("%w: %s", exchange.ErrCorruptOrigin, p.version.digest)
	}
	return nil
}
