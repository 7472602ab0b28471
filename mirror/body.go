package mirror

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// chunk bounds one write, and with it what a client has to accept within one
// write deadline. A sendfile of this size costs no more per byte than a long one.
const chunk = 1 << 20

// copySize is the buffer for sources that are no file.
const copySize = 128 << 10

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copySize); return &b }}

// errOverrun: a source gave more bytes than the client was promised.
var errOverrun = errors.New("blob is longer than its size")

// bodyWriter is the client's side of a blob. It commits the status line with the
// first byte, moves the write deadline on with each chunk, and never writes more
// than was promised. One goroutine uses it.
type bodyWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration // for one chunk
	commit  func()        // writes status and headers
	watch   *watch
	sent    *atomic.Int64 // bytes, for the statistics

	left      int64 // bytes still owed
	committed bool
	failed    error // first error of the client's side
}

// Write implements [io.Writer].
func (b *bodyWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, errOverrun
	}
	done := 0
	for done < len(p) {
		b.begin()
		n, err := b.w.Write(p[done:min(len(p), done+chunk)])
		done += n
		if err = b.end(int64(n), err); err != nil {
			return done, err
		}
	}
	return done, nil
}

// ReadFrom implements [io.ReaderFrom]. A file goes to the response writer's own
// ReadFrom, chunk by chunk, for sendfile. Any other source may block before its
// first byte and is read here, so that nothing is committed too early.
func (b *bodyWriter) ReadFrom(src io.Reader) (int64, error) {
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: src, N: b.left + 1}
	}
	if _, ok := limited.R.(*os.File); !ok {
		return b.copyFrom(limited)
	}
	return b.sendFile(limited)
}

func (b *bodyWriter) copyFrom(src io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(writerOnly{b}, readerOnly{src}, *buf)
}

// sendFile leaves src's limit as it would be after reading.
func (b *bodyWriter) sendFile(src *io.LimitedReader) (int64, error) {
	var done int64
	for src.N > 0 && b.left > 0 {
		part := io.LimitedReader{R: src.R, N: min(src.N, b.left, chunk)}
		want := part.N
		b.begin()
		n, err := io.Copy(b.w, &part)
		done += n
		src.N -= n
		if err = b.end(n, err); err != nil {
			return done, err
		}
		if n < want {
			return done, nil // end of the file
		}
	}
	return done, nil
}

// begin commits the headers and gives the client time for one chunk. A response
// writer without deadlines has none to miss.
func (b *bodyWriter) begin() {
	b.watch.pause()
	_ = b.control.SetWriteDeadline(time.Now().Add(b.limit))
	if !b.committed {
		b.committed = true
		b.commit()
	}
}

func (b *bodyWriter) end(n int64, err error) error {
	b.left -= n
	b.sent.Add(n)
	b.watch.resume()
	if err != nil && b.failed == nil {
		b.failed = err
	}
	return err
}

type writerOnly struct{ io.Writer }

type readerOnly struct{ io.Reader }

// watch closes a reader that waits too long for the mesh, or whose client left,
// which ends its WriteTo.
type watch struct {
	reader  io.Closer
	timer   *time.Timer
	next    time.Duration // allowed between bytes once the first has come
	unhook  func() bool
	stalled atomic.Bool
}

func startWatch(ctx context.Context, reader io.Closer, first, next time.Duration) *watch {
	w := &watch{reader: reader, next: next}
	w.timer = time.AfterFunc(first, func() {
		w.stalled.Store(true)
		_ = w.reader.Close()
	})
	w.unhook = context.AfterFunc(ctx, func() { _ = w.reader.Close() })
	return w
}

// pause stops the clock while the client is being written to: that wait has a
// deadline of its own.
func (w *watch) pause() { w.timer.Stop() }

func (w *watch) resume() { w.timer.Reset(w.next) }

func (w *watch) stop() {
	w.timer.Stop()
	w.unhook()
}
