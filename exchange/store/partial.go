package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
)

type pieceState uint8

const (
	pieceMissing pieceState = iota
	pieceWriting            // one WritePiece is at it
	pieceHeld
)

// piece is one piece of a Partial; hash and proof count while it is held.
type piece struct {
	state pieceState
	hash  Hash
	proof []byte
}

// phase is what may be done with a Partial.
type phase uint8

const (
	phaseOpen     phase = iota // pieces may be written
	phaseSeized                // Reset, Commit, Discard or Close has it for itself
	phaseComplete              // committed: it can be read, and closed
	phaseClosed
)

// Partial is a blob that is arriving. It is live, and as such never evicted, until Close.
type Partial struct {
	s       *Store
	e       *entry
	layout  layout
	data    file
	journal *journal
	hasher  *hasher
	flusher *flusher

	mu       sync.Mutex
	cond     sync.Cond // phase, writers or the state of a piece changed
	phase    phase
	writers  int   // WritePiece calls at work on the files
	broken   error // Commit failed where nobody knows what is on disk: only Close helps
	pieces   []piece
	held     int   // pieces held
	bytes    int64 // in them
	prefix   int   // pieces 0 to prefix-1 are held
	verified bool  // the whole matches the digest
}

func newPartial(s *Store, e *entry, data file, j *journal) *Partial {
	p := &Partial{
		s: s, e: e, layout: e.layout, data: data, journal: j,
		hasher:  newHasher(data, e.content().Algorithm().Hash, s.hashing),
		flusher: newFlusher(data),
		pieces:  make([]piece, e.layout.pieces()),
	}
	p.cond.L = &p.mu
	return p
}

// single reports whether the one piece's hash is the digest, so that nothing else has to be hashed.
func (p *Partial) single() bool {
	return len(p.pieces) == 1 && p.e.content().Algorithm() == digest.SHA256
}

// unhashed reports whether there is no digest of the whole to compute: see single and File.
func (p *Partial) unhashed() bool { return p.single() || IsFile(p.e.digest) }

func (p *Partial) wrap(op string, err error) error {
	if errors.Is(err, os.ErrClosed) {
		err = ErrClosed
	}
	return fmt.Errorf("store: %s %s: %w", op, p.e.digest, err)
}

// Digest returns the blob's name.
func (p *Partial) Digest() digest.Digest { return p.e.digest }

// Size returns the blob's length in bytes.
func (p *Partial) Size() int64 { return p.layout.size }

// PieceSize returns the length of all pieces but the last, in bytes.
func (p *Partial) PieceSize() int64 { return p.layout.pieceSize }

// Pieces returns the number of pieces.
func (p *Partial) Pieces() int { return len(p.pieces) }

// Held returns how many bytes are held, in whole pieces.
func (p *Partial) Held() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

// Have reports whether piece i is held: written, or resumed and hashed.
func (p *Partial) Have(i int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.has(i)
}

func (p *Partial) has(i int) bool {
	return i >= 0 && i < len(p.pieces) && p.pieces[i].state == pieceHeld
}

// Hash returns the SHA-256 of piece i, zero unless it is held.
func (p *Partial) Hash(i int) Hash {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.has(i) {
		return Hash{}
	}
	return p.pieces[i].hash
}

// Proof returns what was given to WritePiece with piece i, nil unless it is held. The caller must not change it.
func (p *Partial) Proof(i int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.has(i) {
		return nil
	}
	if len(p.pieces[i].proof) == 0 { // of a blob that was whole before
		return nil
	}
	return p.pieces[i].proof
}

// ReadAt implements io.ReaderAt over the pieces that are held; ErrIncomplete if the range touches another.
func (p *Partial) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, p.wrap("read", ErrInvalid)
	}
	if off >= p.layout.size {
		return 0, io.EOF
	}
	first, end := p.layout.cover(off, min(int64(len(b)), p.layout.size-off))
	p.mu.Lock()
	for i := first; i < end; i++ {
		if p.pieces[i].state != pieceHeld {
			p.mu.Unlock()
			return 0, p.wrap(fmt.Sprintf("read piece %d of", i), ErrIncomplete)
		}
	}
	p.mu.Unlock()
	n, err := p.data.ReadAt(b, off)
	if err != nil && err != io.EOF {
		return n, p.wrap("read", err)
	}
	return n, err
}

