package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/meshd-project/meshd/exchange/pace"
	"github.com/meshd-project/meshd/exchange/swarm"
)

// Bounds of reading a blob of unknown size.
const (
	maxSpool = 64 << 30 // bytes

	// spoolGrace is what such a body may lag behind spoolRate, in bytes a second. It is as good as dead then: nobody else reads
	// the blob while it goes on.
	spoolGrace = time.Minute
	spoolRate  = 1 << 10
)

var errDrips error = &originError{swarm.OriginUnreachable, "origin sends next to nothing"}

// spool takes a body of unknown size to its end into an unlinked file, which then has one. The price is that no byte flows
// before the last has come: see swarm's unsized.go for why, and for what other nodes do meanwhile.
func (x *Exchange) spool(ctx context.Context, s *session, a swarm.FetchOrigin, body OriginBody) (OriginBody, error) {
	defer body.Close()
	if body.Offset != 0 {
		return body, &originError{swarm.OriginInvalid, "range of a blob of unknown size"}
	}
	f, err := os.CreateTemp(x.cfg.SpoolDir, "meshd-spool-")
	if err != nil {
		return body, &storeError{err}
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return body, &storeError{err}
	}
	log.Infow("origin tells no length: all of it is read before any goes on", "blob", a.Digest, "origin", a.Origin.Registry)
	n, err := x.fillSpool(ctx, s, f, body)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return body, err
	}
	return OriginBody{ReadCloser: closeOnce(f), Size: n, spooled: true}, nil
}

// fillSpool copies a body to its end and returns its length. Failures of the file are *storeError.
func (x *Exchange) fillSpool(ctx context.Context, s *session, f *os.File, body OriginBody) (n int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { _ = body.Close() })()
	end := newGrace(spoolGrace, func() { cancel(errDrips) })
	defer end.stop()
	s.mu.Lock()
	s.spooled = 0
	s.mu.Unlock()
	from := &spooling{Reader: body, s: s, end: end}
	buf := make([]byte, chunkSize)
	for n < maxSpool {
		got, waited, err := pace.Read(ctx, s.rank(), from, buf, x.cfg.Limits.Origin, x.cfg.Limits.Download)
		end.extend(waited)
		x.accounts.in.origin.Add(int64(got))
		s.in.origin.Add(int64(got))
		if _, werr := f.Write(buf[:got]); werr != nil {
			return n, &storeError{fmt.Errorf("spool: %w", werr)}
		}
		n += int64(got)
		switch {
		case errors.Is(context.Cause(ctx), errDrips):
			return n, fmt.Errorf("%w: %d bytes so far", errDrips, n)
		case err == nil:
		case from.ended:
			return n, nil
		default:
			return n, err
		}
	}
	return n, &originError{swarm.OriginInvalid, fmt.Sprintf("more than %d bytes without a length", int64(maxSpool))}
}

// spooling is a body of unknown size: each byte of it is a sign to those who wait for the blob.
type spooling struct {
	io.Reader
	s     *session
	end   *grace
	ended bool // it came to its own end
}

func (r *spooling) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.ended = err == io.EOF
	if n > 0 {
		r.s.hope("", n)
		r.end.extend(time.Duration(n) * time.Second / spoolRate)
	}
	return n, err
}

// hope notes a sign that the blob is on its way, of which nothing can be read yet: a reader's word, or "" and so
// many bytes that came to this node.
func (s *session) hope(reader swarm.PeerID, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sign, s.reader = time.Now(), reader
	s.spooled += int64(bytes)
}

// lastSign returns when the last one was.
func (s *session) lastSign() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sign
}

// await notes that another node reads a blob of unknown size.
func (x *Exchange) await(a swarm.Await) {
	if s := x.session(a.Digest); s != nil {
		s.hope(a.Reader, 0)
	}
}
