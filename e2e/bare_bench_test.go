package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// bare is what a pull from a peer cannot do without, and nothing else, in plain Go and in this process: a file server, and
// a client of it that hashes each piece and the whole, writes the piece to disk and sends it on from there. It is what this
// machine needs for that at least, so that what meshd needs beyond it shows on any machine.
type bare struct {
	source *http.Client
	url    string // of the blob at the file server
	dir    string
	front  string // URL at which a client asks
}

// bareMode is how the pieces come.
type bareMode bool

const (
	encrypted bareMode = true
	plaintext bareMode = false
)

// startBare serves a blob of a GiB.
func startBare(b *testing.B, mode bareMode) *bare {
	b.Helper()
	p := &bare{dir: b.TempDir()}
	blob := filepath.Join(p.dir, "blob")
	writeStamped(b, blob)
	files := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, blob) }))
	if mode == encrypted {
		files.StartTLS()
	} else {
		files.Start()
	}
	b.Cleanup(files.Close)
	p.source, p.url = files.Client(), files.URL
	front := httptest.NewServer(p)
	b.Cleanup(front.Close)
	p.front = front.URL
	return p
}

func writeStamped(b *testing.B, path string) {
	b.Helper()
	f, err := os.Create(path)
	must(b, err)
	_, err = io.Copy(f, newStamped(gib))
	must(b, err)
	must(b, f.Close())
}

// ServeHTTP brings the blob in, and the client what is there of it.
func (p *bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := p.pull(w); err != nil {
		panic(http.ErrAbortHandler) // curl fails
	}
}

func (p *bare) pull(w http.ResponseWriter) error {
	f, err := os.CreateTemp(p.dir, "partial")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, gib); err != nil {
		return err
	}
	resp, err := p.source.Get(p.url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	w.Header().Set("Content-Length", fmt.Sprint(gib))
	w.Header().Set("Content-Type", "application/octet-stream")
	whole, piece := sha256.New(), make([]byte, mib)
	for off := int64(0); off < gib; off += mib {
		if _, err := io.ReadFull(resp.Body, piece); err != nil {
			return err
		}
		_ = sha256.Sum256(piece)
		_, _ = whole.Write(piece)
		if _, err := f.WriteAt(piece, off); err != nil {
			return err
		}
		if _, err := io.CopyN(w, f, mib); err != nil {
			return err
		}
	}
	return nil
}

// selfSeconds is the processor time of this process so far.
func selfSeconds(b *testing.B) float64 {
	b.Helper()
	var r unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &r))
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

// useMemory writes a file and removes it, so that the page cache takes memory next that the machine has used a moment ago.
// A hypervisor gives a virtual machine memory page by page as it is touched first, and may take back what is free: writing
// then costs ten times as much, whoever writes.
func useMemory(b *testing.B, dir string) {
	b.Helper()
	f, err := os.CreateTemp(dir, "memory")
	must(b, err)
	defer os.Remove(f.Name())
	defer f.Close()
	piece := make([]byte, mib)
	for range 3 * gib / 2 / mib {
		_, err := f.Write(piece)
		must(b, err)
	}
}

// BenchmarkBare takes the parts of a bare pull one by one.
func BenchmarkBare(b *testing.B) {
	need(b, "curl")
	p := startBare(b, encrypted)
	blob := filepath.Join(p.dir, "blob")
	sendfile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, blob) }))
	defer sendfile.Close()
	piece := make([]byte, mib)
	parts := []struct {
		unit string
		do   func()
	}{
		{"sha256-s/GB", func() {
			h := sha256.New()
			for range gib / mib {
				_, _ = h.Write(piece)
			}
		}},
		{"tls-s/GB", func() {
			resp, err := p.source.Get(p.url)
			must(b, err)
			defer resp.Body.Close()
			for range gib / mib {
				_, err := io.ReadFull(resp.Body, piece)
				must(b, err)
			}
		}},
		{"write-s/GB", func() {
			f, err := os.CreateTemp(p.dir, "written")
			must(b, err)
			defer os.Remove(f.Name())
			defer f.Close()
			must(b, unix.Fallocate(int(f.Fd()), 0, 0, gib))
			for off := int64(0); off < gib; off += mib {
				_, err := f.WriteAt(piece, off)
				must(b, err)
			}
		}},
		{"sendfile-s/GB", func() { curl(b, sendfile.URL) }},
		{"all-s/GB", func() { curl(b, p.front) }},
	}
	used := make(map[string][]float64)
	for b.Loop() {
		for _, part := range parts {
			useMemory(b, p.dir)
			before := selfSeconds(b)
			part.do()
			used[part.unit] = append(used[part.unit], (selfSeconds(b)-before)/(gib/1e9))
		}
	}
	b.ReportMetric(0, "ns/op")
	for unit, values := range used {
		b.ReportMetric(median(values), unit)
	}
}
