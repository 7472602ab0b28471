package exchange

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

// benchSize is the blob of the pull benchmarks, in bytes.
const benchSize = 1 << 30

// bigBlob writes a blob to disk and returns its file and digest.
func bigBlob(b *testing.B) (string, digest.Digest) {
	b.Helper()
	name := filepath.Join(b.TempDir(), "blob")
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	dg := digest.Canonical.Digester()
	block, _ := content(1<<20, 42)
	for i := range benchSize >> 20 {
		block[0], block[1] = byte(i), byte(i>>8)
		_, _ = dg.Hash().Write(block)
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	return name, dg.Digest()
}

// httpOrigin reads a real HTTP server, which sends by sendfile.
type httpOrigin struct {
	url    string
	client *http.Client
}

func newHTTPOrigin(b *testing.B, file string) *httpOrigin {
	b.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) }))
	b.Cleanup(srv.Close)
	c := &http.Client{Transport: &http.Transport{DisableCompression: true, ReadBufferSize: 64 << 10}}
	b.Cleanup(c.CloseIdleConnections)
	return &httpOrigin{url: srv.URL, client: c}
}

func (o *httpOrigin) Blob(ctx context.Context, _ swarm.OriginRef, _ string, _ digest.Digest, off, n int64) (OriginBody, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.url, nil)
	if err != nil {
		return OriginBody{}, err
	}
	if n >= 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return OriginBody{}, err
	}
	body := OriginBody{ReadCloser: resp.Body, Size: resp.ContentLength}
	if resp.StatusCode == http.StatusPartialContent {
		_, total, _ := strings.Cut(resp.Header.Get("Content-Range"), "/")
		body.Size, _ = strconv.ParseInt(total, 10, 64)
		body.Offset, body.Ranged = off, true
	}
	return body, nil
}

func (o *httpOrigin) Listed(string) bool { return true }

func (o *httpOrigin) Classify(error) (swarm.OriginErrorKind, time.Duration) {
	return swarm.OriginUnreachable, 0
}

// front serves one blob of a node as the mirror does, so that the client's end is a socket.
func front(b *testing.B, n *node, w Want) string {
	b.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h, err := n.Open(r.Context(), w)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		defer h.Close()
		rd, err := h.Reader(0, -1)
		if err != nil {
			panic(err)
		}
		defer rd.Close()
		rw.Header().Set("Content-Type", "application/octet-stream")
		rw.Header().Set("Content-Length", strconv.FormatInt(h.Size(), 10))
		if _, err := rd.WriteTo(rw); err != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	b.Cleanup(srv.Close)
	return srv.URL
}

// curl downloads a URL and throws the bytes away.
func curl(b *testing.B, url string) time.Duration {
	b.Helper()
	began := time.Now()
	resp, err := http.Get(url)
	if err != nil {
		b.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 128<<10))
	if err != nil || n != benchSize {
		b.Fatalf("%d bytes, %v (status %d)", n, err, resp.StatusCode)
	}
	return time.Since(began)
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakRSS returns the process's highest resident set in MiB since resetRSS.
func peakRSS() float64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if v, ok := strings.CutPrefix(sc.Text(), "VmHWM:"); ok {
			kb, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(v, " kB")))
			return float64(kb) / 1024
		}
	}
	return 0
}

func resetRSS() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

func report(b *testing.B, took, direct, used time.Duration) {
	b.ReportMetric(float64(benchSize)/1e6/took.Seconds(), "MB/s")
	if direct > 0 {
		b.ReportMetric(took.Seconds()/direct.Seconds(), "x-direct")
	}
	b.ReportMetric(used.Seconds(), "cpu-s")
	b.ReportMetric(peakRSS(), "peak-MiB")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkColdPull pulls 1 GiB through one node from an HTTP origin, and straight from the origin for comparison.
func BenchmarkColdPull(b *testing.B) {
	file, d := bigBlob(b)
	o := newHTTPOrigin(b, file)
	direct := min(curl(b, o.url), curl(b, o.url))
	var took, used time.Duration
	for b.Loop() {
		n := startNode(b, nodeConfig{origin: o, dir: b.TempDir()})
		url := front(b, n, want(d, benchSize))
		resetRSS()
		before := cpu()
		took += curl(b, url)
		used += cpu() - before
		n.stop()
	}
	report(b, took/time.Duration(b.N), direct, used/time.Duration(b.N))
}

// BenchmarkWarmPull pulls 1 GiB that is complete on the node's disk.
func BenchmarkWarmPull(b *testing.B) {
	file, d := bigBlob(b)
	o := newHTTPOrigin(b, file)
	n := startNode(b, nodeConfig{origin: o})
	url := front(b, n, want(d, benchSize))
	curl(b, url)
	for {
		if _, ok := n.Stat(d); ok {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	direct := min(curl(b, o.url), curl(b, o.url))
	var took, used time.Duration
	for b.Loop() {
		before := cpu()
		took += curl(b, url)
		used += cpu() - before
	}
	report(b, took/time.Duration(b.N), direct, used/time.Duration(b.N))
}

// BenchmarkPeerPull pulls 1 GiB from a peer that has it: TLS, hashes, attestations and disk at both ends.
func BenchmarkPeerPull(b *testing.B) {
	file, d := bigBlob(b)
	o := newHTTPOrigin(b, file)
	a := startNode(b, nodeConfig{zone: "a", origin: o})
	curl(b, front(b, a, want(d, benchSize)))
	for {
		if _, ok := a.Stat(d); ok {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	var took, used time.Duration
	for b.Loop() {
		n := startNode(b, nodeConfig{zone: "a", dir: b.TempDir()})
		mesh(b, a, n)
		url := front(b, n, want(d, benchSize))
		resetRSS()
		before := cpu()
		took += curl(b, url)
		used += cpu() - before
		if in := n.Status().BytesIn; in.Zone != benchSize {
			b.Errorf("in %+v", in)
		}
		n.stop()
	}
	report(b, took/time.Duration(b.N), 0, used/time.Duration(b.N))
}

// BenchmarkSmallCold pulls blobs of 1 KiB through one node from an HTTP origin.
func BenchmarkSmallCold(b *testing.B) {
	blobs := map[digest.Digest][]byte{}
	o := newOrigin()
	n := startNode(b, nodeConfig{origin: o})
	var took time.Duration
	i := 0
	for b.Loop() {
		data := []byte(fmt.Sprintf("%01024d", i))
		d := digest.FromBytes(data)
		o.mu.Lock()
		o.blobs[d], blobs[d] = data, data
		o.mu.Unlock()
		i++
		began := time.Now()
		if _, err := n.pull(want(d, 1024)); err != nil && !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
		took += time.Since(began)
	}
	b.ReportMetric(float64(took.Microseconds())/1000/float64(b.N), "ms/pull")
}
