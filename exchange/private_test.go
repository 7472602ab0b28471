package exchange

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
)

// TestPrivate: a private blob comes from a peer for whoever wants it with credentials of the same registry, and in no other
// way; a public copy serves everybody.
func TestPrivate(t *testing.T) {
	data, d := content(3<<20, 21)
	public, pd := content(1<<20, 22)
	o := newOrigin(data)
	o.auth = "Basic xyz"
	a := startNode(t, nodeConfig{origin: o})
	b := startNode(t, nodeConfig{origin: o})
	mesh(t, a, b)
	private := want(d, int64(len(data)))
	private.Authorization = o.auth
	a.mustPull(private, data)
	sent := o.sent.Load()
	b.mustPull(private, data)
	if more := o.sent.Load() - sent; more != 0 {
		t.Errorf("%d bytes from the origin for the second node", more)
	}
	id, err := store.Scoped(testRef.Registry, d)
	if err != nil {
		t.Fatal(err)
	}
	evil := private
	evil.Origin.Registry = "evil.example"
	for name, w := range map[string]Want{
		"by its digest":             {Digest: d, Size: -1, Class: swarm.Foreground},
		"on another registry's yes": {Digest: d, Size: -1, Class: swarm.Foreground, Origin: evil.Origin},
		"with other credentials":    {Digest: d, Size: -1, Class: swarm.Foreground, Origin: evil.Origin, Authorization: "Basic other"},
		"by its name":               want(id, -1),
	} {
		for _, n := range []*node{a, b} {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if h, err := n.Open(ctx, w); err == nil {
				t.Errorf("%s: opened %d bytes", name, h.Size())
			}
			cancel()
			if _, ok := n.Stat(w.Digest); ok {
				t.Errorf("%s: its size is told", name)
			}
		}
	}
	if _, err := a.Open(context.Background(), want(id, -1)); !errors.Is(err, ErrInvalidDigest) {
		t.Errorf("by its name: %v", err)
	}
	long := private
	long.Digest = digest.SHA512.FromBytes(data)
	if _, err := a.Open(context.Background(), long); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("sha512: %v", err)
	}

	o.mu.Lock()
	o.blobs[pd], o.auth = public, ""
	o.mu.Unlock()
	a.mustPull(want(pd, -1), public)
	eventually(t, "public copy kept", func() bool { _, ok := a.Stat(pd); return ok })
	requests := o.requests.Load()
	known := want(pd, -1)
	known.Authorization = "Basic xyz"
	a.mustPull(known, public)
	if n := o.requests.Load() - requests; n != 0 {
		t.Errorf("%d requests for a blob that is here and public", n)
	}
}

func TestContentAt(t *testing.T) {
	_, d := content(10, 1)
	id, err := store.Scoped(testRef.Registry, d)
	if err != nil {
		t.Fatal(err)
	}
	long := digest.SHA512.FromString("x")
	for _, c := range []struct {
		name    string
		d, want digest.Digest
		origin  string
	}{
		{"public", d, d, testRef.Registry},
		{"public sha512", long, long, testRef.Registry},
		{"private", id, d, testRef.Registry},
		{"private of another registry", id, "", "evil.example"},
	} {
		got, err := contentAt(c.d, swarm.OriginRef{Registry: c.origin, Repository: "a"})
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %s, %v", c.name, got, err)
		}
	}
}