// OpenFile returns a read-only descriptor of the caller's own, at offset 0, for sendfile. It stays good across
// Commit, Discard and Close. The file has its full length from the start: only pieces that are held mean anything.
func (p *Partial) OpenFile() (*os.File, error) {
	p.mu.Lock()
	closed := p.phase == phaseClosed
	p.mu.Unlock()
	if closed {
		return nil, p.wrap("open", ErrClosed)
	}
	// Commit renames the one to the other, so one of them exists, looked up in this order.
	f, err := reopen(p.data, p.s.paths.partial(p.e.digest), p.s.paths.blob(p.e.digest))
	if err != nil {
		return nil, p.wrap("open", err)
	}
	return f, nil
}

// seize gives the caller the partial for itself: no write is under way, none starts until yield. ErrClosed after
// Close, ErrComplete after Commit.
func (p *Partial) seize() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.phase == phaseSeized {
		p.cond.Wait()
	}
	switch p.phase {
	case phaseClosed:
		return ErrClosed
	case phaseComplete:
		return ErrComplete
	}
	p.phase = phaseSeized
	for p.writers > 0 {
		p.cond.Wait()
	}
	return nil
}

// yield ends seize.
func (p *Partial) yield(next phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = next
	p.cond.Broadcast()
}

// Reset forgets all pieces, because the proof of some has failed, and keeps the room. It waits for writes under way.
func (p *Partial) Reset() error {
	if err := p.seize(); err != nil {
		return p.wrap("reset", err)
	}
	defer p.yield(phaseOpen)
	err := p.journal.Clear()
	p.hasher.Reset()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil { // the records would come back at the next Begin
		p.broken = err
		return p.wrap("reset", err)
	}
	clear(p.pieces)
	p.held, p.bytes, p.prefix, p.verified = 0, 0, 0, false
	return nil
}

// Close ends the work and keeps what is held for a later Begin; a partial that holds nothing is removed. It waits for
// writes under way. After Commit it only lets go of the descriptor. A second Close does nothing.
func (p *Partial) Close() error { return p.end(false) }

// Discard closes the partial and removes its files. After Commit it is Close.
func (p *Partial) Discard() error { return p.end(true) }

func (p *Partial) end(discard bool) error {
	switch err := p.seize(); {
	case errors.Is(err, ErrComplete):
		return p.part()
	case err != nil: // closed before
		return nil
	}
	p.hasher.Stop()
	p.flusher.Stop()
	err := errors.Join(p.data.Close(), p.journal.f.Close())
	p.mu.Lock()
	keep := !discard && p.broken == nil && p.held > 0
	held := p.bytes
	p.mu.Unlock()
	p.s.shelve(p.e, keep, held)
	p.yield(phaseClosed)
	if err != nil {
		return p.wrap("close", err)
	}
	return nil
}

// part closes a partial that is committed.
func (p *Partial) part() error {
	p.mu.Lock()
	first := p.phase == phaseComplete
	p.phase = phaseClosed
	p.mu.Unlock()
	if !first {
		return nil
	}
	p.s.parted(p.e)
	if err := p.data.Close(); err != nil {
		return p.wrap("close", err)
	}
	return nil
}

// shelve takes back the entry of a partial that is closed.
func (s *Store) shelve(e *entry, keep bool, held int64) {
	s.mu.Lock()
	e.partial, e.state, e.claimed, e.used = nil, statePartial, held, s.now()
	s.promised -= e.promised
	e.promised = 0
	s.mu.Unlock()
	if !keep {
		s.forget(e)
	}
}

// parted notes that the Partial of a complete entry is closed.
func (s *Store) parted(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.partial = nil
}
