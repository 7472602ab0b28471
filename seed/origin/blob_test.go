package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// raw answers with the given status line, headers and body, whether they fit together or not, and cuts the connection.
func raw(head, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s\r\n\r\n%s", head, body)
	}
}

func noHTTP(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "220 ftp ready "+strings.Repeat("x", 5000)+"\r\n")
}

func TestBlob(t *testing.T) {
	ten := "0123456789"
	for _, tt := range []struct {
		name           string
		handler        http.HandlerFunc
		offset, length int64
		wantRange      string // Range header that the origin sees
		open           error  // of Blob
		read           error  // of reading it, if it opened
		want           string
		size           int64
		ranged         bool
	}{
		{name: "whole", handler: serveBlob, length: -1, want: string(content), size: 1000},
		{name: "open range", handler: serveBlob, offset: 990, length: -1, wantRange: "bytes=990-", want: ten, size: 1000, ranged: true},
		{name: "range", handler: serveBlob, offset: 10, length: 10, wantRange: "bytes=10-19", want: ten, size: 1000, ranged: true},
		{name: "range from the start", handler: serveBlob, length: 10, wantRange: "bytes=0-9", want: ten, size: 1000, ranged: true},
		{name: "last byte", handler: serveBlob, offset: 999, length: 1, wantRange: "bytes=999-999", want: "9", size: 1000, ranged: true},
		{name: "range past the end is cut", handler: serveBlob, offset: 990, length: 100, wantRange: "bytes=990-1089", want: ten, size: 1000, ranged: true},
		{name: "range past all offsets", handler: serveBlob, offset: 990, length: 1<<63 - 1, wantRange: "bytes=990-", want: ten, size: 1000, ranged: true},
		{name: "range past the end is refused", handler: func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				http.Error(w, "range end 2000 > 1000 size", http.StatusRequestedRangeNotSatisfiable)
				return
			}
			serveBlob(w, r)
		}, length: 2000, want: string(content), size: 1000},
		{name: "range behind the end", handler: serveBlob, offset: 1000, length: 10, wantRange: "bytes=1000-1009", open: ErrRange},
		{name: "no bytes asked for", handler: serveBlob, open: ErrReference},
		{name: "negative offset", handler: serveBlob, offset: -1, length: 1, open: ErrReference},

		{name: "no ranges, from the start", handler: raw("200 OK\r\nContent-Length: 10", ten), length: 5, wantRange: "bytes=0-4", want: ten, size: 10},
		{name: "no ranges, later", handler: raw("200 OK\r\nContent-Length: 10", ten), offset: 5, length: 5, wantRange: "bytes=5-9", open: ErrNoRange},
		{name: "no length", handler: raw("200 OK\r\nConnection: close", ten), length: -1, want: ten, size: -1},
		{name: "chunked", handler: raw("200 OK\r\nTransfer-Encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n"), length: -1, want: ten, size: -1},
		{name: "empty", handler: raw("200 OK\r\nContent-Length: 0", ""), length: -1, size: 0},
		{name: "partial without being asked", handler: raw("206 Partial Content\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 10", ten), length: -1, want: ten, size: 10, ranged: true},
		{name: "partial of unknown size", handler: raw("206 Partial Content\r\nContent-Range: bytes 0-9/*\r\nContent-Length: 10", ten), length: 20, wantRange: "bytes=0-19", want: ten, size: -1, ranged: true},
		{name: "partial, chunked", handler: raw("206 Partial Content\r\nContent-Range: bytes 5-14/15\r\nTransfer-Encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n"), offset: 5, length: -1, wantRange: "bytes=5-", want: ten, size: 15, ranged: true},

		{name: "wrong range", handler: raw("206 Partial Content\r\nContent-Range: bytes 0-9/20\r\nContent-Length: 10", ten), offset: 10, length: 10, wantRange: "bytes=10-19", open: ErrInvalid},
		{name: "longer range", handler: raw("206 Partial Content\r\nContent-Range: bytes 0-9/20\r\nContent-Length: 10", ten), length: 5, wantRange: "bytes=0-4", open: ErrInvalid},
		{name: "no Content-Range", handler: raw("206 Partial Content\r\nContent-Length: 10", ten), offset: 10, length: 10, wantRange: "bytes=10-19", open: ErrInvalid},
		{name: "nonsense Content-Range", handler: raw("206 Partial Content\r\nContent-Range: bytes 10-9/5\r\nContent-Length: 10", ten), offset: 10, length: 10, wantRange: "bytes=10-19", open: ErrInvalid},
		{name: "unsatisfied range as partial", handler: raw("206 Partial Content\r\nContent-Range: bytes */5\r\nContent-Length: 10", ten), length: 10, wantRange: "bytes=0-9", open: ErrInvalid},
		{name: "lengths that contradict", handler: raw("206 Partial Content\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 5", ten), length: 10, wantRange: "bytes=0-9", open: ErrInvalid},
		{name: "multipart", handler: raw("206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=x\r\nContent-Length: 10", ten), length: 10, wantRange: "bytes=0-9", open: ErrInvalid},
		{name: "no content", handler: raw("204 No Content", ""), length: -1, open: ErrInvalid},
		{name: "not modified", handler: raw("304 Not Modified", ""), length: -1, open: ErrInvalid},
		{name: "length that is no number", handler: raw("200 OK\r\nContent-Length: ten", ten), length: -1, open: ErrUnreachable},
		{name: "negative length", handler: raw("200 OK\r\nContent-Length: -1", ten), length: -1, open: ErrUnreachable},
		{name: "two lengths", handler: raw("200 OK\r\nContent-Length: 10\r\nContent-Length: 11", ten), length: -1, open: ErrUnreachable},
		{name: "no HTTP", handler: noHTTP, length: -1, open: ErrUnreachable},

		{name: "short", handler: raw("200 OK\r\nContent-Length: 20", ten), length: -1, want: ten, size: 20, read: io.ErrUnexpectedEOF},
		{name: "short range", handler: raw("206 Partial Content\r\nContent-Range: bytes 5-24/25\r\nContent-Length: 20", ten), offset: 5, length: 20, wantRange: "bytes=5-24", want: ten, size: 25, ranged: true, read: io.ErrUnexpectedEOF},
		{name: "short range with a clean end", handler: raw("206 Partial Content\r\nContent-Range: bytes 5-24/25\r\nTransfer-Encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n"), offset: 5, length: 20, wantRange: "bytes=5-24", want: ten, size: 25, ranged: true, read: io.ErrUnexpectedEOF},
		{name: "range that the origin cut", handler: raw("206 Partial Content\r\nContent-Range: bytes 0-9/50\r\nContent-Length: 10", ten), length: 20, wantRange: "bytes=0-19", want: ten, size: 50, ranged: true, read: io.ErrUnexpectedEOF},
		{name: "open range that the origin cut", handler: raw("206 Partial Content\r\nContent-Range: bytes 0-9/50\r\nContent-Length: 10", ten), offset: 0, length: 50, wantRange: "bytes=0-49", want: ten, size: 50, ranged: true, read: io.ErrUnexpectedEOF},
		{name: "cut in a chunk", handler: raw("200 OK\r\nTransfer-Encoding: chunked", "14\r\n0123456789"), length: -1, want: ten, size: -1, read: io.ErrUnexpectedEOF},
		{name: "bad chunk", handler: raw("200 OK\r\nTransfer-Encoding: chunked", "a\r\n0123456789\r\nzz\r\n"), length: -1, want: ten, size: -1, read: ErrUnreachable},
		{name: "long range", handler: raw("206 Partial Content\r\nContent-Range: bytes 0-4/5\r\nTransfer-Encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n"), length: 5, wantRange: "bytes=0-4", want: "01234", size: 5, ranged: true, read: ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFabric(t)
			var sawRange string
			f.serve("http://reg.test", "10.0.0.1", func(w http.ResponseWriter, r *http.Request) {
				sawRange = r.Header.Get("Range")
				tt.handler(w, r)
			})
			cfg := plain()
			cfg.Attempts = 1
			r := wholeBlob()
			r.Offset, r.Length = tt.offset, tt.length
			b, err := f.client(cfg).Blob(context.Background(), r)
			if !errors.Is(err, tt.open) {
				t.Fatalf("open: %v, want %v", err, tt.open)
			}
			if sawRange != tt.wantRange {
				t.Errorf("Range: %q, want %q", sawRange, tt.wantRange)
			}
			if err != nil {
				var e *Error
				if !errors.As(err, &e) || e.Registry != "reg.test" || e.Op == "" {
					t.Errorf("error without its fields: %#v", err)
				}
				return
			}
			defer b.Close()
			if b.Size != tt.size || b.Offset != tt.offset || b.Ranged != tt.ranged {
				t.Errorf("size %d offset %d ranged %v, want %d %d %v", b.Size, b.Offset, b.Ranged, tt.size, tt.offset, tt.ranged)
			}
			got, err := io.ReadAll(b)
			if string(got) != tt.want {
				t.Errorf("read %d bytes, want %d", len(got), len(tt.want))
			}
			if !errors.Is(err, tt.read) {
				t.Errorf("read: %v, want %v", err, tt.read)
			}
			if _, again := b.Read(make([]byte, 1)); err == nil && again != io.EOF || err != nil && !errors.Is(again, tt.read) {
				t.Errorf("read again: %v", again)
			}
			if tt.read != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnreachable) {
				t.Errorf("read: %v is neither ErrInvalid nor ErrUnreachable", err)
			}
		})
	}
}

