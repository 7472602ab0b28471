package exchange

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
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
	told     int64 // size of which the core was told that it is open; -1: none
	layout   swarm.Layout
	part     *store.Partial
	blob     *store.Blob // in use until the last reference goes
	file     *os.File    // for uploads; closed with the last reference
	have     swarm.Bitmap
	unkept   unkept
	held     int // pieces in have
	busy     map[swarm.PieceIndex]chan struct{}
	gen      int           // counts Discards: readers and writers of an older one are wrong
	resets   int           // Discards that the store has yet to follow: no piece is written meanwhile
	doubted  bool          // the whole was wrong once: see readable
	flowing  bool          // bytes came, or the origin says that they will
	sign     time.Time     // the last that they will, while the size is unknown
	reader   swarm.PeerID  // that reads all of it then, as far as this node knows; "": none, or this one
	spooled  int64         // bytes that this node has read of it then
	changed  chan struct{} // closed at the next change
	refs     int           // handles, uploads under way, and the session itself until it ended
	class    swarm.Class
	readers  int
	clients  int    // handles of those who read: not of Fetch
	lastRead uint64 // reader ids

	origin      swarm.OriginRef
	credentials map[swarm.OriginRef]string // of local clients, by where they asked; presence is a local want
	failures    map[swarm.OriginRef]int    // fetches that failed
	sources     []swarm.OriginRef          // whose bytes are among the pieces
	originErr   error
	refused     *RefusedError
	distrusted  map[swarm.PeerID]bool
	wary        bool          // attesters have to be members
	suspects    []suspectWord // of a blob that proved wrong; at most maxSuspects

	// Of a partial that nobody wants here (dormant.go).
	sleeping bool // open for peers only
	fading   bool // about to be closed: not offered
	retired  bool // closed: who comes now opens another session
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
		size: -1, told: -1, refs: 1,
		busy:        make(map[swarm.PieceIndex]chan struct{}),
		changed:     make(chan struct{}),
		credentials: make(map[swarm.OriginRef]string),
		failures:    make(map[swarm.OriginRef]int),
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

// wanted ends the sleep of a session.
func (s *session) wanted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sleeping = false
}

// signal wakes all who wait for a change. The caller holds s.mu.
func (s *session) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// closeFile closes the shared descriptor. The caller holds s.mu.
func (s *session) closeFile() {
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
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
		x.forget(s)
		close(s.gone)
		x.release(s)
	})
}

// distrust has pieces refused that rest on an attester's word, or on strangers'.
func (x *Exchange) distrust(a swarm.Distrust) {
	if s := x.session(a.Digest); s != nil {
		s.mu.Lock()
		if a.Strangers {
			s.wary = true
		} else {
			s.distrusted[a.Attester] = true
		}
		s.mu.Unlock()
	}
}

// giveUp ends a session as the core says.
func (x *Exchange) giveUp(a swarm.GiveUp) {
	if s := x.session(a.Digest); s != nil {
		err := s.reason(a.Reason)
		if a.Reason != swarm.GaveUpAbandoned {
			log.Warnw("blob given up", "blob", a.Digest, "origin", s.blamed().Registry, "err", err)
		}
		x.endSession(s, err)
	}
}

// blamed returns the origin that answers for the blob's bytes: the first that sent some or, while all came from peers,
// the one that a client named.
func (s *session) blamed() swarm.OriginRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blamedLocked()
}

// blamedLocked is blamed for a caller that holds s.mu.
func (s *session) blamedLocked() swarm.OriginRef {
	if len(s.sources) > 0 {
		return s.sources[0]
	}
	return s.origin
}

// reason returns what readers are told.
func (s *session) reason(r swarm.GiveUpReason) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r {
	case swarm.GaveUpCorrupt:
		if store.IsFile(s.digest) {
			return fmt.Errorf("%s: %w", s.digest, ErrSealed)
		}
		return &CorruptOriginError{Digest: s.digest, Origin: s.blamedLocked()}
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
