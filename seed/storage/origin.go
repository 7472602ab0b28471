package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
)

// stallTime is how long a bucket may take to begin an answer; a piece of it has to come in readTime.
const stallTime = 10 * time.Second

// streamer is what objects of a Bucket do besides: long ranges in one request.
type streamer interface {
	Stream(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// Origin puts the bucket before a registry: what it has, whole and in the pieces of the swarm, is read from it.
func (t *Tier) Origin(next exchange.Origin) exchange.Origin {
	return &origin{Origin: next, t: t, room: semaphore.NewWeighted(maxReading)}
}

type origin struct {
	exchange.Origin
	t    *Tier
	room *semaphore.Weighted
}

// Blob implements exchange.Origin.
func (o *origin) Blob(ctx context.Context, ref swarm.OriginRef, authorization string, d digest.Digest, off, n int64) (exchange.OriginBody, error) {
	name := d
	if authorization != "" {
		var err error
		if name, err = store.Scoped(ref.Registry, d); err != nil {
			return o.Origin.Blob(ctx, ref, authorization, d, off, n)
		}
	}
	body, err := o.fromBucket(ctx, name, off, n)
	if err == nil {
		return body, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		o.t.instead()
	}
	return o.Origin.Blob(ctx, ref, authorization, d, off, n)
}

func (t *Tier) instead() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sums.Instead++
}

// errResting says that the bucket is left alone for now.
var errResting = errors.New("bucket is resting")

// fromBucket opens a range in the bucket. store.ErrNotFound: it is not there as it has to be.
func (o *origin) fromBucket(ctx context.Context, name digest.Digest, off, n int64) (exchange.OriginBody, error) {
	var none exchange.OriginBody
	obj, err := o.t.lookup(ctx, name)
	if err != nil {
		return none, err
	}
	outline, err := obj.Outline()
	if err != nil {
		return none, err
	}
	size, ps := outline.Size, outline.PieceSize
	end := size
	if n >= 0 {
		end = min(off+n, size)
	}
	if ps != swarm.LayoutOf(size).PieceSize || off%ps != 0 || off >= end {
		return none, store.ErrNotFound
	}
	if !o.t.serve(name, end-off, size) {
		return none, store.ErrNotFound
	}
	if err := o.room.Acquire(ctx, ps); err != nil {
		return none, err
	}
	b := &provenBody{t: o.t, name: name, outline: outline, off: off, left: end - off, release: func() { o.room.Release(ps) }}
	if err := b.open(ctx, obj); err != nil {
		b.release()
		if ctx.Err() == nil {
			o.t.failed(name, err)
		}
		return none, err
	}
	return exchange.OriginBody{ReadCloser: b, Size: size, Offset: off, Ranged: off > 0 || n >= 0}, nil
}

// lookup finds a blob in the bucket, and remembers what it found.
func (t *Tier) lookup(ctx context.Context, name digest.Digest) (store.Object, error) {
	t.mu.Lock()
	k, ok := t.known.Get(name)
	t.mu.Unlock()
	if ok && time.Now().Before(k.until) {
		if k.object == nil {
			return nil, store.ErrNotFound
		}
		return k.object, t.rests()
	}
	if err := t.rests(); err != nil {
		return nil, err
	}
	obj, err := t.keeper.Open(ctx, name)
	k = known{object: obj, served: k.served, until: time.Now().Add(hereFor)}
	switch {
	case errors.Is(err, store.ErrNotFound):
		k.object, k.until = nil, time.Now().Add(absentFor)
	case err != nil:
		if ctx.Err() == nil {
			t.failed(name, err)
		}
		return nil, err
	}
	t.mu.Lock()
	t.known.Add(name, k)
	t.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return obj, nil
}

func (t *Tier) rests() error {
	if t.read.resting() > 0 {
		return errResting
	}
	return nil
}

// serve counts bytes of a blob that are asked for. One that is asked for more than twice over without ever being complete
// does not match its digest, whatever its outline says: it is the registry's turn.
func (t *Tier) serve(name digest.Digest, n, size int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	k, ok := t.known.Peek(name)
	if !ok {
		return true
	}
	if k.served += n; k.served > 2*size {
		log.Warnw("blob in the bucket does not become complete, reading the registry", "blob", name)
		k.object, k.bad, k.until = nil, true, time.Now().Add(hereFor)
		delete(t.done, name)
	}
	t.known.Add(name, k)
	return k.object != nil
}

// failed notes that reading has failed. What is wrong with one blob says nothing of others.
func (t *Tier) failed(name digest.Digest, err error) {
	if !errors.Is(err, store.ErrDigestMismatch) && !errors.Is(err, store.ErrInvalid) && !errors.Is(err, store.ErrNotFound) {
		t.read.fail("read", err)
		return
	}
	log.Warnw("blob in the bucket is not what it should be, reading the registry", "blob", name, "err", err)
	t.mu.Lock()
	defer t.mu.Unlock()
	k, _ := t.known.Peek(name)
	k.object, k.bad, k.until = nil, true, time.Now().Add(hereFor)
	t.known.Add(name, k)
	delete(t.done, name)
}

// provenBody reads pieces of a blob in the bucket and gives out those that match the outline. One goroutine reads; any may
// Close.
type provenBody struct {
	t       *Tier
	name    digest.Digest
	outline store.Outline
	off     int64        // of the next piece
	left    int64        // bytes to give out
	cause   func() error // why reading has been ended, nil if it has not
	cancel  context.CancelCauseFunc
	stall   *time.Timer
	src     io.ReadCloser
	buf     []byte
	next    []byte // proven, and not given out yet
	release func()
}

// open begins to read, up to the end of the last piece.
func (b *provenBody) open(ctx context.Context, obj store.Object) error {
	ctx, b.cancel = context.WithCancelCause(ctx)
	b.cause = func() error { return context.Cause(ctx) }
	b.stall = time.AfterFunc(stallTime, func() { b.cancel(errSlow) })
	defer b.stall.Stop()
	ps := b.outline.PieceSize
	n := min((b.left+ps-1)/ps*ps, b.outline.Size-b.off)
	var err error
	if s, ok := obj.(streamer); ok {
		b.src, err = s.Stream(ctx, b.off, n)
	} else {
		b.src = io.NopCloser(io.NewSectionReader(obj, b.off, n))
	}
	if err != nil {
		err = b.why(err)
		b.cancel(nil)
		return err
	}
	b.buf = make([]byte, min(ps, n))
	return nil
}

// why is the cause of an error.
func (b *provenBody) why(err error) error {
	if errors.Is(b.cause(), errSlow) {
		return fmt.Errorf("%w: %w", errSlow, err)
	}
	return err
}

// Read implements io.Reader.
func (b *provenBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if len(b.next) == 0 {
		if err := b.fill(); err != nil {
			err = fmt.Errorf("bucket: %s at byte %d: %w", b.name, b.off, b.why(err))
			if cause := b.cause(); cause == nil || errors.Is(cause, errSlow) { // nobody has closed it
				b.t.failed(b.name, err)
			}
			return 0, err
		}
	}
	n := copy(p, b.next[:min(int64(len(b.next)), b.left)])
	b.next, b.left = b.next[n:], b.left-int64(n)
	if b.left == 0 {
		b.t.read.ok()
	}
	return n, nil
}

// fill reads and proves the next piece. Only while it does is the bucket the one that is waited for.
func (b *provenBody) fill() error {
	piece := b.buf[:min(b.outline.PieceSize, b.outline.Size-b.off)]
	b.stall.Reset(readTime(int64(len(piece))))
	defer b.stall.Stop()
	if _, err := io.ReadFull(b.src, piece); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if sha256.Sum256(piece) != b.outline.Hashes[b.off/b.outline.PieceSize] {
		return store.ErrDigestMismatch
	}
	b.off += int64(len(piece))
	b.next = piece
	b.t.mu.Lock()
	b.t.sums.BytesIn += int64(len(piece))
	b.t.mu.Unlock()
	return nil
}

// Close ends the reading.
func (b *provenBody) Close() error {
	b.stall.Stop()
	b.cancel(io.ErrClosedPipe)
	err := b.src.Close()
	b.release()
	return err
}
