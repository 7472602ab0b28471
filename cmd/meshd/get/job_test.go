package get

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // users ask for it
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/meshd-project/meshd/seed/file"
)

func sample(seed byte, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// script is a source that gives one answer after the other.
type script struct {
	t    *testing.T
	next []func(off int64, tag string) (*Answer, error)
	asks []string
}

func (s *script) String() string { return "the script" }

func (s *script) Open(_ context.Context, _ File, off int64, tag string) (*Answer, error) {
	s.asks = append(s.asks, fmt.Sprintf("%d %s", off, tag))
	if len(s.next) == 0 {
		s.t.Fatalf("asked too often: %q", s.asks)
	}
	f := s.next[0]
	if len(s.next) > 1 {
		s.next = s.next[1:]
	}
	return f(off, tag)
}

// gives answers with data of a version, honouring the offset, and breaks after cut bytes if that is positive.
func gives(data []byte, version string, cut int) func(int64, string) (*Answer, error) {
	return func(off int64, tag string) (*Answer, error) {
		if tag != version || version == "" {
			off = 0
		}
		var r io.Reader = bytes.NewReader(data[off:])
		if cut > 0 {
			r = io.MultiReader(io.LimitReader(r, int64(cut)), iotest.ErrReader(&Error{Code: 1, Err: errors.New("cut"), again: time.Millisecond}))
		}
		return &Answer{Body: io.NopCloser(r), Off: off, Size: int64(len(data)), Tag: version}, nil
	}
}

func fails(code int, again time.Duration) func(int64, string) (*Answer, error) {
	return func(int64, string) (*Answer, error) {
		return nil, &Error{Code: code, Err: errors.New("refused"), again: again}
	}
}

func newJob(t *testing.T, next ...func(int64, string) (*Answer, error)) (*Job, *script) {
	s := &script{t: t, next: next}
	return &Job{Sources: []Source{s}, Target: filepath.Join(t.TempDir(), "out"), See: &silent{out: io.Discard}}, s
}

func (j *Job) left(t *testing.T) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(filepath.Dir(j.Target), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		list[i] = filepath.Base(list[i])
	}
	return strings.Join(list, " ")
}

func code(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return -1
}

func TestJob(t *testing.T) {
	one, two := sample(1, 100_000), sample(2, 100_000)
	sum := md5.Sum(one) //nolint:gosec // as above
	digest := "md5:" + hex.EncodeToString(sum[:])
	for _, row := range []struct {
		name   string
		next   []func(int64, string) (*Answer, error)
		digest string
		want   []byte // nil: it fails
		code   int
		asks   string
		left   string
	}{
		{"at once", []func(int64, string) (*Answer, error){gives(one, "v1", 0)}, digest, one, 0, "0 ", "out"},
		{"in two", []func(int64, string) (*Answer, error){gives(one, "v1", 30_000), gives(one, "v1", 0)}, digest, one, 0, "0 |30000 v1", "out"},
		{"changed between", []func(int64, string) (*Answer, error){gives(two, "v1", 30_000), gives(one, "v2", 0)}, digest, one, 0, "0 |30000 v1", "out"},
		{"no version", []func(int64, string) (*Answer, error){gives(one, "", 30_000), gives(one, "", 0)}, digest, one, 0, "0 |30000 ", "out"},
		{"refused at first", []func(int64, string) (*Answer, error){fails(1, time.Millisecond), gives(one, "v1", 0)}, "", one, 0, "0 |0 ", "out"},
		{"wrong digest", []func(int64, string) (*Answer, error){gives(two, "v1", 0)}, digest, nil, ExitDigest, "0 ", ""},
		{"not found", []func(int64, string) (*Answer, error){fails(ExitNotFound, 0)}, "", nil, ExitNotFound, "0 ", ""},
		{"too short", []func(int64, string) (*Answer, error){func(int64, string) (*Answer, error) {
			return &Answer{Body: io.NopCloser(bytes.NewReader(one[:10])), Size: 20, Tag: "v1"}, nil
		}, fails(ExitNotFound, 0)}, "", nil, ExitNotFound, "0 |10 v1", "out.meshd-part out.meshd-part.json"},
	} {
		t.Run(row.name, func(t *testing.T) {
			j, s := newJob(t, row.next...)
			j.Digest = row.digest
			err := j.Run(t.Context())
			if (err == nil) != (row.want != nil) || err != nil && code(err) != row.code {
				t.Fatalf("%v", err)
			}
			if got, _ := os.ReadFile(j.Target); !bytes.Equal(got, row.want) {
				t.Errorf("%d bytes, not the file's %d", len(got), len(row.want))
			}
			if got := strings.Join(s.asks, "|"); got != row.asks {
				t.Errorf("asked %q, want %q", got, row.asks)
			}
			if got := j.left(t); got != row.left {
				t.Errorf("left %q, want %q", got, row.left)
			}
		})
	}
}

