package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// fileServer is an HTTP server with one file under every path, that counts what it sends.
type fileServer struct {
	addr string
	data []byte
	sent atomic.Int64  // bytes of bodies of GETs
	rate atomic.Int64  // bytes a second for each answer; 0: no limit
	line *rate.Limiter // for all answers together; nil: no limit

	half    sync.Once
	halfway chan struct{} // closed when half of a /chunked/… file has gone
}

func startFileServer(t testing.TB, n network, size int) *fileServer {
	t.Helper()
	s := &fileServer{data: make([]byte, size), halfway: make(chan struct{})}
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(s.data)
	l, err := net.Listen("tcp", n.host(210)+":8080")
	must(t, err)
	s.addr = l.Addr().String()
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	go server.Serve(l) //nolint:errcheck // it is closed
	t.Cleanup(func() { server.Close() })
	return s
}

type connKey struct{}

func (s *fileServer) url(path string) string { return "http://" + s.addr + path }

// ServeHTTP answers: /etag/… with ETag and ranges; /date/… with a date; /chunked/… with neither length nor ranges; /plain/…
// with nothing to tell versions by; /secret/… for those with a header only; /missing/… not.
func (s *fileServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cw := &countedWriter{ResponseWriter: w, s: s}
	kind, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	modified := time.Time{}
	switch kind {
	case "missing":
		http.NotFound(w, r)
		return
	case "secret":
		if r.Header.Get("X-Token") != "secret" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		w.Header().Set("ETag", `"s"`)
	case "etag":
		w.Header().Set("ETag", `"e"`)
	case "date":
		modified = time.Unix(1e9, 0)
	case "whole":
		w.Header().Set("ETag", `"w"`)
		r.Header.Del("Range")
		// A second seed may find out by itself that ranges are ignored, and reads nothing then: what fills the buffers
		// of the connection, which grow to megabytes, is not to count as a copy. Small buffers are slow, so no other
		// request is to come that way.
		w.Header().Set("Connection", "close")
		_ = r.Context().Value(connKey{}).(*net.TCPConn).SetWriteBuffer(16 << 10)
	case "chunked":
		w.Header().Set("ETag", `"c"`)
		w.(http.Flusher).Flush()
		if r.Method == http.MethodGet {
			cw.chunks()
		}
		return
	}
	http.ServeContent(cw, r, "", modified, bytes.NewReader(s.data))
}

type countedWriter struct {
	http.ResponseWriter
	s *fileServer
}

func (w *countedWriter) Write(p []byte) (int, error) {
	if rate := w.s.rate.Load(); rate > 0 {
		time.Sleep(time.Duration(len(p)) * time.Second / time.Duration(rate))
	}
	if w.s.line != nil {
		_ = w.s.line.WaitN(context.Background(), len(p)) // the burst is larger than a Write
	}
	w.s.sent.Add(int64(len(p))) // before it can be read
	n, err := w.ResponseWriter.Write(p)
	w.s.sent.Add(int64(n - len(p)))
	return n, err
}

// chunks writes the file as one that is made while it is sent.
func (w *countedWriter) chunks() {
	sent := 0
	for part := range slices.Chunk(w.s.data, 64<<10) {
		if sent += len(part); sent > len(w.s.data)/2 {
			w.s.half.Do(func() { close(w.s.halfway) })
		}
		if _, err := w.Write(part); err != nil {
			return // the client has gone
		}
		w.ResponseWriter.(http.Flusher).Flush()
	}
}

// copies runs f and returns how many copies of the file the server sent for it.
func (s *fileServer) copies(f func()) float64 {
	before := s.sent.Load()
	f()
	return float64(s.sent.Load()-before) / float64(len(s.data))
}

// get runs meshd get beside a node.
func (n *node) get(ctx context.Context, t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	args = append([]string{"get", "--admin-addr", n.admin(), "--mirror-addr", n.mirror(), "--data-dir", n.dir}, args...)
	return exec.CommandContext(ctx, meshdBinary(t), args...)
}

