package exchange

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
)

// session is one blob on its way into the store: single flight by digest. It begins with the first local want or
// the core's first action for the digest, and ends with Verified or GiveUp.
type session struct {
	digest  digest.Digest
	after   *session      // the one before it, whose partial must be closed first; nil if there is none
	gone    chan struct{} // closed once its partial is
	end     sync.Once
	started time.Time

	storeOps serial         // Begin, Verify, Reset, Close, in the order in which the core asked
	work     sync.WaitGroup // transfers that may write pieces
	writing  sync.RWMutex   // read: a piece is being written; write: all pieces are being dropped
	in       account

	mu       sync.Mutex
	phase    phase
	err      error // why it failed
	storeErr error
	size     int64 // -1 while unknown
	layout   swarm.Layout
	part     *store.Partial
	blob     *store.Blob // in use until the last reference goes
	file     *os.File    // for uploads; closed with the last reference
	have     swarm.Bitmap
	held     int // pieces in have
	busy     map[swarm.PieceIndex]chan struct{}
	gen      int           // counts Discards: readers and writers of an older one are wrong
	resets   int           // Discards that the store has yet to follow: no piece is written meanwhile
	flowing  bool          // bytes came, or the origin says that they will
	changed  chan struct{} // closed at the next change
	refs     int           // handles, uploads under way, and the session itself until it ended
	class    swarm.Class
	readers  int
	lastRead uint64 // reader ids

	origin      swarm.OriginRef
	credentials map[swarm.OriginRef]string // of local clients, by where they asked; presence is a local want
	originErr   error
	refused     *RefusedError
	distrusted  map[swarm.PeerID]bool
}

// phase is where a session stands, as its readers see it.
type phase uint8

const (
	opening  phase = iota // no room in the store yet
	filling               // pieces come
	verified              // the digest matches: every byte may be read
	failed
)

func newSession(d digest.Digest, after *session) *session {
	return &session{
		digest: d, after: after, gone: make(chan struct{}), started: time.Now(),
		size: -1, refs: 1,
		busy:        make(map[swarm.PieceIndex]chan struct{}),
		changed:     make(chan struct{}),
		credentials: make(map[swarm.OriginRef]string),
		distrusted:  make(map[swarm.PeerID]bool),
	}
}

// session returns the session of a digest, nil if there is none.
func (x *Exchange) session(d digest.Digest) *session {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.sessions[d]
}

// sessionFor returns the session of a digest and makes it if there is none; nil after stopping has begun.
func (x *Exchange) sessionFor(d digest.Digest) *session {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.sessionLocked(d)
}

func (x *Exchange) sessionLocked(d digest.Digest) *session {
	s := x.sessions[d]
	if s == nil && !x.stopped {
		s = newSession(d, x.leaving[d])
		x.sessions[d] = s
	}
	return s
}

// signal wakes all who wait for a change. The caller holds s.mu.
func (s *session) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// openBlob has the store make room, and tells the core what an earlier run left.
func (x *Exchange) openBlob(a swarm.OpenBlob) {
	s := x.sessionFor(a.Digest)
	if s == nil {
		return
	}
	x.later(s, func() {
		have, err := x.begin(s, a.Size)
		if errors.Is(err, store.ErrComplete) && x.adopt(s) {
			x.post(swarm.Held{Digest: a.Digest, Size: s.size, Have: swarm.FullBitmap(s.layout.Pieces())})
			return
		}
		if err != nil {
			x.storeFailed(s, fmt.Errorf("make room for %s: %w", a.Digest, err))
			return
		}
		x.post(swarm.Held{Digest: a.Digest, Size: a.Size, Have: have})
	})
}

// later runs a store operation of a session after those before it.
func (x *Exchange) later(s *session, f func()) {
	s.storeOps.do(func(run func()) bool { return x.spawn(run) }, f)
}

