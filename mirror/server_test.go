package mirror

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// patience bounds every wait of a test on something that has to come by itself.
const patience = time.Minute

func TestServerBounds(t *testing.T) {
	s := NewServer(http.NotFoundHandler())
	if s.ReadHeaderTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= maxPath {
		t.Fatalf("%+v", s)
	}
	if s.ReadTimeout != 0 || s.WriteTimeout != 0 {
		t.Fatal("a time-out for the whole request cuts long pulls")
	}
}

// TestServerHalfSentRequests opens 300 connections that stop in the middle of
// their request, in its line, its headers or its body. All are closed in time,
// and other clients are served meanwhile.
func TestServerHalfSentRequests(t *testing.T) {
	w := newWorld(t, Config{BodyTimeout: 2 * time.Second})
	srv := w.serve(t, func(s *http.Server) { s.ReadHeaderTimeout = 2 * time.Second }) // enough for the client that sends a whole one
	parts := []string{
		"GET /v2/ HT",
		"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Half: ",
		"",
		"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
		"PUT /v2/a/manifests/b HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
		"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
	}
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(conn, parts[i%len(parts)]); err != nil {
				t.Error(err)
			}
			answer, err := io.ReadAll(conn) // to the server's close
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%q is still open", parts[i%len(parts)])
			}
			if bytes.Contains(answer, []byte("HTTP/1.1 5")) || bytes.Contains(answer, []byte("HTTP/1.1 2")) {
				t.Errorf("%q: %s", parts[i%len(parts)], answer)
			}
		})
	}
	resp, err := http.Get(srv.URL + "/v2/")
	if err != nil || resp.StatusCode != 401 {
		t.Fatalf("another client: %v, %v", resp, err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	wg.Wait()
}

// TestServerRequestBodies: a body that ends is ignored and the connection stays.
func TestServerRequestBodies(t *testing.T) {
	w := newWorld(t, Config{})
	srv := w.serve(t, nil)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(conn)
	for _, c := range []struct {
		request string
		status  int
		closes  bool
	}{
		{"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 401, false},
		{"GET /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 401, false},
		{"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 404, false},
		{"PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 404, false},
		{"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("a", 100000), 400, true},
	} {
		if _, err := io.WriteString(conn, c.request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != c.status || resp.Close != c.closes {
			t.Fatalf("%.40q: %+v, %v", c.request, resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
}

// TestServerNeverEndsACutBlobCleanly cuts a blob at many places, with and without
// a range; the client always sees an unexpected end.
func TestServerNeverEndsACutBlobCleanly(t *testing.T) {
	const size = 1 << 20
	for _, at := range []int64{1, 100, 2047, 2048, 4096, 65536, size / 2, size - 1} {
		t.Run(fmt.Sprint("at ", at), func(t *testing.T) {
			w, _, b, target := pulled(t, Config{}, size)
			b.cutErr, b.cutAt = ErrCorrupt, at
			srv := w.serve(t, nil)
			for _, rng := range []string{"", "bytes=0-", fmt.Sprintf("bytes=%d-", at/2), fmt.Sprintf("bytes=-%d", size-at/2)} {
				req, _ := http.NewRequest("GET", srv.URL+target, nil)
				if rng != "" {
					req.Header.Set("Range", rng)
				}
				resp, err := srv.Client().Do(req)
				if err != nil {
					continue // cut with its headers still buffered: no end at all
				}
				n, err := io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err == nil || resp.StatusCode >= 400 || n > at {
					t.Errorf("%q: status %d, %d bytes, error %v", rng, resp.StatusCode, n, err)
				}
			}
		})
	}
}

// TestServerSendsFiles reads a file larger than one write through the kernel,
// whole and in ranges.
func TestServerSendsFiles(t *testing.T) {
	w, _, b, target := pulled(t, Config{}, 5<<20+123)
	b.file = tempFile(t, b.data)
	srv := w.serve(t, nil)
	for rng, want := range map[string][]byte{"": b.data, "bytes=1048576-": b.data[1<<20:], "bytes=5-3145730": b.data[5:3145731], "bytes=-1": b.data[len(b.data)-1:]} {
		req, _ := http.NewRequest("GET", srv.URL+target, nil)
		if rng != "" {
			req.Header.Set("Range", rng)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%q: %d bytes of %d, %v", rng, len(got), len(want), err)
		}
	}
	if err := os.Truncate(b.file, 3<<20); err != nil { // between Size and read
		t.Fatal(err)
	}
	resp, err := srv.Client().Get(srv.URL + target)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != 3<<20 {
		t.Fatalf("a file that is shorter from the start: %d, %v", n, err)
	}
}

// truncated opens a blob whose file ends before its size.
type truncated struct{ *openBlob }

func (b truncated) Size() int64 { return b.openBlob.Size() + 1<<20 }

func (b truncated) Reader(off, n int64) (BlobReader, error) {
	r, err := b.openBlob.Reader(off, n-1<<20)
	r.(*fakeReader).end += 1 << 20
	return r, err
}

type truncatedBlobs struct{ *fakeBlobs }

func (f truncatedBlobs) Open(ctx context.Context, want BlobWant) (Blob, error) {
	b, err := f.fakeBlobs.Open(ctx, want)
	if err != nil {
		return nil, err
	}
	return truncated{b.(*openBlob)}, nil
}

func TestServerFileEndsEarly(t *testing.T) {
	w, _, b, target := pulled(t, Config{}, 3<<20)
	b.file = tempFile(t, b.data)
	w.blobs = truncatedBlobs{w.mesh}
	srv := w.serve(t, nil)
	resp, err := srv.Client().Get(srv.URL + target)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || n != 3<<20 {
		t.Fatalf("%d bytes, %v", n, err)
	}
}

// TestServerHangUps lets 100 clients go away in the middle of a blob that waits
// for the mesh: nothing of them is left.
func TestServerHangUps(t *testing.T) {
	w, _, b, target := pulled(t, Config{}, 1<<20)
	b.hangAt = 500_000
	var handlers sync.WaitGroup
	srv := w.serve(t, func(s *http.Server) {
		inner := s.Handler
		s.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			handlers.Add(1)
			defer handlers.Done()
			inner.ServeHTTP(rw, r)
		})
	})
	var clients sync.WaitGroup
	for range 100 {
		clients.Go(func() {
			resp, err := srv.Client().Get(srv.URL + target)
			if err != nil {
				t.Error(err)
				return
			}
			if n, err := io.CopyN(io.Discard, resp.Body, 500_000); err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			resp.Body.Close()
		})
	}
	clients.Wait()
	done := make(chan struct{})
	go func() { handlers.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%d requests are still served", w.Stats().Active)
	}
	if n := w.mesh.unclosed(); n != 0 {
		t.Fatalf("%d blobs left open", n)
	}
}

// pipes is a listener of in-memory connections, so that a server and its clients
// live in virtual time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial serves handler on a fresh in-memory connection. Its buffers hold nothing:
// a client that does not read stops the server at once.
func dial(t *testing.T, srv *http.Server) net.Conn {
	p := newPipes()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(p) }()
	client, server := net.Pipe()
	p.conns <- server
	t.Cleanup(func() {
		client.Close()
		srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return client
}

func TestServerSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, b, target := pulled(t, Config{}, 8<<20)
		conn := dial(t, NewServer(w))
		go fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
		// 32 KiB a second is slow, and progress: 1 MiB takes 32 s of the 60.
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		v := d.Verifier()
		for {
			_, err := io.CopyN(v, resp.Body, 32<<10)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("cut after %v: %v", time.Since(start), err)
			}
			time.Sleep(time.Second)
		}
		if !v.Verified() || time.Since(start) < 4*time.Minute {
			t.Fatalf("%d bytes in %v, verified %v", len(b.data), time.Since(start), v.Verified())
		}
	})
}

func TestServerStoppedReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, _, target := pulled(t, Config{}, 8<<20)
		conn := dial(t, NewServer(w))
		start := time.Now()
		go fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
		if _, err := io.ReadFull(conn, make([]byte, 100<<10)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute) // reads nothing more
		synctest.Wait()
		if s := w.Stats(); s.Active != 0 || s.Aborted != 1 {
			t.Fatalf("after %v: %+v", time.Since(start), s)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Fatalf("the connection is still open: %v", err)
		}
	})
}

func TestServerIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := dial(t, NewServer(newWorld(t, Config{})))
		go io.WriteString(conn, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
		start := time.Now()
		if _, err := io.Copy(io.Discard, conn); err != nil || time.Since(start) != 60*time.Second {
			t.Fatalf("closed after %v: %v", time.Since(start), err)
		}
	})
}

