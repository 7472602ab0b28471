package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

// Want says which blob is wanted, and where it is from.
type Want struct {
	Digest digest.Digest
	Size   int64           // bytes, as a manifest says; -1 while unknown
	Origin swarm.OriginRef // zero: from peers only
	// Authorization is the client's own header for the origin. With one the blob is private: it goes by the name that
	// store.Scoped gives it, and only nodes whose clients want it too, with credentials of their own, read it from
	// the origin. A public copy that is complete here serves as well. The header stays in memory until the fetch ends.
	Authorization string
	// FromPeers: the blob is a private one of Origin.Registry and goes by that name, but this node has no credentials for
	// it and gets it from peers only.
	FromPeers bool
	// File says that Digest is a name that store.File made, or the digest of a file: Origin is where its URL is known.
	File bool
	// Private keeps seeds out of it: only nodes whose clients want the blob too read it from the origin. Without
	// Authorization that is all; the name stays.
	Private bool
	Class   swarm.Class
	// Granted says that the origin has said yes to whoever asks, so that what lies on the store's shelf may be served by
	// this name from now on.
	Granted bool
	// Off and End are the bytes that are wanted, or wanted first, of which Open waits for some; an End of 0 is the end.
	// A reader of such a part may have the blob's last piece, by whose word it came, while others are missing.
	Off, End int64
	// Sparse: what readers do not cover stays where it is, unless another want is not sparse. It needs Size.
	Sparse bool

	stored bool // by Fetch: of no use unless it is on disk
}

// part reports whether less than the whole is wanted.
func (w Want) part() bool { return w.Off > 0 || w.End > 0 }

// scoped reports whether the blob goes by its private name.
func (w Want) scoped() bool { return w.FromPeers || w.Authorization != "" }

// end is End as the core has it.
func (w Want) end() int64 {
	if w.End == 0 {
		return -1
	}
	return w.End
}

// Handle is an open blob: of known size, with its bytes on disk or on their way. It keeps the blob from eviction.
type Handle struct {
	x    *Exchange
	s    *session    // nil if the blob was complete at Open
	blob *store.Blob // of a complete blob; nil for the empty blob
	size int64
	want Want // without its credentials

	mu     sync.Mutex
	waiter uint64 // stands for the client at the core until its first reader; 0: none
	closed bool
}

// Open finds a blob on disk, joins the fetch that is under way, or begins one. It returns once the size is known
// and bytes can be expected: some have come, or the origin has answered; a blob of one piece is there by then. One whose
// length the origin does not tell may take as long as some node takes to read it.
// Otherwise it fails as the fetch does, with ErrBusy if too many wait, with ErrNoProvider after Config.OpenTimeout, or with
// ctx, which does not stop the fetch. A private blob has to have a sha256
// digest (store.ErrUnsupported). The name of a private blob is no digest that a caller may ask for, and that of a file only
// one that says so: names that clients bring never open them.
func (x *Exchange) Open(ctx context.Context, w Want) (*Handle, error) {
	began := time.Now()
	for again := true; ; again = false {
		h, err := x.enter(w)
		if err != nil || h.s == nil {
			return h, err
		}
		if err = h.await(ctx, began); err == nil {
			return h, nil
		}
		_ = h.Close()
		if !again || !errors.Is(err, store.ErrNoSpace) { // else it was joined as it failed a Fetch, which has no use for memory
			return nil, fmt.Errorf("open %s: %w", w.Digest, err)
		}
	}
}

// enter finds a blob on disk, or joins or begins its fetch.
func (x *Exchange) enter(w Want) (*Handle, error) {
	if err := w.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("open %q: %w: %w", w.Digest, ErrInvalidDigest, err)
	}
	if _, scoped := store.Content(w.Digest); scoped || store.IsFile(w.Digest) && !w.File {
		return nil, fmt.Errorf("open %q: %w", w.Digest, ErrInvalidDigest)
	}
	if w.Size > swarm.MaxBlobSize {
		return nil, fmt.Errorf("open %s: %d bytes: %w", w.Digest, w.Size, ErrTooLarge)
	}
	if w.Digest == w.Digest.Algorithm().FromBytes(nil) {
		return &Handle{x: x}, nil
	}
	if h, err := x.openComplete(w.Digest); !errors.Is(err, store.ErrNotFound) {
		return h, err
	}
	name := w.Digest
	if w.scoped() {
		id, err := store.Scoped(w.Origin.Registry, w.Digest)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", w.Digest, err)
		}
		w.Digest = id
		if h, err := x.openComplete(id); !errors.Is(err, store.ErrNotFound) {
			return h, err
		}
		if w.Authorization == "" {
			w.Origin = swarm.OriginRef{}
		}
	}
	if w.Granted && x.store.Adopt(w.Digest) == nil {
		x.announce(announcement{digest: w.Digest, holding: true, global: x.cfg.Seed})
		if h, err := x.openComplete(w.Digest); !errors.Is(err, store.ErrNotFound) {
			return h, err
		}
	}
	h, err := x.joinOne(w)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return h, nil
}

// Stat returns the size of a public blob that is complete on disk.
func (x *Exchange) Stat(d digest.Digest) (size int64, ok bool) {
	if d.Validate() != nil {
		return 0, false
	}
	if _, scoped := store.Content(d); scoped || store.IsFile(d) {
		return 0, false
	}
	if d == d.Algorithm().FromBytes(nil) {
		return 0, true
	}
	info, err := x.store.Stat(d)
	if err != nil || !info.Complete {
		return 0, false
	}
	return info.Size, true
}

func (x *Exchange) openComplete(d digest.Digest) (*Handle, error) {
	b, err := x.store.Get(d)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", d, err)
	}
	return &Handle{x: x, blob: b, size: b.Size()}, nil
}

