package exchange

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
)

// sendSize bounds what goes to a client in one call, so that a caller that watches progress sees some.
const sendSize = 1 << 20

// errMoved says that the session's file is being replaced: look again.
var errMoved = errors.New("file is being replaced")

// Reader reads a range of a blob, waiting for bytes that are on their way. One goroutine reads; any may Close.
type Reader struct {
	x    *Exchange
	s    *session    // nil: the blob was complete at Open
	blob *store.Blob // of a complete blob
	size int64
	id   uint64

	from     int64 // off at the start
	off, end int64
	whole    whole // of a blob that is not kept
	moved    bool  // the file is not at the offset
	part     bool  // it was asked for as a part: see Want
	ready    int64 // bytes below it may be read
	piece    int64 // bytes of a piece
	told     int64 // the offset that the core was told last
	gen      int   // of the bytes read so far
	given    bool  // some were

	fileMu sync.Mutex
	file   *os.File
	over   bool

	closing sync.Once
	closed  chan struct{}
	read    atomic.Int64
}

// register makes a reader of a session known to the core.
func (r *Reader) register() {
	r.s.mu.Lock()
	r.s.lastRead++
	r.s.readers++
	r.id = r.s.lastRead
	r.s.mu.Unlock()
	r.told = r.off
	r.x.post(swarm.Reading{Digest: r.s.digest, Reader: r.id, Off: r.off, End: r.end})
}

// Read waits for bytes and returns what is there, up to len(p).
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, src, err := r.next(int64(len(p)))
	if err != nil {
		return 0, err
	}
	m, err := src.Read(p[:n])
	if err = r.advance(int64(m), err); err != nil {
		return m, err
	}
	return m, nil
}

// WriteTo writes the rest of the range to w as it comes. Sockets, and http.ResponseWriter on top of one, get it by
// sendfile. An error says that the range did not end: the caller must not let the client believe that it did.
func (r *Reader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		n, src, err := r.next(sendSize)
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		m, err := io.CopyN(w, src, n)
		written += m
		if err = r.advance(m, err); err != nil {
			return written, err
		}
	}
}

// next waits until at least one byte at the offset may be read, and returns how many at most limit, and the file
// positioned there or, of a blob that is not kept, the bytes. io.EOF at the end of the range.
func (r *Reader) next(limit int64) (int64, io.Reader, error) {
	select {
	case <-r.closed:
		return 0, nil, ErrReaderClosed
	default:
	}
	if r.off >= r.end {
		return 0, nil, io.EOF
	}
	for {
		if err := r.await(); err != nil {
			return 0, nil, err
		}
		if n, src, err := r.nextUnkept(limit); n > 0 || err != nil && err != errMoved {
			return n, src, err
		} else if err == nil {
			break
		}
	}
	n := min(limit, r.ready-r.off)
	if r.blob != nil {
		if err := r.blob.Check(r.off, n); err != nil {
			return 0, nil, err
		}
	}
	f, err := r.open()
	return n, f, err
}

// advance counts what was read.
func (r *Reader) advance(n int64, err error) error {
	r.off += n
	if n > 0 {
		r.given = true
		r.read.Add(n)
		r.x.accounts.clients.Add(n)
		if r.s == nil {
			r.x.accounts.in.disk.Add(n)
		}
	}
	if err != nil && r.isClosed() {
		return ErrReaderClosed
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *Reader) isClosed() bool {
	select {
	case <-r.closed:
		return true
	default:
		return false
	}
}

// await waits until the byte at the offset may be read.
func (r *Reader) await() error {
	if r.s == nil {
		r.ready = r.end
		return nil
	}
	for {
		changed, err := r.look()
		if changed == nil || err != nil {
			return err
		}
		r.tell(true)
		select {
		case <-changed:
		case <-r.closed:
			return ErrReaderClosed
		}
	}
}

// look sets ready from the session's state. If the byte at the offset is not there, it returns what to wait for.
func (r *Reader) look() (<-chan struct{}, error) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == failed {
		return nil, s.err
	}
	if s.size != r.size {
		return nil, fmt.Errorf("read %s: %d bytes, now %d: %w", s.digest, r.size, s.size, ErrSize)
	}
	if s.gen != r.gen {
		if r.given {
			return nil, fmt.Errorf("read %s: %w", s.digest, ErrRestarted)
		}
		r.gen, r.whole = s.gen, whole{}
		r.dropFile()
	}
	r.piece = s.layout.PieceSize
	if r.ready = s.readable(r.off, r.end, r.part); r.ready > r.off {
		return nil, nil
	}
	return s.changed, nil
}