func TestDrainAndClose(t *testing.T) {
	w, _, _, target := pulled(t, Config{}, 100)
	w.Drain()
	for _, target := range []string{"/v2/", target} {
		rec := w.do("GET", target)
		wantStatus(t, rec, 503)
		if rec.Header().Get("Retry-After") == "" {
			t.Fatal("no Retry-After")
		}
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}

func TestTooManyRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, b, target := pulled(t, Config{MaxRequests: 10}, 100)
		defer w.Close()
		b.gate = make(chan struct{})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if code := w.do("GET", target).Code; code != 200 {
					t.Errorf("status %d", code)
				}
			})
		}
		synctest.Wait()
		rec := w.do("GET", target)
		if rec.Code != 429 || rec.Header().Get("Retry-After") == "" || codeOf(rec.Body.Bytes()) != codeTooMany {
			t.Errorf("the eleventh: %d %v", rec.Code, rec.Header())
		}
		close(b.gate)
		wg.Wait()
		if s := w.Stats(); s.Shed != 1 || s.Failures != 1 {
			t.Errorf("%+v", s)
		}
		wantStatus(t, w.do("GET", target), 200)
	})
}

// TestServerConcurrentClients mixes everything at once, for the race detector.
func TestServerConcurrentClients(t *testing.T) {
	w := newWorld(t, Config{MaxGrants: 8})
	repo := w.origin.repo("h.example", "team/app")
	var images []image
	for i := range 4 {
		images = append(images, w.push(repo, fmt.Sprint("t", i), 100_000+i))
	}
	srv := w.serve(t, nil)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			img := images[i%len(images)]
			for _, target := range []string{fmt.Sprint("manifests/t", i%len(images)), "manifests/" + img.manifest.String(), "blobs/" + img.layer.String()} {
				resp, err := srv.Client().Get(srv.URL + path + target)
				if err != nil {
					t.Error(err)
					return
				}
				v := digest.Digest(resp.Header.Get("Docker-Content-Digest")).Verifier()
				_, err = io.Copy(v, resp.Body)
				resp.Body.Close()
				if err != nil || !v.Verified() {
					t.Errorf("%s: %d, %v", target, resp.StatusCode, err)
				}
			}
		})
	}
	wg.Wait()
}