// mustGet gets a file and compares.
func (n *node) mustGet(t testing.TB, s *fileServer, path string, args ...string) error {
	out := filepath.Join(n.dir, "got"+strings.ReplaceAll(path, "/", "-"))
	defer os.Remove(out)
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	text, err := n.get(ctx, t, append(args, "-o", out, s.url(path))...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: get %s: %w\n%s", n.name, path, err, text)
	}
	if bytes.Contains(text, []byte("server")) {
		return fmt.Errorf("%s: get %s: not through the node: %s", n.name, path, text)
	}
	got, err := os.ReadFile(out)
	if err == nil && !bytes.Equal(got, s.data) {
		err = fmt.Errorf("%s: get %s: another file, of %d bytes", n.name, path, len(got))
	}
	return err
}

// filesMesh is a mesh beside a server of files that seeds read.
func filesMesh(t testing.TB, size int, specs ...nodeSpec) (*mesh, *fileServer) {
	t.Helper()
	net := newNetwork(t)
	s := startFileServer(t, net, size)
	m := &mesh{net: net, origin: "http://" + net.host(200) + ":5000", dir: t.TempDir()}
	m.extra = []string{"--files-allow", s.addr, "--gateway-allow", s.addr}
	m.start(t, specs...)
	return m, s
}

// Eight hosts get a file at once, from servers good and bad: what can be told apart leaves its origin once.
func TestGetThroughMesh(t *testing.T) {
	long(t)
	var specs []nodeSpec
	for i := range 8 {
		specs = append(specs, nodeSpec{zone: []string{"east", "west"}[i%2], seed: i < 2})
	}
	m, s := filesMesh(t, 24*mib, specs...)
	for _, row := range []struct {
		path   string
		args   []string
		copies float64
	}{
		{"/etag/a", nil, 1},
		{"/date/a", nil, 1},
		{"/whole/a", nil, 1},
		{"/chunked/a", nil, 1},
		{"/secret/a", []string{"-H", "X-Token: secret"}, 1},
		{"/plain/a", nil, 8},
	} {
		n := s.copies(func() {
			var gets []func() error
			for _, n := range m.nodes {
				gets = append(gets, func() error { return n.mustGet(t, s, row.path, row.args...) })
			}
			atOnce(t, gets...)
		})
		t.Logf("%s: %.4f copies", row.path, n)
		if n > row.copies*maxCopies || n < row.copies {
			t.Errorf("%s: %.4f copies left the origin, want %.0f", row.path, n, row.copies)
		}
	}
	for _, n := range m.nodes {
		if bytes.Contains([]byte(n.output()), []byte("X-Token")) || strings.Contains(n.output(), "secret\"") {
			t.Errorf("%s logs the header", n.name)
		}
	}
}

// A file of which its server tells no length, and which takes longer to come than anybody waits for one who does nothing: who
// asks at once and who asks while it is being read gets it of one reading, a seed's or a host's own.
func TestGetWithoutLength(t *testing.T) {
	long(t)
	m, s := filesMesh(t, 8*mib, nodeSpec{"east", true}, nodeSpec{"east", false}, nodeSpec{"west", false}, nodeSpec{"west", false})
	const takes = 13 * time.Second
	s.rate.Store(int64(len(s.data)) / int64(takes/time.Second))
	n := s.copies(func() {
		var gets []func() error
		for i, n := range m.nodes[1:] {
			get := func() error { return n.mustGet(t, s, "/chunked/by-a-seed") }
			late := func() error {
				select {
				case <-s.halfway:
				case <-time.After(clientTimeout):
				}
				return get()
			}
			gets = append(gets, []func() error{get, late}[i%2], func() error {
				return n.mustGet(t, s, "/chunked/by-a-host", "-H", "X-Token: secret")
			})
		}
		atOnce(t, gets...)
	})
	if n < 2 || n > 2*maxCopies {
		t.Errorf("%.4f copies left the origin of two files, want 1.0000 of each", n)
	}
}

