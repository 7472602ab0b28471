package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// gateway is a real S3 server over a directory.
type gateway struct {
	*process
	addr string
	dir  string // the bucket's
}

const gatewayBucket = "layers"

// startGateway starts versitygw with one bucket, and has the nodes that are started from here on know its credentials.
func startGateway(t testing.TB, n network) *gateway {
	t.Helper()
	g := &gateway{addr: n.host(210) + ":7070", dir: filepath.Join(t.TempDir(), gatewayBucket)}
	must(t, os.MkdirAll(g.dir, 0o700))
	t.Setenv("AWS_ACCESS_KEY_ID", "meshd")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "meshd-e2e-secret")
	g.start(t)
	return g
}

func (g *gateway) start(t testing.TB) {
	t.Helper()
	args := []string{"--port", g.addr, "--access", "meshd", "--secret", "meshd-e2e-secret", "--region", "us-east-1", "--quiet", "posix"}
	if err := unix.Setxattr(g.dir, "user.meshd-e2e", []byte("try"), 0); err != nil { // it keeps metadata there, if it can
		args = append(args, "--sidecar", t.TempDir())
	}
	cmd := exec.Command(client(t, "github.com/versity/versitygw/cmd/versitygw"), append(args, filepath.Dir(g.dir))...)
	g.process = startProcess(t, "versitygw", cmd)
	g.waitFor(t, "a listener", time.Minute, func() error {
		c, err := net.Dial("tcp", g.addr)
		if err == nil {
			c.Close()
		}
		return err
	})
}

func (g *gateway) url() string {
	return "s3://" + gatewayBucket + "?endpoint=http://" + g.addr + "&use_path_style=true&region=us-east-1"
}

// storageStatus is seed_storage in /v1/status.
type storageStatus struct {
	Read, Write struct{ Problem string }
	Pending     int
	BlobsOut    int64 `json:"blobs_out"`
	BytesIn     int64 `json:"bytes_in"`
}

func (n *node) storage(t testing.TB) storageStatus {
	t.Helper()
	resp, err := httpClient.Get("http://" + n.admin() + "/v1/status")
	must(t, err)
	defer resp.Body.Close()
	var s struct {
		Storage *storageStatus `json:"seed_storage"`
	}
	must(t, json.NewDecoder(resp.Body).Decode(&s))
	if s.Storage == nil {
		t.Fatal("no seed_storage in the status")
	}
	return *s.Storage
}

// waitWritten waits until a seed holds an image, which takes it a little longer than to give it to a client, and has nothing
// left to write to the bucket.
func (n *node) waitWritten(t testing.TB, img *image) {
	t.Helper()
	n.waitFor(t, "an end of writing", 60*time.Second, func() error {
		if missing := n.lacks(t, img); len(missing) > 0 {
			return fmt.Errorf("it lacks %v", missing)
		}
		if s := n.storage(t); s.Pending > 0 || s.Write.Problem != "" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

// has checks that the bucket has an image's blobs, byte for byte.
func (g *gateway) has(t testing.TB, img *image) {
	t.Helper()
	if err := g.check(img); err != nil {
		t.Error(err)
	}
}

func (g *gateway) check(img *image) error {
	var errs []error
	for _, b := range img.blobs() {
		data, err := os.ReadFile(filepath.Join(g.dir, "blobs", "sha256", b.Digest.Hex))
		sum := sha256.Sum256(data)
		if err != nil || hex.EncodeToString(sum[:]) != b.Digest.Hex {
			errs = append(errs, fmt.Errorf("%s in the bucket: %d bytes (%v)", b.Digest, len(data), err))
		}
	}
	return errors.Join(errs...)
}

// spoil makes a blob in the bucket another, one short, and one empty, and puts something there that is nobody's.
func (g *gateway) spoil(t testing.TB, img *image) {
	t.Helper()
	at := func(i int) string { return filepath.Join(g.dir, "blobs", "sha256", img.blobs()[i].Digest.Hex) }
	data, err := os.ReadFile(at(1))
	must(t, err)
	data[len(data)/2]++
	must(t, os.WriteFile(at(1), data, 0o600))
	must(t, os.Truncate(at(2), 1000))
	must(t, os.Truncate(at(0), 0))
	must(t, os.WriteFile(at(0)+".txt", []byte("not of meshd"), 0o600))
}

// forget has a seed begin with an empty disk.
func (n *node) forget(t testing.TB) {
	t.Helper()
	n.kill()
	must(t, os.RemoveAll(filepath.Join(n.dir, "blobs")))
	n.start(t)
}

// Two seeds share a bucket in a real S3 server. A blob is written once and the registry sends it once, whatever becomes of
// the seeds' disks; a server that is away or refuses is noticed, and costs nothing but that.
func TestSeedStorage(t *testing.T) {
	n := newNetwork(t)
	g := startGateway(t, n)
	r := startRegistry(t, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir(), extra: []string{"--seed-storage", g.url()}}
	m.start(t, nodeSpec{"one", true}, nodeSpec{"one", true})

	img := r.pushImage(t, "library/stored", 1, 20*mib, 3*mib)
	for _, node := range m.nodes {
		must(t, httpPull(t.Context(), node.mirror(), img))
	}
	var written int64
	for _, node := range m.nodes {
		node.waitWritten(t, img)
		written += node.storage(t).BlobsOut
	}
	g.has(t, img)
	// The seeds keep the manifest as well, which is no blob of the registry's count.
	if want := int64(len(img.blobs())); written < want || written > want+1 {
		t.Errorf("%d blobs written, the image has %d and a manifest", written, want)
	}

	before := r.proxy.counts(t).BlobBytes
	for _, node := range m.nodes {
		node.forget(t)
	}
	m.waitJoined(t)
	for _, node := range m.nodes {
		must(t, httpPull(t.Context(), node.mirror(), img))
	}
	if got := r.proxy.counts(t).BlobBytes - before; got != 0 {
		t.Errorf("the registry sent %d bytes that the bucket has", got)
	}
	if in := m.nodes[0].storage(t).BytesIn + m.nodes[1].storage(t).BytesIn; in < img.size {
		t.Errorf("%d bytes of %d came from the bucket", in, img.size)
	}

	g.spoil(t, img)
	for _, node := range m.nodes {
		node.forget(t)
	}
	m.waitJoined(t)
	must(t, httpPull(t.Context(), m.nodes[0].mirror(), img)) // which compares every digest
	m.nodes[0].waitFor(t, "a bucket that is whole again", 60*time.Second, func() error { return g.check(img) })

	g.kill()
	second := r.pushImage(t, "library/stored", 2, 5*mib)
	must(t, httpPull(t.Context(), m.nodes[0].mirror(), second))
	m.nodes[0].waitFor(t, "a state that says so", 60*time.Second, func() error {
		if s := m.nodes[0].storage(t); s.Write.Problem == "" || s.Pending == 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	g.start(t)
	m.nodes[0].waitWritten(t, second)
	g.has(t, second)

	t.Setenv("AWS_SECRET_ACCESS_KEY", "another")
	m.nodes[0].forget(t)
	third := r.pushImage(t, "library/stored", 3, 5*mib)
	must(t, httpPull(t.Context(), m.nodes[0].mirror(), third))
	m.nodes[0].waitFor(t, "a state that says so", 60*time.Second, func() error {
		if s := m.nodes[0].storage(t); s.Write.Problem != "forbidden" {
			return errors.New(s.Write.Problem)
		}
		return nil
	})
}
