package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a tmpfs of some MiB where a node is to have its data.
func smallDisk(t testing.TB, dir string, size int64) {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "a small disk needs root")
	}
	must(t, os.MkdirAll(dir, 0o700))
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// smallDiskMesh is newMesh with the last node on a small disk.
func smallDiskMesh(t testing.TB, disk int64, flags []string, specs ...nodeSpec) (m *mesh, small *node) {
	t.Helper()
	n := newNetwork(t)
	r := startRegistry(t, n)
	m = &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir()}
	last := fmt.Sprint("node-", len(specs))
	m.each = func(n *node) []string {
		if filepath.Base(n.dir) == last {
			return append([]string{"--min-free", "1MiB"}, flags...)
		}
		return nil
	}
	smallDisk(t, filepath.Join(m.dir, last), disk)
	m.start(t, specs...)
	return m, m.nodes[len(m.nodes)-1]
}

// open begins a pull of a blob at the node's mirror.
func (n *node) open(b blob) (io.ReadCloser, error) {
	resp, err := httpClient.Get(fmt.Sprintf("http://%s/v2/%s/blobs/%s", n.mirror(), b.repo, b.hash))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, errors.New(resp.Status)
	}
	return resp.Body, nil
}

// pullBlob pulls a blob at the node's mirror and compares it.
func (n *node) pullBlob(b blob) error {
	body, err := n.open(b)
	if err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	defer body.Close()
	return same(n.name, body, b.data)
}

func same(name string, body io.Reader, want []byte) error {
	got, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("%s: %d bytes of %d, right so far: %v: %w", name, len(got), len(want), bytes.HasPrefix(want, got), err)
	}
	return nil
}

// tellsOfFullDisk checks what the operator sees, and that nothing half-written is claimed.
func (n *node) tellsOfFullDisk(t testing.TB, streamed int64) {
	t.Helper()
	s := n.status(t)
	if s.NotKept == nil || !strings.Contains(s.NotKept.Why, "no space") || s.StreamedBytes < streamed {
		t.Errorf("status: not kept %+v, %d bytes streamed, want %d", s.NotKept, s.StreamedBytes, streamed)
	}
	if v := n.metric(t, "meshd_not_kept"); v != 1 {
		t.Errorf("meshd_not_kept is %v", v)
	}
	if !strings.Contains(n.output(), "the disk takes no more") {
		t.Error("the log does not say it")
	}
	for name := range n.files(t) {
		if filepath.Base(filepath.Dir(name)) == "sha256" && filepath.Base(filepath.Dir(filepath.Dir(name))) == "blobs" {
			t.Errorf("%s is kept as if it were whole", name)
		}
	}
}

// One host of three has a disk that is smaller than the blob: it streams from the others, and the registry sends one copy,
// whoever asks first.
func TestBlobLargerThanTheDisk(t *testing.T) {
	const size = 48 * mib
	for _, row := range []struct {
		name  string
		specs []nodeSpec
		pull  func(m *mesh, small *node, b blob) []func() error
	}{
		{"all at once, no seed", []nodeSpec{{"east", false}, {"east", false}, {"east", false}}, func(m *mesh, small *node, b blob) (fs []func() error) {
			for _, n := range m.nodes {
				fs = append(fs, func() error { return n.pullBlob(b) })
			}
			return fs
		}},
		{"first and alone, a seed in another zone", []nodeSpec{{"west", true}, {"east", false}, {"east", false}}, func(m *mesh, small *node, b blob) []func() error {
			return []func() error{func() error {
				for _, n := range []*node{small, m.nodes[1], small} {
					if err := n.pullBlob(b); err != nil {
						return err
					}
				}
				return nil
			}}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			m, small := smallDiskMesh(t, 16*mib, nil, row.specs...)
			b := m.registry.pushBlob(t, "library/large", 61, size)
			atOnce(t, row.pull(m, small, b)...)
			m.checkCopies(t, size, 1.0005) // the registry's own headers are not counted; a request is
			small.tellsOfFullDisk(t, size)
			in := small.status(t)
			if in.BytesIn.Origin > 0 && row.specs[0].seed {
				t.Errorf("it read %d bytes of the registry", in.BytesIn.Origin)
			}
			t.Logf("the small disk: in %+v, duplicate %d, streamed %d", in.BytesIn, in.DuplicateBytes, in.StreamedBytes)
		})
	}
}

// A disk that others fill up in the middle of a pull: the client gets the rest all the same, the registry sends nothing
// twice, and with room again the next pull is kept, without what is on disk.
func TestDiskFillsUpInTheMiddle(t *testing.T) {
	const size = 48 * mib
	m, small := smallDiskMesh(t, 64*mib, []string{"--download-limit", "4MiB"}, nodeSpec{"east", false}, nodeSpec{"east", false}, nodeSpec{"east", false})
	b := m.registry.pushBlob(t, "library/large", 62, size)
	atOnce(t, func() error { return m.nodes[0].pullBlob(b) }, func() error { return m.nodes[1].pullBlob(b) })
	body, err := small.open(b)
	must(t, err)
	defer body.Close()
	first := make([]byte, 4*mib)
	_, err = io.ReadFull(body, first)
	must(t, err)
	filler := filepath.Join(small.dir, "filler")
	fill(t, filler) // in less than the 11 s that the rest would take
	small.setLimits(t, "--download", "0")
	next := make([]byte, 28*mib)
	_, err = io.ReadFull(body, next)
	must(t, err)
	small.tellsOfFullDisk(t, mib) // while the client lacks some: what is on disk of a blob that nobody reads may make room for another
	must(t, same(small.name, io.MultiReader(bytes.NewReader(first), bytes.NewReader(next), body), b.data))
	body.Close()
	in := small.status(t)
	t.Logf("filled up in the middle: in %+v, duplicate %d, streamed %d of %d", in.BytesIn, in.DuplicateBytes, in.StreamedBytes, size)
	if in.StreamedBytes > size-4*mib {
		t.Errorf("%d bytes streamed: what was on disk was not read from there", in.StreamedBytes)
	}

	must(t, os.Remove(filler))
	if s := small.status(t); s.NotKept != nil {
		t.Errorf("with room again: %+v", s.NotKept)
	}
	small.waitFor(t, "the end of the pull", time.Minute, func() error {
		if s := small.status(t); s.Pulls.n > 0 {
			return fmt.Errorf("%d pulls", s.Pulls.n)
		}
		return nil
	})
	must(t, small.pullBlob(b))
	more := small.status(t).BytesIn.minus(in.BytesIn)
	t.Logf("again, with room: in %+v", more)
	if more.network() > size-4*mib {
		t.Errorf("%d bytes came again: what was on disk is not used", more.network())
	}
	small.waitFor(t, "the blob on disk", time.Minute, func() error {
		for name, n := range small.files(t) {
			if strings.HasSuffix(name, b.hash.Hex) && n == size && strings.Contains(name, "/blobs/sha256/") {
				return nil
			}
		}
		return errors.New("it is not there")
	})
	m.checkCopies(t, size, 1.0005)
}

// fill takes all the room that is left where a file is to be.
func fill(t testing.TB, name string) {
	t.Helper()
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	for _, chunk := range []int{mib, 4096} {
		zeros := make([]byte, chunk)
		for err = nil; err == nil; {
			_, err = f.Write(zeros)
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}
