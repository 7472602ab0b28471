package gateway

import (
	"io"
	"net/http"
	"time"
)

// chunk is what a client has to take within one write deadline, in bytes.
const chunk = 1 << 20

// body is the client's side of an answer: status and headers go out with the first byte, and each chunk moves the write
// deadline on. One goroutine uses it.
type body struct {
	w       http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
	commit  func()

	sent      int64
	committed bool
}

func (b *body) begin() {
	if !b.committed {
		b.committed = true
		b.commit()
	}
	_ = b.control.SetWriteDeadline(time.Now().Add(b.limit))
}

// Write implements io.Writer.
func (b *body) Write(p []byte) (done int, err error) {
	for done < len(p) && err == nil {
		b.begin()
		var n int
		n, err = b.w.Write(p[done:min(len(p), done+chunk)])
		done += n
	}
	b.sent += int64(done)
	return done, err
}

// ReadFrom implements io.ReaderFrom: a file goes on to the connection's own, for sendfile. The sources here are chunks that
// are on disk already (exchange.Reader) and say so by their limit.
func (b *body) ReadFrom(src io.Reader) (int64, error) {
	l, ok := src.(*io.LimitedReader)
	if !ok {
		return io.Copy(struct{ io.Writer }{b}, src)
	}
	b.begin()
	n, err := io.Copy(b.w, l)
	b.sent += n
	return n, err
}
