package exchange

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/meshd-project/meshd/exchange/pace"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Bounds of reading the origin.
const (
	openWait = 30 * time.Second // for the core and the store to take a size that the origin told
	// storeWorkers hash and write the pieces of one fetch at a time: both take longer than reading them.
	storeWorkers = 2
)

// originFetch is a FetchOrigin under way.
type originFetch struct {
	s      *session
	cancel context.CancelCauseFunc
}

// fetchOrigin starts a fetch.
func (x *Exchange) fetchOrigin(ctx context.Context, a swarm.FetchOrigin) {
	s := x.sessionFor(a.Digest)
	if s == nil {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	x.mu.Lock()
	x.fetches[a.Fetch] = originFetch{s: s, cancel: cancel}
	x.mu.Unlock()
	s.work.Add(1)
	if !x.spawn(func() { defer s.work.Done(); x.runFetch(ctx, cancel, s, a) }) {
		s.work.Done()
		cancel(ErrClosed)
	}
}

func (x *Exchange) stopOrigin(fetch uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if f, ok := x.fetches[fetch]; ok {
		f.cancel(errCancelled)
		delete(x.fetches, fetch)
	}
}

// runFetch reads from the origin and tells the core how it ended, unless it was stopped.
func (x *Exchange) runFetch(ctx context.Context, cancel context.CancelCauseFunc, s *session, a swarm.FetchOrigin) {
	defer cancel(nil)
	began := time.Now()
	a.Origin = s.chooseOrigin(a.Origin)
	err := x.readOrigin(ctx, s, a)
	stopped := ctx.Err() != nil
	x.mu.Lock()
	delete(x.fetches, a.Fetch)
	x.mu.Unlock()
	var st *storeError
	switch {
	case stopped:
	case err == nil:
		x.post(swarm.OriginDone{Digest: a.Digest, Fetch: a.Fetch})
	case errors.As(err, &st):
		x.storeFailed(s, st.err)
	default:
		kind, after := x.classify(err)
		if s.originFailed(a.Origin, kind, err) {
			kind, after = swarm.OriginUnreachable, 0 // not the end: the next fetch goes elsewhere
		}
		log.Infow("origin failed", "blob", a.Digest, "origin", a.Origin.Registry, "dur", time.Since(began), "err", err)
		x.post(swarm.OriginFailed{Digest: a.Digest, Fetch: a.Fetch, Kind: kind, RetryAfter: after})
	}
}

// chooseOrigin returns where to read: where the core says or, if that has failed in this session, where another local
// client asked and it has failed less often. One client's bad registry is not to fail those who named a good one.
func (s *session) chooseOrigin(o swarm.OriginRef) swarm.OriginRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bestOrigin(o)
}

// bestOrigin is chooseOrigin for a caller that holds s.mu.
func (s *session) bestOrigin(o swarm.OriginRef) swarm.OriginRef {
	for other := range s.credentials {
		if s.failures[other] < s.failures[o] {
			o = other
		}
	}
	return o
}

// originFailed notes a failed fetch and reports whether the next one has a better origin to go to.
func (s *session) originFailed(o swarm.OriginRef, kind swarm.OriginErrorKind, err error) (another bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.originErr = fmt.Errorf("fetch %s from %s/%s: %w", s.digest, o.Registry, o.Repository, err)
	if kind == swarm.OriginNoRange {
		return false // it has the blob, and is asked for the whole
	}
	s.failures[o]++
	return s.bestOrigin(o) != o
}

// storeError sets the store's failures apart from the origin's.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }

func (x *Exchange) classify(err error) (swarm.OriginErrorKind, time.Duration) {
	var own *originError
	if errors.As(err, &own) {
		return own.kind, 0
	}
	kind, after := x.origin.Classify(err)
	if kind < swarm.OriginUnreachable || kind > swarm.OriginInvalid {
		kind = swarm.OriginUnreachable
	}
	return kind, after
}

// readOrigin opens the range and streams its pieces into the store.
func (x *Exchange) readOrigin(ctx context.Context, s *session, a swarm.FetchOrigin) error {
	auth, err := x.mayFetch(s, a.Origin)
	if err != nil {
		return err
	}
	content, err := contentAt(a.Digest, a.Origin)
	if err != nil {
		return err
	}
	off, n := s.originRange(a)
	x.accounts.originRequests.Add(1)
	body, err := x.origin.Blob(ctx, a.Origin, auth, content, off, n)
	if err != nil {
		return err
	}
	body.ReadCloser = closeOnce(body.ReadCloser)
	if body.Size < 0 {
		if body, err = x.spool(ctx, s, a, body); err != nil {
			return err
		}
	}
	defer body.Close()
	defer context.AfterFunc(ctx, func() { _ = body.Close() })()
	switch {
	case body.Offset != off:
		return &originError{swarm.OriginNoRange, fmt.Sprintf("asked from byte %d, origin sends from %d", off, body.Offset)}
	case body.Size > swarm.MaxBlobSize:
		return &originError{swarm.OriginInvalid, fmt.Sprintf("blob of %d bytes", body.Size)}
	}
	x.post(swarm.OriginSized{Digest: a.Digest, Fetch: a.Fetch, Size: body.Size, Ranges: body.Ranged})
	gen, l, err := s.awaitOpen(ctx, body.Size)
	if err != nil {
		return err
	}
	return x.streamPieces(ctx, s, a, body, gen, l)
}

