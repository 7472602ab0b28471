package mirror

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fileWriter is a response writer like the server's: it takes files.
type fileWriter struct {
	*httptest.ResponseRecorder
	files []int64 // sizes of the reads from files
}

func (w *fileWriter) ReadFrom(src io.Reader) (int64, error) {
	if l, ok := src.(*io.LimitedReader); ok {
		if _, ok := l.R.(*os.File); ok {
			w.files = append(w.files, l.N)
		}
	}
	return io.Copy(w.ResponseRecorder, src)
}

func newBody(w http.ResponseWriter, left int64) (b *bodyWriter, done func()) {
	watch := startWatch(context.Background(), io.NopCloser(nil), time.Hour, time.Hour)
	return &bodyWriter{
		w: w, control: http.NewResponseController(w), limit: time.Minute, watch: watch, sent: new(atomic.Int64),
		commit: func() { w.WriteHeader(http.StatusOK) }, left: left,
	}, watch.stop
}

// TestBodySendsFilesInChunks: files reach the server's ReadFrom in the one shape
// that it hands to the kernel.
func TestBodySendsFilesInChunks(t *testing.T) {
	data := randomBytes(2*chunk + 10)
	for name, limit := range map[string]bool{"limited": true, "bare": false} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Open(tempFile(t, data))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			w := &fileWriter{ResponseRecorder: httptest.NewRecorder()}
			b, done := newBody(w, int64(len(data)))
			defer done()
			src, limited := io.Reader(f), &io.LimitedReader{R: f, N: int64(len(data))}
			if limit {
				src = limited
			}
			n, err := b.ReadFrom(src)
			if err != nil || n != int64(len(data)) || b.left != 0 || limit && limited.N != 0 {
				t.Fatalf("%d bytes, %d left, %v", n, b.left, err)
			}
			if len(w.files) != 3 || w.files[0] != chunk || w.files[2] != 10 || !bytes.Equal(w.Body.Bytes(), data) {
				t.Fatalf("reads %v", w.files)
			}
		})
	}
}

// TestBodyCommitsWithTheFirstByte: a source that is no file may block; until it
// gives a byte, an error can still be answered.
func TestBodyCommitsWithTheFirstByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fileWriter{ResponseRecorder: httptest.NewRecorder()}
		b, done := newBody(w, 10)
		defer done()
		r, pw := io.Pipe()
		errs := make(chan error, 1)
		go func() {
			_, err := b.ReadFrom(r)
			errs <- err
		}()
		synctest.Wait()
		if b.committed {
			t.Fatal("committed before the first byte")
		}
		gone := errors.New("gone")
		pw.CloseWithError(gone)
		if err := <-errs; !errors.Is(err, gone) || b.committed {
			t.Fatalf("%v, committed %v", err, b.committed)
		}
	})
}

func TestBodyOverrun(t *testing.T) {
	w := httptest.NewRecorder()
	b, done := newBody(w, 5)
	defer done()
	if _, err := b.Write(make([]byte, 6)); !errors.Is(err, errOverrun) || b.committed {
		t.Fatalf("write: %v", err)
	}
	if n, err := b.ReadFrom(bytes.NewReader(make([]byte, 6))); !errors.Is(err, errOverrun) || n > 5 || w.Body.Len() > 5 {
		t.Fatalf("read from: %d, %v", n, err)
	}
}