// What meshd get says by its exit code, that it goes on where it was, and that it works without a node.
func TestGetCommand(t *testing.T) {
	long(t)
	m, s := filesMesh(t, 16*mib, nodeSpec{"east", true})
	n, dir := m.nodes[0], t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	out := filepath.Join(dir, "out")
	for _, row := range []struct {
		name string
		args []string
		code int
	}{
		{"a URL of nothing", []string{"ftp://a.example/b"}, 2},
		{"an output that is a directory for no name", []string{"-o", dir + "/", s.url("/")}, 2},
		{"missing", []string{"-o", out, s.url("/missing/a")}, 3},
		{"refused", []string{"-o", out, s.url("/secret/a")}, 4},
		{"wrong digest", []string{"-o", out, "--digest", "md5:00000000000000000000000000000000", s.url("/etag/a")}, 5},
		{"wrong digest, told to the node", []string{"-o", out, "--digest", "sha256:" + strings.Repeat("0", 64), s.url("/etag/a")}, 5},
		{"too slow", []string{"-o", filepath.Join(dir, "slow"), "--limit", "1MB/s", "--timeout", "500ms", s.url("/etag/a")}, 7},
		{"no place", []string{"-o", filepath.Join(dir, "none", "out"), s.url("/etag/a")}, 8},
	} {
		text, err := n.get(ctx, t, row.args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != row.code {
			t.Errorf("%s: %v, want exit code %d\n%s", row.name, err, row.code, text)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: a file is there", row.name)
		}
	}

	t.Run("interrupted and gone on with", func(t *testing.T) {
		cmd := n.get(ctx, t, "-o", out, "--limit", "2MB/s", "--json", s.url("/etag/a")) // 8 s
		pipe, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		dec := json.NewDecoder(pipe)
		for ev := (event{}); ev.Event != "progress" || ev.Done < mib; {
			must(t, dec.Decode(&ev))
		}
		must(t, cmd.Process.Signal(syscall.SIGINT))
		_, _ = io.Copy(io.Discard, pipe)
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
			t.Errorf("%v, want exit code 130", err)
		}
		text, err := n.get(ctx, t, "-o", out, "--json", s.url("/etag/a")).Output()
		must(t, err)
		var first event
		must(t, json.Unmarshal(bytes.SplitN(text, []byte("\n"), 2)[0], &first))
		if first.Event != "start" || first.Done < mib || first.From != "the node" {
			t.Errorf("began with %+v", first)
		}
		sameFile(t, out, s.data)
	})

	t.Run("killed", func(t *testing.T) {
		s.rate.Store(8 * mib)
		defer s.rate.Store(0)
		killed := filepath.Join(dir, "killed")
		cmd := n.get(ctx, t, "-o", killed, s.url("/etag/killed"))
		must(t, cmd.Start())
		before := s.sent.Load()
		for s.sent.Load()-before < 4*mib {
			time.Sleep(5 * time.Millisecond)
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		if text, err := n.get(ctx, t, "-o", killed, s.url("/etag/killed")).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		sameFile(t, killed, s.data)
		if sent := s.sent.Load() - before; sent > int64(len(s.data))*101/100 {
			t.Errorf("the origin sent %d bytes for %d: the node has kept nothing", sent, len(s.data))
		}
	})

	t.Run("to standard output, alone", func(t *testing.T) {
		text, err := n.get(ctx, t, "--alone", "-o", "-", s.url("/date/a")).Output()
		if err != nil || !bytes.Equal(text, s.data) {
			t.Errorf("%d bytes, %v", len(text), err)
		}
	})

	t.Run("several into a directory, without a node", func(t *testing.T) {
		into := t.TempDir()
		cmd := exec.Command(meshdBinary(t), "get", "--admin-addr", m.net.host(99)+":1", "--mirror-addr", m.net.host(99)+":2", "-o", into,
			s.url("/etag/one"), s.url("/missing/two"), s.url("/date/three"))
		text, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 3 || !bytes.Contains(text, []byte("nothing listens there")) {
			t.Errorf("%v\n%s", err, text)
		}
		sameFile(t, filepath.Join(into, "one"), s.data)
		sameFile(t, filepath.Join(into, "three"), s.data)
	})
}

// event is a line of meshd get --json.
type event struct {
	Event, From string
	Done        int64
}

func sameFile(t testing.TB, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, %v", filepath.Base(path), len(got), err)
	}
	if list, _ := filepath.Glob(path + ".*"); len(list) > 0 {
		t.Errorf("left beside it: %v", list)
	}
}