// A body of which a range is asked for, and the whole comes instead, is not read: it may be gigabytes.
func TestNoRangeIsNotRead(t *testing.T) {
	f := newFabric(t)
	wrote := make(chan int64, 1)
	f.serve("http://reg.test", "10.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(1<<30))
		n, _ := io.CopyN(w, zeros{}, 1<<30)
		wrote <- n
	})
	r := wholeBlob()
	r.Offset = 1 << 20
	if _, err := f.client(plain()).Blob(context.Background(), r); !errors.Is(err, ErrNoRange) {
		t.Fatalf("got %v, want ErrNoRange", err)
	}
	if n := <-wrote; n > 1<<20 {
		t.Errorf("the origin got rid of %d bytes", n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestHeadBlob(t *testing.T) {
	empty := digest.FromString("")
	only := func(method string, then, other http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method == method {
				then(w, r)
			} else {
				other(w, r)
			}
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { ociError(w, code, "X") }
	}
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		digest  digest.Digest
		size    int64
		err     error
		asked   string
	}{
		{name: "HEAD", handler: serveBlob, size: 1000, asked: "HEAD"},
		{name: "no HEAD: 405", handler: only("HEAD", status(405), serveBlob), size: 1000, asked: "HEAD GET"},
		{name: "no HEAD: 501", handler: only("HEAD", status(501), serveBlob), size: 1000, asked: "HEAD GET"},
		{name: "no HEAD: 400", handler: only("HEAD", status(400), serveBlob), size: 1000, asked: "HEAD GET"},
		{name: "no HEAD: 404", handler: only("HEAD", status(404), serveBlob), size: 1000, asked: "HEAD GET"},
		{name: "HEAD without length", handler: only("HEAD", raw("200 OK", ""), serveBlob), size: 1000, asked: "HEAD GET"},
		{name: "HEAD with length 0", handler: only("HEAD", raw("200 OK\r\nContent-Length: 0", ""), serveBlob), size: 1000, asked: "HEAD GET"},
		{name: "HEAD of the empty blob", handler: raw("200 OK\r\nContent-Length: 0", ""), digest: empty, size: 0, asked: "HEAD"},
		{name: "no HEAD, no Range", handler: only("HEAD", status(405), raw("200 OK\r\nContent-Length: 1000", string(content))), size: 1000, asked: "HEAD GET"},
		{name: "no HEAD, no length", handler: only("HEAD", status(405), raw("200 OK\r\nTransfer-Encoding: chunked", "1\r\nx\r\n0\r\n\r\n")), size: -1, asked: "HEAD GET"},
		{name: "missing", handler: status(404), err: ErrNotFound, asked: "HEAD GET"},
		{name: "denied", handler: status(403), err: ErrDenied, asked: "HEAD"},
		{name: "unauthorized", handler: status(401), err: ErrUnauthorized, asked: "HEAD"},
		{name: "broken", handler: status(500), err: ErrUnreachable, asked: "HEAD"},
		{name: "empty blob without HEAD", handler: only("HEAD", status(405), status(416)), digest: empty, size: 0, asked: "HEAD GET"},
		{name: "no first byte of a blob that is not empty", handler: only("HEAD", status(405), status(416)), err: ErrRange, asked: "HEAD GET"},
		{name: "bad digest", digest: "sha256:ABC", err: ErrReference},
		{name: "unknown algorithm", digest: "md5:d41d8cd98f00b204e9800998ecf8427e", err: ErrReference},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFabric(t)
			var asked string
			f.serve("http://reg.test", "10.0.0.1", func(w http.ResponseWriter, r *http.Request) {
				if asked != "" {
					asked += " "
				}
				asked += r.Method
				if r.Method == "GET" && r.Header.Get("Range") != "bytes=0-0" {
					t.Errorf("GET with Range %q", r.Header.Get("Range"))
				}
				tt.handler(w, r)
			})
			cfg := plain()
			cfg.Attempts = 1
			r := wholeBlob()
			if tt.digest != "" {
				r.Digest = tt.digest
			}
			size, err := f.client(cfg).HeadBlob(context.Background(), r)
			if size != tt.size || !errors.Is(err, tt.err) {
				t.Errorf("got %d, %v; want %d, %v", size, err, tt.size, tt.err)
			}
			if asked != tt.asked {
				t.Errorf("asked %q, want %q", asked, tt.asked)
			}
		})
	}
}

