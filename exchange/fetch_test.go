package exchange

import (
	"context"
	"errors"
	"testing"

	"github.com/meshd-project/meshd/exchange/swarm"
)

func background(w Want) Want {
	w.Class = swarm.Background
	return w
}

// TestFetch checks that Fetch returns once the blob is on disk, says how far it is, and is at once done with what is there.
func TestFetch(t *testing.T) {
	data, d := content(8<<20, 21)
	o := newOrigin(data)
	n := startNode(t, nodeConfig{origin: o})
	var last int64
	for range 2 {
		last = 0
		err := n.Fetch(t.Context(), background(want(d, int64(len(data)))), func(b int64) {
			if b < last {
				t.Errorf("%d bytes after %d", b, last)
			}
			last = b
		})
		if _, ok := n.Stat(d); err != nil || !ok || last != int64(len(data)) {
			t.Fatalf("%v, on disk %v, told %d", err, ok, last)
		}
	}
	if o.sent.Load() != int64(len(data)) {
		t.Errorf("origin sent %s copies", copies(o, data))
	}
}

// TestFetchCancelled checks that a fetch that nobody else wants ends with its context, and one that somebody reads does not.
func TestFetchCancelled(t *testing.T) {
	data, d := content(16<<20, 22)
	o := newOrigin(data)
	n := startNode(t, nodeConfig{origin: o})
	for _, reads := range []bool{false, true} {
		gate := make(chan struct{})
		o.mu.Lock()
		o.gate, o.before = gate, 4<<20 // the fetch does not end before its context does
		o.mu.Unlock()
		ctx, cancel := context.WithCancel(t.Context())
		err := n.Fetch(ctx, background(want(d, int64(len(data)))), func(b int64) {
			if b < 2<<20 {
				return
			}
			if reads {
				h, err := n.Open(t.Context(), background(want(d, int64(len(data)))))
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { _ = h.Close() })
			}
			cancel()
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("it ended with %v", err)
		}
		if reads {
			close(gate)
		}
		eventually(t, "end of the fetch", func() bool { return len(n.Status().Pulls) == 0 && o.open.Load() == 0 })
		if _, ok := n.Stat(d); ok != reads {
			t.Errorf("with a reader: %v; came whole: %v", reads, ok)
		}
		cancel()
	}
}

// TestFetchPrivateFromPeers checks that a node without credentials gets a private blob from one that has some, never from the origin, and
// by its private name.
func TestFetchPrivateFromPeers(t *testing.T) {
	data, d := content(8<<20, 23)
	o := newOrigin(data)
	o.auth = "Basic good"
	nodes := []*node{startNode(t, nodeConfig{origin: o}), startNode(t, nodeConfig{origin: o})}
	mesh(t, nodes...)
	w := background(want(d, int64(len(data))))
	w.Authorization = "Basic good"
	if err := nodes[0].Fetch(t.Context(), w, nil); err != nil {
		t.Fatal(err)
	}
	w.Authorization, w.FromPeers = "", true
	if err := nodes[1].Fetch(t.Context(), w, nil); err != nil {
		t.Fatal(err)
	}
	if _, public := nodes[1].Stat(d); public {
		t.Error("it is public there")
	}
	if o.sent.Load() != int64(len(data)) {
		t.Errorf("origin sent %s copies", copies(o, data))
	}
	lone := startNode(t, nodeConfig{origin: o})
	if err := lone.Fetch(t.Context(), w, nil); !errors.Is(err, ErrNoProvider) {
		t.Errorf("without peers: %v", err)
	}
}
