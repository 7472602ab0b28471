package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/store/storetest"
)

func fileBucket(t *testing.T, dir string) *Bucket {
	t.Helper()
	b, err := Open(t.Context(), "file://"+dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestFileBucket(t *testing.T) {
	storetest.Keeper(t, func(t *testing.T) store.Keeper { return fileBucket(t, t.TempDir()) })
}

// A blob without its outline is not there, and what is not ours is not listed.
func TestBucketLayout(t *testing.T) {
	dir := t.TempDir()
	b := fileBucket(t, dir)
	data := storetest.Sample(1, 3*storetest.PieceSize)
	d := digest.FromBytes(data)
	if err := b.Keep(t.Context(), d, storetest.Outline(data), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", d.Encoded()))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("not byte for byte: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "claims", "sha256")); err == nil && len(left) > 0 {
		t.Errorf("claims left: %v", left)
	}
	meta := filepath.Join(dir, "blobs", "sha256", d.Encoded()+metaExt)
	if err := os.WriteFile(meta, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(t.Context(), d); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("damaged outline: %v", err)
	}
	if err := os.Remove(meta); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "blobs", "readme.meta"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	storetest.Backend(t, b)
	err = b.Walk(t.Context(), func(d digest.Digest) error { t.Errorf("listed: %s", d); return nil })
	if err != nil {
		t.Error(err)
	}
}

// An object of another size is one bad blob, not a bucket that fails.
func TestCutObject(t *testing.T) {
	dir := t.TempDir()
	b := fileBucket(t, dir)
	data := storetest.Sample(1, 3*storetest.PieceSize)
	d := digest.FromBytes(data)
	keep(t, b, d, data)
	for _, size := range []int64{0, 1000, int64(len(data)) + 1} {
		if err := os.Truncate(filepath.Join(dir, "blobs", "sha256", d.Encoded()), size); err != nil {
			t.Fatal(err)
		}
		o, err := b.Open(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		body, err := o.(*object).Stream(t.Context(), 2000, 10)
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("of %d bytes: %v", size, err)
		}
		if err == nil {
			body.Close()
		}
	}
}

// Of two seeds one writes; the other is told so, and takes over from one that has gone.
func TestClaim(t *testing.T) {
	dir := t.TempDir()
	b := fileBucket(t, dir)
	data := storetest.Sample(1, 3*storetest.PieceSize)
	d := digest.FromBytes(data)
	if err := b.claim(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	other := fileBucket(t, dir)
	if err := other.Keep(t.Context(), d, storetest.Outline(data), bytes.NewReader(data)); !errors.Is(err, ErrClaimed) || !errors.Is(err, store.ErrInUse) {
		t.Errorf("claimed by another: %v", err)
	}
	storetest.Backend(t, other)
	if err := other.Drop(t.Context(), d); !errors.Is(err, ErrClaimed) {
		t.Errorf("drop of what another writes: %v", err)
	}
	old := filepath.Join(dir, filepath.FromSlash(key("claims", d)))
	info, err := os.Stat(old)
	if err != nil {
		t.Fatal(err)
	}
	past := info.ModTime().Add(-claimFor)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	if err := other.Keep(t.Context(), d, storetest.Outline(data), bytes.NewReader(data)); err != nil {
		t.Errorf("after the claim: %v", err)
	}
	storetest.Backend(t, other, data)
}

// A claim that a seed could not give back does not keep it from writing.
func TestOwnClaim(t *testing.T) {
	b := fileBucket(t, t.TempDir())
	data := storetest.Sample(1, 3*storetest.PieceSize)
	d := digest.FromBytes(data)
	if err := b.claim(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	keep(t, b, d, data)
	storetest.Backend(t, b, data)
}

// ghosts is an S3 server that refuses to make objects that are not there, as if they were.
type ghosts struct {
	mu      sync.Mutex
	objects map[string][]byte
	refused int
}

func (g *ghosts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch data, there := g.objects[r.URL.Path]; {
	case r.Method == http.MethodPut && r.Header.Get("If-None-Match") != "":
		g.refused++
		w.WriteHeader(http.StatusPreconditionFailed)
		_, _ = io.WriteString(w, "<Error><Code>PreconditionFailed</Code></Error>")
	case r.Method == http.MethodPut:
		data, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		g.objects[r.URL.Path] = data
	case r.Method == http.MethodDelete:
		delete(g.objects, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	case !there:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
	default:
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data)
	}
}

// A claim that is there only for those who would make it does not keep a blob out of the bucket for ever.
func TestGhostClaim(t *testing.T) {
	g := &ghosts{objects: map[string][]byte{}}
	server := httptest.NewServer(g)
	defer server.Close()
	b, err := Open(t.Context(), "s3://layers?region=us-east-1&anonymous=true&use_path_style=true&endpoint="+server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	data := storetest.Sample(1, 3*storetest.PieceSize)
	d := digest.FromBytes(data)
	keep(t, b, d, data)
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.objects) != 2 || g.refused != 1 {
		t.Errorf("%d objects, want the blob and its outline alone; %d refused", len(g.objects), g.refused)
	}
}

func TestCheck(t *testing.T) {
	for text, ok := range map[string]bool{
		"s3://bucket": true, "s3://bucket?endpoint=http://127.0.0.1:7070&use_path_style=true": true,
		"gs://bucket": true, "azblob://container": true, "file:///srv/blobs": true,
		"": false, "bucket": false, "s3://": false, "http://bucket": false, "mem://": false, "file://host/x": false,
		"file:relative": false, "s3://user:pa55word@bucket": false, "s3://bucket?awssecret=pa55word": false, "%": false,
		"s3://pa55word:%zz@bucket": false,
	} {
		err := Check(text)
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), "pa55word") {
			t.Errorf("the error tells the password: %v", err)
		}
		if ok {
			continue // opening it would make a folder, or ask a cloud who this machine is
		}
		if b, err := Open(context.Background(), text); err == nil {
			b.Close()
			t.Errorf("%q is opened", text)
		}
	}
}
