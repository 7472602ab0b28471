package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A real containerd has pulled an image from the registry itself. The meshd beside it (--containerd-content) keeps none of it
// and serves its layers out of containerd's store, once a client of that host was allowed them by the registry, which
// sends not a byte of them: not to that client, not to the other host.
func TestContainerdContent(t *testing.T) {
	long(t)
	need(t, "containerd", "ctr")
	c := startContainerd(t)
	n := newNetwork(t)
	r := startRegistry(t, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir()}
	m.each = func(n *node) []string {
		if filepath.Base(n.dir) == "node-1" {
			return []string{"--containerd-content", filepath.Join(c.dir, "root", "io.containerd.content.v1.content")}
		}
		return nil
	}
	m.start(t, nodeSpec{"east", false}, nodeSpec{"east", false})
	beside, other := m.nodes[0], m.nodes[1]
	img := r.pushImage(t, "library/shelved", 63, 9*mib, 5*mib+17, mib)
	named := *img
	named.repo = registryHost + "/" + img.repo
	must(t, c.pull(t, &named, r.addr, ""))
	if s := beside.stored(t); s.Shelved != 0 || s.Blobs != 0 {
		t.Fatalf("before anybody asked: %+v", s)
	}

	for _, host := range []*node{beside, other} {
		for _, b := range img.blobs() {
			must(t, host.pullLayer(img.repo, b))
		}
	}
	if sent := r.proxy.counts(t).BlobBytes; sent != 0 {
		t.Errorf("the registry sent %d bytes of blobs", sent)
	}
	if in := other.status(t).BytesIn; in.Zone != img.size || in.Origin != 0 {
		t.Errorf("the other host took in %+v, want %d of its zone", in, img.size)
	}
	if s := beside.stored(t); s.Shelved != img.size || s.Bytes != 0 {
		t.Errorf("beside containerd: %+v, want %d bytes on the shelf and none else", s, img.size)
	}
	for name := range beside.files(t) {
		for _, b := range img.blobs() {
			if strings.HasSuffix(name, b.Digest.Hex) {
				t.Errorf("%s is there twice", name)
			}
		}
	}
}

// pullLayer pulls a blob of an image at the node's mirror and checks it.
func (n *node) pullLayer(repo string, d v1.Descriptor) error {
	body, err := n.open(blob{repo: repo, hash: d.Digest})
	if err != nil {
		return err
	}
	defer body.Close()
	hash, size, err := v1.SHA256(body)
	if err == nil && (hash != d.Digest || size != d.Size) {
		err = fmt.Errorf("%s gave %d bytes that are %v, want %v", n.name, size, hash, d.Digest)
	}
	return err
}

// stored is the part of /v1/status that tells what is on disk.
func (n *node) stored(t testing.TB) (s struct{ Bytes, Shelved, Blobs int64 }) {
	t.Helper()
	var all struct {
		Store *struct{ Bytes, Shelved, Blobs int64 }
	}
	all.Store = &s
	must(t, getJSON("http://"+n.admin()+"/v1/status", &all))
	return s
}