// joinOne is join within Config.MaxWaiting.
func (x *Exchange) joinOne(w Want) (*Handle, error) {
	if x.waiting.Add(1) > int64(x.cfg.MaxWaiting) {
		x.waiting.Add(-1)
		return nil, ErrBusy
	}
	h, err := x.join(w)
	if err != nil || h.s == nil {
		x.waiting.Add(-1)
	}
	return h, err
}

// join adds a want to the digest's session, or opens the blob if it has become complete meanwhile.
func (x *Exchange) join(w Want) (*Handle, error) {
	s := x.sessionFor(w.Digest)
	if s == nil {
		return nil, ErrClosed
	}
	// The session that was before may have ended, with the blob, between the look at the disk and now.
	if h, err := x.openComplete(w.Digest); err == nil {
		x.dropUnused(s)
		return h, nil
	}
	s.mu.Lock()
	for s.retired && s.phase != failed {
		changed := s.changed
		s.mu.Unlock()
		<-changed
		s.mu.Lock()
	}
	if s.retired {
		s.mu.Unlock()
		return x.join(w) // it is out of the table by now
	}
	if s.refs == 0 {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	s.sleeping = false
	s.refs++
	s.lastRead++
	h := &Handle{x: x, s: s, waiter: s.lastRead, want: w}
	h.want.Authorization = ""
	if !w.stored {
		s.clients++
	}
	s.class = max(s.class, w.Class)
	if !w.Origin.Zero() {
		s.origin = w.Origin
		s.credentials[w.Origin] = w.Authorization
	}
	s.mu.Unlock()
	x.post(swarm.Wanted{
		Digest: w.Digest, Size: max(w.Size, -1), Origin: w.Origin, Class: w.Class,
		Private: w.Private || w.scoped(), Sparse: w.Sparse,
	})
	x.post(swarm.Reading{Digest: w.Digest, Reader: h.waiter, Off: w.Off, End: w.end()})
	return h, nil
}

// dropUnused removes a session that was just made and that nobody uses.
func (x *Exchange) dropUnused(s *session) {
	s.mu.Lock()
	unused := s.phase == opening && s.refs == 1 && s.part == nil
	s.mu.Unlock()
	if unused {
		x.finish(s)
	}
}

// await returns once the blob's size is known and bytes can be expected. It gives up after Config.OpenTimeout, counted from
// began or from the last sign of bytes to come.
func (h *Handle) await(ctx context.Context, began time.Time) error {
	s, most := h.s, h.x.cfg.OpenTimeout
	patience := time.NewTimer(time.Until(began.Add(most)))
	defer patience.Stop()
	for {
		s.mu.Lock()
		ready := s.phase == filling && (s.layout.Pieces() > 1 || s.unkept.on) && (s.flowing || h.begun()) || s.phase == verified
		err, changed := s.err, s.changed
		h.size = s.size
		s.mu.Unlock()
		switch {
		case err != nil:
			return err
		case ready:
			return nil
		}
		select {
		case <-changed:
		case <-patience.C:
			left := time.Until(s.lastSign().Add(most))
			if left <= 0 {
				return fmt.Errorf("%w in %v", ErrNoProvider, most)
			}
			patience.Reset(left)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// begun reports whether the first bytes of a wanted part are here. The caller holds s.mu.
func (h *Handle) begun() bool {
	return h.want.part() && h.want.Off < h.s.size && h.s.readable(h.want.Off, h.want.Off+1, true) > h.want.Off
}

// Size returns the blob's size in bytes.
func (h *Handle) Size() int64 { return h.size }

// Reader returns a reader of n bytes from off; n < 0 is to the end. Close it before the handle.
func (h *Handle) Reader(off, n int64) (*Reader, error) {
	if n < 0 {
		n = h.size - off
	}
	if off < 0 || n < 0 || n > h.size-off {
		return nil, fmt.Errorf("read %d bytes from %d of %d: %w", n, off, h.size, ErrRange)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrReaderClosed
	}
	r := &Reader{x: h.x, s: h.s, blob: h.blob, size: h.size, from: off, off: off, end: off + n, part: h.want.part(), closed: make(chan struct{})}
	if h.s != nil {
		r.register()
		h.dropWaiter()
		return r, nil
	}
	if h.blob != nil {
		f, err := h.blob.OpenFile()
		if err != nil {
			return nil, err
		}
		r.file = f
	}
	return r, nil
}

// dropWaiter ends the stand-in at the core. The caller holds h.mu.
func (h *Handle) dropWaiter() {
	if h.waiter != 0 {
		h.x.post(swarm.ReadClosed{Digest: h.s.digest, Reader: h.waiter})
		h.waiter = 0
	}
}

// Close gives the blob back. The fetch goes on for others.
func (h *Handle) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	if h.s != nil {
		h.dropWaiter()
		if !h.want.stored {
			h.s.left()
		}
		h.x.release(h.s)
		h.x.waiting.Add(-1)
	}
	if h.blob != nil {
		return h.blob.Close()
	}
	return nil
}

// left notes that a client is gone.
func (s *session) left() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients--
}

// openAt opens the session's file for a reader; it fails if there is none yet.
func (s *session) openAt(off int64) (*os.File, error) {
	f, err := s.openFile()
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// openFile opens the blob, or the partial that becomes it. Neither is closed while s.mu is held.
func (s *session) openFile() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.blob != nil:
		return s.blob.OpenFile()
	case s.part != nil:
		return s.part.OpenFile()
	case s.storeErr != nil:
		return nil, s.storeErr
	}
	return nil, errMoved
}