// doubtedSize bounds the blobs, in bytes, that are given out only once they are proven after they were wrong once. A client
// that waits for more would give up before.
const doubtedSize = 64 << 20

// readable returns the end of the run of bytes from off that a local reader may have. The last piece is held back
// until the whole is verified, from the reader of a part only if the whole is here. Of a blob that was wrong once all is:
// what is given out cannot be taken back, and the client that comes again is to succeed. The caller holds s.mu.
func (s *session) readable(off, end int64, part bool) int64 {
	if s.phase == verified {
		return end
	}
	if s.phase != filling || s.doubted && !part && !s.unkept.on && s.size <= doubtedSize {
		return off
	}
	ready := off
	last := swarm.PieceIndex(s.layout.Pieces() - 1)
	if part && s.held < s.layout.Pieces() || s.unkept.on {
		last++
	}
	// A few pieces ahead are enough: the reader looks again.
	for i := s.layout.Piece(off); ready < end && i < last && s.have.Has(i) && ready < off+4*s.layout.PieceSize; i++ {
		start, n := s.layout.Span(i)
		ready = start + n
	}
	return min(ready, end)
}

// tell keeps the core informed of the offset, once per piece. A blocked reader waits for room in the inbox; one
// that only passes by does not.
func (r *Reader) tell(blocked bool) {
	if r.off == r.told && r.given {
		return
	}
	ev := swarm.Reading{Digest: r.s.digest, Reader: r.id, Off: r.off, End: r.end}
	if blocked {
		r.x.post(ev)
	} else if !r.x.tryPost(ev) {
		return
	}
	r.told = r.off
}

// open returns the reader's own descriptor, positioned at the offset.
func (r *Reader) open() (*os.File, error) {
	r.fileMu.Lock()
	f, over := r.file, r.over
	r.fileMu.Unlock()
	if over {
		return nil, ErrReaderClosed
	}
	if r.s == nil {
		if !r.given && r.off > 0 {
			_, err := f.Seek(r.off, io.SeekStart)
			return f, err
		}
		return f, nil
	}
	if r.off-r.told >= r.piece {
		r.tell(false)
	}
	if f != nil && r.moved {
		r.moved = false
		_, err := f.Seek(r.off, io.SeekStart)
		return f, err
	}
	if f != nil {
		return f, nil
	}
	r.moved = false
	f, err := r.s.openAt(r.off)
	if err != nil {
		return nil, err
	}
	r.fileMu.Lock()
	defer r.fileMu.Unlock()
	if r.over {
		_ = f.Close()
		return nil, ErrReaderClosed
	}
	r.file = f
	return f, nil
}

// dropFile closes the descriptor of a file that is no longer the session's.
func (r *Reader) dropFile() {
	r.fileMu.Lock()
	defer r.fileMu.Unlock()
	if r.file != nil {
		_ = r.file.Close()
		r.file = nil
	}
}

// Close ends the reader and whatever read is blocked in it. The fetch goes on for others.
func (r *Reader) Close() error {
	r.closing.Do(func() {
		close(r.closed)
		r.fileMu.Lock()
		r.over = true
		r.fileMu.Unlock()
		r.dropFile()
		if r.s != nil {
			r.s.mu.Lock()
			r.s.readers--
			r.s.mu.Unlock()
			r.x.post(swarm.ReadClosed{Digest: r.s.digest, Reader: r.id})
		}
	})
	return nil
}