// A file that is never twice the same ends in an error, and so does a source that never gives anything.
func TestJobGivesUp(t *testing.T) {
	n := 0
	j, _ := newJob(t, func(off int64, tag string) (*Answer, error) {
		n++
		return gives(sample(byte(n), 1000), fmt.Sprint("v", n), 500)(off, tag)
	})
	if err := j.Run(t.Context()); code(err) != 1 || n != maxVersions {
		t.Errorf("after %d versions: %v", n, err)
	}
	j, s := newJob(t, fails(1, time.Microsecond))
	if err := j.Run(t.Context()); code(err) != 1 || len(s.asks) != maxFailures+1 {
		t.Errorf("after %d times: %v", len(s.asks), err)
	}
	j, s = newJob(t, fails(ExitChanged, time.Microsecond))
	if err := j.Run(t.Context()); code(err) != ExitChanged || len(s.asks) != maxVersions {
		t.Errorf("after %d times: %v", len(s.asks), err)
	}
}

// What an interrupted run left is gone on with by the next, which checks the whole; what is not known to be on disk is not.
func TestJobGoesOn(t *testing.T) {
	data := sample(1, 100_000)
	sum := md5.Sum(data) //nolint:gosec // as above
	j, _ := newJob(t, func(off int64, tag string) (*Answer, error) {
		return gives(data, "v1", 0)(off, tag)
	})
	j.Limit = rate.NewLimiter(100, 20_000) // what comes after the burst would be late
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := j.Run(ctx); code(err) != ExitTimeout {
		t.Fatal(err)
	}
	part := j.Target + ".meshd-part"
	f, err := os.OpenFile(part, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 5000)); err != nil { // after the state was written: a power cut leaves what it likes
		t.Fatal(err)
	}
	f.Close()
	j, s := newJob(t, gives(data, "v1", 0))
	j.Target, j.Digest = strings.TrimSuffix(part, ".meshd-part"), "md5:"+hex.EncodeToString(sum[:])
	if err := j.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.asks[0] != "20000 v1" {
		t.Errorf("asked %q", s.asks)
	}
	if got, _ := os.ReadFile(j.Target); !bytes.Equal(got, data) {
		t.Error("another file")
	}
}

func TestJobToAPipe(t *testing.T) {
	data := sample(1, 1000)
	var out bytes.Buffer
	j, _ := newJob(t, gives(data, "v1", 300), gives(data, "v1", 0))
	j.Target, j.Out = "", &out
	if err := j.Run(t.Context()); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
	out.Reset()
	j, _ = newJob(t, gives(data, "v1", 300), gives(sample(2, 1000), "v2", 0))
	j.Target, j.Out = "", &out
	if err := j.Run(t.Context()); code(err) != ExitChanged || out.Len() != 300 {
		t.Errorf("%d bytes of two versions, %v", out.Len(), err)
	}
}

// A device or a pipe stays what it is; a directory is not written over, nor is what came lost if one gets in the way.
func TestTargetThatIsNoFile(t *testing.T) {
	data := sample(1, 1000)
	j, _ := newJob(t, gives(data, "v1", 0))
	if err := unix.Mkfifo(j.Target, 0o600); err != nil {
		t.Fatal(err)
	}
	came := make(chan []byte)
	go func() {
		got, _ := os.ReadFile(j.Target)
		came <- got
	}()
	err := j.Run(t.Context())
	if got := <-came; err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes through the pipe, %v", len(got), err)
	}
	if info, err := os.Lstat(j.Target); err != nil || info.Mode().Type() != os.ModeNamedPipe || j.left(t) != "out" {
		t.Errorf("%v, %v, %q", info.Mode(), err, j.left(t))
	}

	j, s := newJob(t, gives(data, "v1", 0))
	j.Target = filepath.Dir(j.Target)
	if err := j.Run(t.Context()); code(err) != ExitDisk || len(s.asks) > 0 {
		t.Errorf("asked %q, %v", s.asks, err)
	}

	j, s = newJob(t, gives(data, "v1", 0))
	give := s.next[0]
	s.next[0] = func(off int64, tag string) (*Answer, error) {
		_ = os.Mkdir(j.Target, 0o700)
		return give(off, tag)
	}
	if err := j.Run(t.Context()); code(err) != ExitDisk || j.left(t) != "out out.meshd-part out.meshd-part.json" {
		t.Errorf("%q, %v", j.left(t), err)
	}
}

