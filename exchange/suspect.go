package exchange

import (
	"bytes"
	"crypto/sha256"
	"io"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
)

// A blob that was proven as a whole, and that the disk then failed to make durable, is in an odd place: its bytes can mostly
// still be read, for they are in the page cache, but a kernel that could not write a page may have thrown it away. So its readers
// get each piece only after it was hashed once more, and what is lost comes again from the mesh.

// maxSalvaged is how many pieces of such a blob are in memory, besides its window.
const maxSalvaged = 2

// suspect is such a blob of a session. Guarded by session.mu, but for proven, which never changes.
type suspect struct {
	proven   []store.Hash // of all pieces
	salvaged map[swarm.PieceIndex][]byte
}

func newSuspect(p *store.Partial) *suspect {
	u := &suspect{proven: make([]store.Hash, p.Pieces()), salvaged: make(map[swarm.PieceIndex][]byte)}
	for i := range u.proven {
		u.proven[i] = p.Hash(i)
	}
	return u
}

// nextSuspect is nextUnkept for piece i on such a disk, and n bytes at most. What it returns is a copy, and short: a client that
// reads slowly holds no more.
func (r *Reader) nextSuspect(i swarm.PieceIndex, n int64) (int64, io.Reader, error) {
	data := r.x.salvage(r.s, i)
	if data == nil {
		return 0, nil, errMoved
	}
	n = min(n, chunkSize)
	at := r.off % r.piece
	return n, r.inMemory(bytes.Clone(data[at : at+n])), nil
}

// salvage returns piece i as it was proven, or nil if the disk has lost it: it is on its way again then.
func (x *Exchange) salvage(s *session, i swarm.PieceIndex) []byte {
	s.mu.Lock()
	p, u := s.part, s.unkept.suspect
	if u == nil || p == nil {
		s.mu.Unlock()
		return nil
	}
	data := u.salvaged[i]
	off, n := s.layout.Span(i)
	s.mu.Unlock()
	if data != nil {
		return data
	}
	data = make([]byte, n)
	if m, err := p.ReadAt(data, off); int64(m) < n || store.Hash(sha256.Sum256(data)) != u.proven[i] {
		x.lose(s, i, err)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for j := range u.salvaged {
		if len(u.salvaged) < maxSalvaged {
			break
		}
		delete(u.salvaged, j)
	}
	u.salvaged[i] = data
	return data
}

// lose has a piece that the disk has lost brought in again.
func (x *Exchange) lose(s *session, i swarm.PieceIndex, err error) {
	s.mu.Lock()
	u := &s.unkept
	if !u.on || !s.have.Has(i) || u.held[i] != nil {
		s.mu.Unlock()
		return // somebody else has noticed
	}
	s.have.Clear(i)
	s.held--
	s.signal()
	s.mu.Unlock()
	log.Warnw("the disk has lost a piece that it was given, it is fetched again", "blob", s.digest, "piece", i, "err", err)
	x.tellUnkept(s)
}

// proveAgain is prove for a piece that came again and ends at end: the whole was proven, and this piece is to be what it was.
func (r *Reader) proveAgain(data []byte, end int64, want store.Hash) error {
	if r.whole.to >= end {
		return nil
	}
	if store.Hash(sha256.Sum256(data)) != want {
		return r.restart()
	}
	r.whole.to = end
	return nil
}
