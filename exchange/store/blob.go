package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
)

// Blob is a complete blob in use: it stays until Close.
type Blob struct {
	s         *Store
	e         *entry
	f         *os.File
	ledger    *ledger
	mediaType string
	closed    atomic.Bool
}

// Get returns a complete blob and counts as its use. ErrNotFound if it is not here, or not complete.
func (s *Store) Get(d digest.Digest) (*Blob, error) {
	if err := s.enter(); err != nil {
		return nil, fmt.Errorf("store: get %s: %w", d, err)
	}
	defer s.ops.Done()
	s.mu.Lock()
	e := s.entries[d]
	if e == nil || e.state != stateComplete {
		s.mu.Unlock()
		return nil, fmt.Errorf("store: get %s: %w", d, ErrNotFound)
	}
	e.refs++
	e.used = s.now()
	used, stamp := e.used, e.used.Sub(e.stamped) > stampEvery
	if stamp {
		e.stamped = used
	}
	s.mu.Unlock()
	b, err := s.openBlob(e)
	if err != nil {
		s.unref(e)
		return nil, fmt.Errorf("store: get %s: %w", d, err)
	}
	if stamp {
		_ = os.Chtimes(s.paths.meta(d), time.Time{}, used) // LRU after a restart is a little off at worst
	}
	return b, nil
}

func (s *Store) unref(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.refs--
}

// openBlob opens the file of an entry that is in use.
func (s *Store) openBlob(e *entry) (*Blob, error) {
	f, err := os.Open(s.dataOf(e))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			s.lose(e, err)
			return nil, ErrNotFound
		}
		return nil, err
	}
	l, err := s.ledgerOf(e, f)
	if err != nil {
		_ = f.Close()
		if errors.Is(err, ErrCorrupt) {
			s.lose(e, err)
			return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
		}
		return nil, err
	}
	s.mu.Lock()
	mediaType := e.mediaType
	s.mu.Unlock()
	return &Blob{s: s, e: e, f: f, ledger: l, mediaType: mediaType}, nil
}

// ledgerOf returns the entry's ledger: the one at hand, the sidecar's, or one computed from the data.
func (s *Store) ledgerOf(e *entry, f *os.File) (*ledger, error) {
	e.load.Lock()
	defer e.load.Unlock()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() != e.layout.size {
		return nil, fmt.Errorf("%d bytes in place of %d: %w", info.Size(), e.layout.size, ErrCorrupt)
	}
	if e.ledger != nil {
		e.ledger.refresh(info, s.now(), s.cfg.Recheck)
		return e.ledger, nil
	}
	side, err := s.readSidecar(e.digest)
	if err == nil && side.layout.size == info.Size() && s.accepts(side.layout) {
		e.ledger = newLedger(side, info, s.now(), false)
		return e.ledger, nil
	}
	log.Warnw("sidecar computed again", "blob", e.digest, "err", err)
	side, err = s.computeSidecar(e, f)
	if err != nil {
		return nil, err
	}
	if err := s.writeSidecar(e.digest, side, false); err != nil {
		log.Warnw("sidecar not written", "blob", e.digest, "err", err)
	}
	s.mu.Lock()
	e.layout = side.layout
	s.mu.Unlock()
	e.ledger = newLedger(side, info, s.now(), true)
	return e.ledger, nil
}

// accepts reports whether a layout is the one that a blob of its size should have.
func (s *Store) accepts(l layout) bool { return !s.strict || l.pieceSize == s.cfg.PieceSize(l.size) }

// Digest returns the blob's name.
func (b *Blob) Digest() digest.Digest { return b.e.digest }

// Size returns the blob's length in bytes.
func (b *Blob) Size() int64 { return b.ledger.layout.size }

// PieceSize returns the length of all pieces but the last, in bytes.
func (b *Blob) PieceSize() int64 { return b.ledger.layout.pieceSize }

// Pieces returns the number of pieces.
func (b *Blob) Pieces() int { return len(b.ledger.hashes) }

// Hash returns the SHA-256 of piece i, zero for an index out of range.
func (b *Blob) Hash(i int) Hash {
	if i < 0 || i >= len(b.ledger.hashes) {
		return Hash{}
	}
	return b.ledger.hashes[i]
}

// MediaType returns what was given to Put, or "".
func (b *Blob) MediaType() string { return b.mediaType }

// Check makes sure that the n bytes from off are what they should be: pieces that this process has not hashed
// yet, or not lately, are hashed (about 0.65 ms for each MiB); others cost nothing. After ErrCorrupt the blob has left the
// store, but for what is right of it. Readers of an OpenFile descriptor call it before they send a range; ReadAt does so itself.
func (b *Blob) Check(off, n int64) error {
	size := b.Size()
	if off < 0 || n < 0 || off > size {
		return fmt.Errorf("store: check %s: %d bytes at %d: %w", b.e.digest, n, off, ErrInvalid)
	}
	if b.closed.Load() {
		return fmt.Errorf("store: check %s: %w", b.e.digest, ErrClosed)
	}
	err := b.ledger.prove(b.f, off, min(n, size-off))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrClosed):
		return fmt.Errorf("store: check %s: %w", b.e.digest, ErrClosed)
	case !errors.Is(err, ErrCorrupt): // cut short, or the disk cannot read it
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	b.s.rot(b.e, b.ledger, err)
	return fmt.Errorf("store: check %s: %w", b.e.digest, err)
}

// ReadAt implements io.ReaderAt. It returns only bytes that passed Check.
func (b *Blob) ReadAt(p []byte, off int64) (int, error) {
	size := b.Size()
	if off >= size {
		if b.closed.Load() {
			return 0, fmt.Errorf("store: read %s: %w", b.e.digest, ErrClosed)
		}
		return 0, io.EOF
	}
	if err := b.Check(off, int64(len(p))); err != nil {
		return 0, err
	}
	n, err := b.f.ReadAt(p, off)
	if errors.Is(err, os.ErrClosed) {
		err = fmt.Errorf("store: read %s: %w", b.e.digest, ErrClosed)
	}
	return n, err
}

// OpenFile returns a descriptor of the caller's own, at offset 0, for sendfile. The caller closes it; it may outlive
// the Blob. Bytes are proven only where Check said so.
func (b *Blob) OpenFile() (*os.File, error) {
	if b.closed.Load() {
		return nil, fmt.Errorf("store: open %s: %w", b.e.digest, ErrClosed)
	}
	f, err := reopen(b.f, b.s.dataOf(b.e))
	if err == nil && b.ledger.isRotten() {
		_ = f.Close()
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w", b.e.digest, err)
	}
	return f, nil
}

// Close ends the use. A second Close does nothing.
func (b *Blob) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	b.s.unref(b.e)
	return b.f.Close()
}

// reopen opens whichever of names is the very file that like has open. ErrNotFound if none is any more.
func reopen(like interface{ Stat() (fs.FileInfo, error) }, names ...string) (*os.File, error) {
	want, err := like.Stat()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if got, err := f.Stat(); err == nil && os.SameFile(want, got) {
			return f, nil
		}
		_ = f.Close()
	}
	return nil, ErrNotFound
}