// Where there is no room for the state of a part, nothing of it stays.
func TestStateThatCannotBeWritten(t *testing.T) {
	p, err := openPart(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.f.Close()
	if err := os.Mkdir(p.stateName(), 0o700); err != nil { // in the way of the rename
		t.Fatal(err)
	}
	p.tag = "v1"
	if _, err := p.Write(sample(1, 10)); err != nil {
		t.Fatal(err)
	}
	if err := p.sync(); err == nil || p.synced != 0 {
		t.Errorf("synced %d bytes, %v", p.synced, err)
	}
	if _, err := os.Stat(p.stateName() + ".tmp"); err == nil {
		t.Error("a temporary file stays")
	}
}

func TestOneTargetOneJob(t *testing.T) {
	j, _ := newJob(t, gives(nil, "v1", 0))
	p, err := openPart(j.Target)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Run(t.Context()); code(err) != ExitDisk {
		t.Errorf("%v", err)
	}
	// Opened before another process had finished it, and locked after: it is that one's file.
	late := &part{target: j.Target}
	if late.f, err = os.OpenFile(p.name(), os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	defer late.f.Close()
	if err := p.finish(); err != nil {
		t.Fatal(err)
	}
	if err := late.lock(); code(err) != ExitDisk {
		t.Errorf("the finished file is locked as a part: %v", err)
	}
	j.Target = filepath.Join(j.Target, "below", "a", "file")
	if err := j.Run(t.Context()); code(err) != ExitDisk {
		t.Errorf("%v", err)
	}
}

// absent is a source that cannot be asked.
type absent struct{}

func (absent) String() string { return "nobody" }

func (absent) Open(context.Context, File, int64, string) (*Answer, error) {
	return nil, fmt.Errorf("%w: gone", ErrAbsent)
}

func TestSourcesInTurn(t *testing.T) {
	data := sample(1, 1000)
	j, s := newJob(t, gives(data, "v1", 500), gives(data, "v1", 0))
	j.Sources = []Source{absent{}, s, absent{}}
	var said []string
	j.Say = func(s string) { said = append(said, s) }
	if err := j.Run(t.Context()); err != nil || len(said) != 1 {
		t.Errorf("%v, %q", err, said)
	}
	j, _ = newJob(t)
	j.Sources = []Source{absent{}}
	if err := j.Run(t.Context()); code(err) != ExitDenied {
		t.Errorf("%v", err)
	}
}

// Alone with a real server: an answer that breaks off is gone on with, and the server's own words decide the exit code.
func TestAlone(t *testing.T) {
	data := sample(1, 300_000)
	gets := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/missing":
			http.NotFound(w, r)
			return
		case "/private":
			w.WriteHeader(http.StatusForbidden)
			return
		case "/headless": // whatever is asked, the body is whole, and HEAD lies about it
			if r.Method == http.MethodHead {
				w.Header().Set("Content-Length", "0")
				return
			}
			w.Write(data) //nolint:errcheck // the client has gone
			return
		}
		w.Header().Set("ETag", `"v1"`)
		if r.Method == http.MethodGet {
			if gets++; gets == 1 {
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				w.Write(data[:100_000]) //nolint:errcheck // it is broken off
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			if got := r.Header.Get("Range"); got != "bytes=100000-" || r.Header.Get("If-Match") != `"v1"` {
				t.Errorf("asks for %q", got)
			}
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	defer s.Close()
	client := file.New(file.Config{})
	defer client.Close()
	run := func(path string) error {
		j, _ := newJob(t)
		j.Sources, j.File = []Source{Alone{client}}, File{URL: s.URL + path}
		err := j.Run(t.Context())
		if got, _ := os.ReadFile(j.Target); err == nil && !bytes.Equal(got, data) {
			t.Errorf("%s: another file", path)
		}
		return err
	}
	if err := run("/file"); err != nil {
		t.Error(err)
	}
	if err := run("/headless"); err != nil {
		t.Error(err)
	}
	if err := run("/missing"); code(err) != ExitNotFound {
		t.Error(err)
	}
	if err := run("/private"); code(err) != ExitDenied {
		t.Error(err)
	}
}

func TestCheckDigest(t *testing.T) {
	for s, ok := range map[string]bool{
		"md5:d41d8cd98f00b204e9800998ecf8427e": true, "MD5:D41D8CD98F00B204E9800998ECF8427E": true, "": false, "md5": false,
		"md5:": false, "md5:zz": false, "crc32:00000000": false, "sha256:d41d8cd98f00b204e9800998ecf8427e": false,
	} {
		if _, err := CheckDigest(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}