// Programs use the gateway: curl with ranges and conditions.
func TestGatewayForCurl(t *testing.T) {
	long(t)
	need(t, "curl")
	m, s := filesMesh(t, 3*mib, nodeSpec{"east", false})
	at := "http://" + m.nodes[0].mirror() + "/mesh/"
	out, err := command("curl", "-sS", "-f", "-r", "1000000-1000009", at+s.url("/etag/a"))
	if err != nil || out != string(s.data[1000000:1000010]) {
		t.Errorf("a range: %q, %v", out, err)
	}
	file := filepath.Join(t.TempDir(), "out")
	must(t, os.WriteFile(file, s.data[:2*mib], 0o600))
	if _, err := command("curl", "-sS", "-f", "-C", "-", "-o", file, at+s.url("/etag/a")); err != nil {
		t.Error(err)
	}
	sameFile(t, file, s.data)
	for _, url := range []string{"http://169.254.169.254/latest/meta-data/", "http://" + m.nodes[0].admin() + "/v1/status", "http://files.example/"} {
		if out, err := command("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", at+url); err != nil || out != "403" {
			t.Errorf("%s: %s, %v", url, out, err)
		}
	}
}

// An image becomes a layout and an archive that skopeo reads, through the mirror.
func TestGetImage(t *testing.T) {
	long(t)
	need(t, "skopeo")
	m := newMesh(t, nodeSpec{"east", true})
	img := m.registry.pushImage(t, "library/got", 61, 3*mib, 1*mib)
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	for target, scheme := range map[string]string{"layout": "oci:", "image.tar": "oci-archive:"} {
		out := filepath.Join(dir, target)
		if text, err := m.nodes[0].get(ctx, t, "-o", out, "docker://"+registryHost+"/"+img.repo+":"+img.tag).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", target, err, text)
		}
		copied := filepath.Join(dir, target+"-copied")
		if _, err := command("skopeo", "--insecure-policy", "copy", scheme+out+":"+img.tag, "dir:"+copied); err != nil {
			t.Fatal(err)
		}
		for _, b := range img.blobs() {
			if err := checkFile(filepath.Join(copied, b.Digest.Hex), b.Digest); err != nil {
				t.Errorf("%s: %v", target, err)
			}
		}
		if list, _ := filepath.Glob(out + ".*"); len(list) > 0 {
			t.Errorf("left beside it: %v", list)
		}
	}
	m.checkCopies(t, img.size, maxCopies)
	for _, row := range []struct {
		args []string
		code int
	}{
		{[]string{"-o", filepath.Join(dir, "none"), "docker://" + registryHost + "/library/none:latest"}, 3},
		{[]string{"-o", filepath.Join(dir, "layout"), "docker://" + registryHost + "/" + img.repo + ":" + img.tag}, 8},
		{[]string{"docker://" + registryHost + "/" + img.repo}, 2},
	} {
		text, err := m.nodes[0].get(ctx, t, row.args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != row.code {
			t.Errorf("%q: %v, want exit code %d\n%s", row.args, err, row.code, text)
		}
	}
}