// begin opens the partial of a session for a size and returns the pieces that are there already.
func (x *Exchange) begin(s *session, size int64) (swarm.Bitmap, error) {
	if s.after != nil {
		<-s.after.gone
		s.after = nil
	}
	if err := s.dropOtherSize(size); err != nil {
		return swarm.Bitmap{}, err
	}
	s.mu.Lock()
	open := s.part != nil
	s.mu.Unlock()
	if !open {
		if err := s.beginPartial(x.store, size); err != nil {
			return swarm.Bitmap{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have.Clone(), nil
}

// adopt ends a session whose blob came into the store by another way.
func (x *Exchange) adopt(s *session) bool {
	blob, err := x.store.Get(s.digest)
	if err != nil {
		return false
	}
	f, err := blob.OpenFile()
	if err != nil {
		_ = blob.Close()
		return false
	}
	s.mu.Lock()
	s.blob, s.file = blob, f
	s.size, s.layout = blob.Size(), swarm.LayoutOf(blob.Size())
	s.have = swarm.FullBitmap(s.layout.Pieces())
	s.held = s.have.Len()
	s.phase = verified
	s.signal()
	s.mu.Unlock()
	x.finish(s)
	return true
}

// dropOtherSize gives up the partial if the size that was believed turned out wrong.
func (s *session) dropOtherSize(size int64) error {
	s.mu.Lock()
	p := s.part
	if p == nil || s.size == size {
		s.mu.Unlock()
		return nil
	}
	s.part, s.phase = nil, opening
	s.gen++
	s.closeFile()
	s.signal()
	s.mu.Unlock()
	s.writing.Lock() // wait for writes under way
	defer s.writing.Unlock()
	return p.Discard()
}

func (s *session) beginPartial(st *store.Store, size int64) error {
	l := swarm.LayoutOf(size)
	p, err := st.Begin(s.digest, size, l.PieceSize)
	if err != nil {
		return err
	}
	f, err := p.OpenFile()
	if err != nil {
		_ = p.Close()
		return err
	}
	have := swarm.NewBitmap(l.Pieces())
	for i := range l.Pieces() {
		if p.Have(i) {
			have.Set(swarm.PieceIndex(i))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part, s.file, s.size, s.layout = p, f, size, l
	s.have, s.held = have, have.Count()
	if s.phase == opening {
		s.phase = filling
	}
	s.signal()
	return nil
}

// closeFile closes the shared descriptor. The caller holds s.mu.
func (s *session) closeFile() {
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
}

// storeFailed ends a session whose blob the store cannot take.
func (x *Exchange) storeFailed(s *session, err error) {
	log.Warnw("store failed", "blob", s.digest, "err", err)
	s.mu.Lock()
	if s.storeErr == nil {
		s.storeErr = err
	}
	s.mu.Unlock()
	x.post(swarm.OpenFailed{Digest: s.digest})
}

// keep stores a piece whose bytes match its attestation and wakes the readers. kept is false if the piece was
// here already or the session has moved on; an error is the store's.
func (s *session) keep(gen int, i swarm.PieceIndex, data []byte, a wire.Attestation) (kept bool, err error) {
	p := s.claimWrite(gen, i)
	if p == nil {
		return false, nil
	}
	s.writing.RLock()
	s.mu.Lock()
	current := s.gen == gen
	s.mu.Unlock()
	if current {
		err = p.WritePiece(int(i), data, store.Hash(a.Hash), a.Proof())
	}
	s.mu.Lock()
	if current = current && err == nil && s.gen == gen; current && !s.have.Has(i) {
		s.have.Set(i)
		s.held++
		s.flowing = true
		s.signal()
	}
	close(s.busy[i])
	delete(s.busy, i)
	s.mu.Unlock()
	s.writing.RUnlock()
	return current, err
}

// claimWrite makes the caller the only writer of a piece, after whoever writes it now. It returns nil if the piece
// is here, or there is nothing to write to.
func (s *session) claimWrite(gen int, i swarm.PieceIndex) *store.Partial {
	for {
		s.mu.Lock()
		if s.part == nil || s.phase != filling || s.gen != gen || s.have.Has(i) {
			s.mu.Unlock()
			return nil
		}
		other := s.busy[i]
		if s.resets > 0 {
			other = s.changed
		}
		if other == nil {
			s.busy[i] = make(chan struct{})
			p := s.part
			s.mu.Unlock()
			return p
		}
		s.mu.Unlock()
		<-other
	}
}

// verify checks the whole against its digest, lets readers have the last piece, and keeps the blob.
func (x *Exchange) verify(ctx context.Context, d digest.Digest) {
	s := x.session(d)
	if s == nil {
		if info, err := x.store.Stat(d); err == nil && info.Complete {
			x.pending = append(x.pending, swarm.Verified{Digest: d})
		}
		return
	}
	x.later(s, func() {
		s.mu.Lock()
		p := s.part
		s.mu.Unlock()
		if p == nil {
			return
		}
		err := p.Verify(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, store.ErrDigestMismatch):
			x.logMismatch(s)
			x.post(swarm.VerifyFailed{Digest: d})
			return
		case err != nil:
			x.storeFailed(s, fmt.Errorf("verify %s: %w", d, err))
			return
		}
		s.mu.Lock()
		s.phase = verified
		s.signal()
		s.mu.Unlock()
		x.commit(ctx, s, p)
	})
}

// commit makes a verified blob durable and ends its session. Readers go on with the bytes that they have proof of
// even if that fails.
func (x *Exchange) commit(ctx context.Context, s *session, p *store.Partial) {
	blob, err := p.Commit(ctx)
	if err != nil {
		x.storeFailed(s, fmt.Errorf("keep %s: %w", s.digest, err))
		return
	}
	s.mu.Lock()
	s.blob, s.part = blob, nil
	s.mu.Unlock()
	_ = p.Close()
	log.Infow("blob complete", "blob", s.digest, "bytes", s.size, "dur", time.Since(s.started))
	x.finish(s)
	x.post(swarm.Verified{Digest: s.digest})
}

// finish takes a session out of the tables, once: from now on the store alone answers for its digest.
func (x *Exchange) finish(s *session) {
	s.end.Do(func() {
		x.mu.Lock()
		if x.sessions[s.digest] == s {
			delete(x.sessions, s.digest)
		}
		if x.leaving[s.digest] == s {
			delete(x.leaving, s.digest)
		}
		x.mu.Unlock()
		close(s.gone)
		x.release(s)
	})
}

// logMismatch names the origin of a blob whose SHA-256 is wrong.
func (x *Exchange) logMismatch(s *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	log.Warnw("blob does not match its digest", "blob", s.digest, "bytes", s.size,
		"origin", s.origin.Registry+"/"+s.origin.Repository)
}

// discard drops all pieces of a session. Whoever read some of them fails; others read what comes next.
func (x *Exchange) discard(d digest.Digest) {
	s := x.session(d)
	if s == nil {
		return
	}
	s.mu.Lock()
	s.gen++
	if s.part != nil {
		s.have, s.held = swarm.NewBitmap(s.layout.Pieces()), 0
	}
	s.flowing = false
	s.resets++
	s.signal()
	s.mu.Unlock()
	x.later(s, func() {
		if err := s.reset(); err != nil {
			x.storeFailed(s, fmt.Errorf("drop pieces of %s: %w", d, err))
		}
	})
}

// reset has the store forget all pieces, and lets pieces be written again.
func (s *session) reset() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	p := s.part
	s.mu.Unlock()
	var err error
	if p != nil {
		err = p.Reset()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resets--
	s.signal()
	return err
}

// distrust has pieces refused that rest on an attester's word.
func (x *Exchange) distrust(d digest.Digest, attester swarm.PeerID) {
	if s := x.session(d); s != nil {
		s.mu.Lock()
		s.distrusted[attester] = true
		s.mu.Unlock()
	}
}

// giveUp ends a session as the core says.
func (x *Exchange) giveUp(a swarm.GiveUp) {
	if s := x.session(a.Digest); s != nil {
		err := s.reason(a.Reason)
		if a.Reason != swarm.GaveUpAbandoned {
			log.Warnw("blob given up", "blob", a.Digest, "origin", s.origin.Registry, "err", err)
		}
		x.endSession(s, err)
	}
}

// reason returns what readers are told.
func (s *session) reason(r swarm.GiveUpReason) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r {
	case swarm.GaveUpCorrupt:
		return &CorruptOriginError{Digest: s.digest, Origin: s.origin}
	case swarm.GaveUpStore:
		if s.storeErr != nil {
			return s.storeErr
		}
		return fmt.Errorf("keep %s: %w", s.digest, store.ErrNoSpace)
	case swarm.GaveUpAbandoned:
		return fmt.Errorf("%s: %w", s.digest, ErrAbandoned)
	}
	switch {
	case s.originErr != nil:
		return s.originErr
	case s.refused != nil:
		return s.refused
	}
	return fmt.Errorf("%s: %w", s.digest, ErrNoProvider)
}

// endSession fails the readers of a session, ends its transfers and closes its partial in the background.
func (x *Exchange) endSession(s *session, err error) {
	x.mu.Lock()
	if x.sessions[s.digest] != s {
		x.mu.Unlock()
		return
	}
	delete(x.sessions, s.digest)
	x.leaving[s.digest] = s
	for k, cancel := range x.transfer {
		if k.digest == s.digest {
			cancel(errCancelled)
			delete(x.transfer, k)
		}
	}
	for id, f := range x.fetches {
		if f.s == s {
			f.cancel(errCancelled)
			delete(x.fetches, id)
		}
	}
	x.mu.Unlock()
	s.mu.Lock()
	if s.phase != verified {
		s.phase, s.err = failed, err
		s.gen++
	}
	clear(s.credentials)
	s.signal()
	s.mu.Unlock()
	// Not by spawn: a session that ends while everything stops must be closed as well, and Run waits for it.
	s.storeOps.do(func(run func()) bool { x.workers.Go(run); return true }, func() { x.closeSession(s) })
}

// closeSession waits for a session's transfers and leaves its partial on disk.
func (x *Exchange) closeSession(s *session) {
	s.work.Wait()
	s.mu.Lock()
	p := s.part
	s.part = nil
	s.mu.Unlock()
	if p != nil {
		if err := p.Close(); err != nil {
			log.Warnw("partial not closed", "blob", s.digest, "err", err)
		}
	}
	x.finish(s)
}

// acquire takes a reference that keeps the session's files open. It fails if they are closed already.
func (s *session) acquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs == 0 {
		return false
	}
	s.refs++
	return true
}

// release gives a reference back; the last closes the files.
func (x *Exchange) release(s *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs--; s.refs > 0 {
		return
	}
	s.closeFile()
	if s.blob != nil {
		_ = s.blob.Close()
		s.blob = nil
	}
}

// serial runs functions one after another, in the order given, in a goroutine that exists while there is work.
type serial struct {
	mu    sync.Mutex
	queue []func()
	busy  bool
}

// do runs f after the functions before it. start is asked for a goroutine if none is at it; if it refuses, f is
// dropped.
func (q *serial) do(start func(run func()) bool, f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, f)
	if q.busy {
		return
	}
	if q.busy = start(q.run); !q.busy {
		q.queue = nil
	}
}

func (q *serial) run() {
	for {
		q.mu.Lock()
		if len(q.queue) == 0 {
			q.busy = false
			q.mu.Unlock()
			return
		}
		f := q.queue[0]
		q.queue = q.queue[1:]
		q.mu.Unlock()
		f()
	}
}