// mayFetch returns the credentials to read an origin with. For peers, only listed registries are read.
func (x *Exchange) mayFetch(s *session, o swarm.OriginRef) (authorization string, err error) {
	if x.origin == nil {
		return "", &originError{swarm.OriginRefused, "this node reads no origin"}
	}
	s.mu.Lock()
	auth, local := s.credentials[o]
	if s.origin.Zero() {
		s.origin = o
	}
	s.mu.Unlock()
	if !local && !x.origin.Listed(o.Registry) {
		return "", &originError{swarm.OriginRefused, fmt.Sprintf("registry %s is not listed", o.Registry)}
	}
	return auth, nil
}

// contentAt returns the digest by which an origin knows a blob. A private blob's name says of which registry it is; a peer may
// have put it together with another.
func contentAt(d digest.Digest, o swarm.OriginRef) (digest.Digest, error) {
	content, scoped := store.Content(d)
	if id, err := store.Scoped(o.Registry, content); scoped && (err != nil || id != d) {
		return "", &originError{swarm.OriginRefused, fmt.Sprintf("private blob %s is not of registry %s", content, o.Registry)}
	}
	return content, nil
}

// originRange returns the bytes to ask for; n < 0 is to the end.
func (s *session) originRange(a swarm.FetchOrigin) (off, n int64) {
	s.mu.Lock()
	l, known := s.layout, s.part != nil || s.unkept.on
	s.mu.Unlock()
	if !known {
		if a.Bytes > 0 {
			return 0, a.Bytes
		}
		return 0, -1
	}
	off, _ = l.Span(a.First)
	if a.Count == 0 {
		return off, -1
	}
	return off, min(int64(a.Count)*l.PieceSize, l.Size-off)
}

// awaitOpen waits until the store has room for a blob of size bytes.
func (s *session) awaitOpen(ctx context.Context, size int64) (gen int, l swarm.Layout, err error) {
	timer := time.NewTimer(openWait)
	defer timer.Stop()
	for {
		s.mu.Lock()
		open := (s.part != nil || s.unkept.on) && s.size == size && s.told == size
		if open && !s.flowing {
			s.flowing = true
			s.signal()
		}
		gen, l, err = s.gen, s.layout, s.err
		changed := s.changed
		s.mu.Unlock()
		if open || err != nil {
			return gen, l, err
		}
		select {
		case <-changed:
		case <-timer.C:
			return 0, l, &originError{swarm.OriginInvalid, fmt.Sprintf("origin says %d bytes", size)}
		case <-ctx.Done():
			return 0, l, ctx.Err()
		}
	}
}

// originPiece is a piece that has been read and not yet been stored.
type originPiece struct {
	index swarm.PieceIndex
	buf   []byte
}

// streamPieces reads pieces in order while those read before are hashed and stored: network and disk overlap.
func (x *Exchange) streamPieces(ctx context.Context, s *session, a swarm.FetchOrigin, body OriginBody, gen int, l swarm.Layout) error {
	end := swarm.PieceIndex(l.Pieces())
	switch {
	case !body.Ranged: // all of it comes
	case a.Count > 0:
		end = min(end, a.First+swarm.PieceIndex(a.Count))
	case a.Bytes > 0 && a.Bytes < l.Size:
		end = min(end, swarm.PieceIndex(a.Bytes/l.PieceSize))
	}
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { _ = body.Close() })() // a full disk ends the reading too
	ready := make(chan originPiece, 1)
	g.Go(func() error {
		defer close(ready)
		return x.readPieces(ctx, s, body, gen, a.First, end, l, ready)
	})
	for range storeWorkers {
		g.Go(func() error { return x.storePieces(ctx, s, a, ready, gen, l) })
	}
	return g.Wait()
}

// storePieces stores what has been read. After an error it only gives the buffers back.
func (x *Exchange) storePieces(ctx context.Context, s *session, a swarm.FetchOrigin, ready <-chan originPiece, gen int, l swarm.Layout) error {
	var err error
	for p := range ready {
		if err == nil {
			err = x.storePiece(ctx, s, a, p, gen, l)
		}
		x.buffers.put(p.buf)
	}
	return err
}