// An answer to HEAD and small error bodies leave the connection to the next request.
func TestConnectionIsReused(t *testing.T) {
	f := newFabric(t)
	f.serve("http://reg.test", "10.0.0.1", serveBlob)
	c := f.client(plain())
	missing := wholeBlob()
	missing.Digest = digest.FromString("missing")
	for range 5 {
		if _, err := c.HeadBlob(context.Background(), wholeBlob()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Blob(context.Background(), missing); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		b, err := c.Blob(context.Background(), wholeBlob())
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(content)) // exactly, without asking for the end
		if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, content) {
			t.Fatal(err)
		}
		b.Close()
	}
	if n := f.count("reg.test:80"); n != 1 {
		t.Errorf("%d connections for 15 requests", n)
	}
}

func TestBodyTimes(t *testing.T) {
	const idle = 10 * time.Second
	for _, tt := range []struct {
		name string
		gap  time.Duration // between the ten bytes
		hang bool          // after the tenth
		want error
		took time.Duration
	}{
		{"slow but steady", 9 * time.Second, false, nil, 90 * time.Second},
		{"too slow", 11 * time.Second, false, ErrTimeout, idle},
		{"hangs", time.Second, true, ErrTimeout, 10*time.Second + idle},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFabric(t)
				f.serve("http://reg.test", "10.0.0.1", func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Length", "10")
					if tt.hang {
						w.Header().Set("Content-Length", "11")
					}
					for i := range 10 {
						_ = http.NewResponseController(w).Flush()
						time.Sleep(tt.gap)
						if _, err := w.Write([]byte{byte('0' + i)}); err != nil {
							return
						}
					}
					_ = http.NewResponseController(w).Flush()
					if tt.hang {
						<-r.Context().Done()
					}
				})
				cfg := plain()
				cfg.IdleTimeout = idle
				start := time.Now()
				b, err := f.client(cfg).Blob(context.Background(), wholeBlob())
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close()
				_, err = io.ReadAll(b)
				if !errors.Is(err, tt.want) || tt.want != nil && !errors.Is(err, ErrUnreachable) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
			})
		})
	}
}

// The reader's own pauses do not count as the origin's silence.
func TestReaderMayPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.serve("http://reg.test", "10.0.0.1", serveBlob)
		b, err := f.client(plain()).Blob(context.Background(), wholeBlob())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		for range 10 {
			time.Sleep(time.Hour)
			if _, err := io.ReadFull(b, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestBodyEndsWithContextAndClose(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(context.CancelFunc, *Body)
		want error
	}{
		{"context", func(cancel context.CancelFunc, _ *Body) { cancel() }, context.Canceled},
		{"close", func(_ context.CancelFunc, b *Body) { _ = b.Close() }, ErrClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFabric(t)
				f.serve("http://reg.test", "10.0.0.1", func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Length", "10")
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
				})
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				b, err := f.client(plain()).Blob(ctx, wholeBlob())
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close()
				time.AfterFunc(time.Second, func() { tt.end(cancel, b) })
				start := time.Now()
				_, err = b.Read(make([]byte, 10))
				if !errors.Is(err, tt.want) || errors.Is(err, ErrUnreachable) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if took := time.Since(start); took != time.Second {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}