// readPieces reads pieces [first, end) into buffers.
func (x *Exchange) readPieces(ctx context.Context, s *session, body OriginBody, gen int, first, end swarm.PieceIndex, l swarm.Layout, ready chan<- originPiece) error {
	for i := first; i < end; i++ {
		if err := s.awaitWindow(ctx, gen, i); err != nil {
			return err
		}
		_, n := l.Span(i)
		buf, err := x.buffers.get(ctx, n)
		if err != nil {
			return err
		}
		if err := x.readOriginPiece(ctx, s, body, buf); err != nil {
			x.buffers.put(buf)
			return fmt.Errorf("piece %d: %w", i, err)
		}
		select {
		case ready <- originPiece{i, buf}:
		case <-ctx.Done():
			x.buffers.put(buf)
			return ctx.Err()
		}
	}
	if end < swarm.PieceIndex(l.Pieces()) {
		return nil
	}
	// The end of the blob: there must be no more, and the connection is free for the next request once EOF is seen.
	var extra [1]byte
	if n, err := body.Read(extra[:]); n > 0 {
		return &originError{swarm.OriginInvalid, fmt.Sprintf("more than the %d bytes that the origin announced", l.Size)}
	} else if err != nil && err != io.EOF {
		return err
	}
	return nil
}

// readOriginPiece reads one piece. What was spooled has been counted and let through already.
func (x *Exchange) readOriginPiece(ctx context.Context, s *session, body OriginBody, buf []byte) error {
	if body.spooled {
		if _, err := io.ReadFull(body, buf); err != nil {
			return &storeError{fmt.Errorf("spool: %w", err)}
		}
		return ctx.Err()
	}
	for got := 0; got < len(buf); {
		n, _, err := pace.Read(ctx, s.rank(), body, buf[got:], x.cfg.Limits.Origin, x.cfg.Limits.Download)
		x.accounts.in.origin.Add(int64(n))
		s.in.origin.Add(int64(n))
		got += n
		switch {
		case err == io.EOF:
			return &originError{swarm.OriginInvalid, "origin's answer ends early"}
		case errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("origin cut off: %w", err)
		case err != nil:
			return err
		}
	}
	return nil
}

// storePiece hashes, signs and stores a piece that this node read from the origin.
func (x *Exchange) storePiece(ctx context.Context, s *session, a swarm.FetchOrigin, p originPiece, gen int, l swarm.Layout) error {
	s.mu.Lock()
	held, current := s.have.Has(p.index), s.gen == gen && s.phase == filling
	s.mu.Unlock()
	if held || !current {
		x.accounts.duplicate.Add(int64(len(p.buf)))
		x.tellKept(s, a, p.index, gen)
		return nil
	}
	hash := swarm.Hash(sha256.Sum256(p.buf))
	att, err := x.notary.attest(a.Digest, l.Size, p.index, hash)
	if err != nil {
		return err
	}
	kept, err := x.keepPiece(ctx, s, gen, p.index, p.buf, att)
	if err != nil {
		return &storeError{fmt.Errorf("write piece %d of %s: %w", p.index, a.Digest, err)}
	}
	if !kept {
		x.accounts.duplicate.Add(int64(len(p.buf)))
		x.tellKept(s, a, p.index, gen)
		x.tellPassed(s, a, p.index, gen, hash)
		return nil
	}
	s.mu.Lock()
	if !slices.Contains(s.sources, a.Origin) {
		s.sources = append(s.sources, a.Origin)
	}
	s.mu.Unlock()
	x.post(swarm.OriginPiece{Digest: a.Digest, Fetch: a.Fetch, Piece: p.index, Hash: hash})
	s.toldOf(p.index)
	return nil
}

// tellKept tells the core of a piece that came twice: it would not have had it read if it knew.
func (x *Exchange) tellKept(s *session, a swarm.FetchOrigin, i swarm.PieceIndex, gen int) {
	s.mu.Lock()
	p, held := s.part, s.gen == gen && s.have.Has(i) && s.unkept.held[i] == nil
	s.mu.Unlock()
	if p != nil && held {
		x.post(swarm.OriginPiece{Digest: a.Digest, Fetch: a.Fetch, Piece: i, Hash: p.Hash(int(i))})
	}
}

// tellPassed tells the core of a piece that came when no reader wanted it soon any more: its fetch brings it no second
// time, and a reader may want it later.
func (x *Exchange) tellPassed(s *session, a swarm.FetchOrigin, i swarm.PieceIndex, gen int, hash swarm.Hash) {
	s.mu.Lock()
	passed := s.unkept.on && s.gen == gen && !s.have.Has(i)
	s.mu.Unlock()
	if passed {
		x.post(swarm.OriginPiece{Digest: a.Digest, Fetch: a.Fetch, Piece: i, Hash: hash})
	}
}

// closeOnce lets a body be closed by whoever is first.
func closeOnce(rc io.ReadCloser) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{rc, closerFunc(sync.OnceValue(rc.Close))}
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }
