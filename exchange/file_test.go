package exchange

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
)

// seals is what nodes agree on in a test: the first root of a name counts.
type seals struct {
	mu    sync.Mutex
	roots map[digest.Digest]store.Hash
	asked int
}

func (s *seals) seal(_ context.Context, file digest.Digest, root store.Hash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if first, ok := s.roots[file]; ok && first != root {
		return ErrSealed
	}
	if s.roots == nil {
		s.roots = make(map[digest.Digest]store.Hash)
	}
	s.roots[file] = root
	return nil
}

// fileWant is what one node wants of a file: each knows its URL by itself.
func fileWant(name digest.Digest, size int64, node string) Want {
	return Want{
		Digest: name, File: true, Size: size, Class: swarm.Foreground,
		Origin: swarm.OriginRef{Registry: testRef.Registry, Repository: node},
	}
}

// A file goes through the mesh by its name: once from the origin, with nodes that share the reading, and asked for by
// those only who say that it is a file.
func TestFile(t *testing.T) {
	data, _ := content(40<<20, 51)
	name := store.File([]byte("v1"))
	o := newOrigin()
	o.blobs[name] = data
	agreed := &seals{}
	edit := func(c *Config) { c.Seal = agreed.seal }
	nodes := []*node{
		startNode(t, nodeConfig{origin: o, edit: edit}), startNode(t, nodeConfig{origin: o, edit: edit}),
		startNode(t, nodeConfig{origin: o, edit: edit}),
	}
	mesh(t, nodes...)
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { n.mustPull(fileWant(name, int64(len(data)), string(rune('a'+i))), data) })
	}
	wg.Wait()
	if got := copies(o, data); got != "1.0000" {
		t.Errorf("%s copies from the origin", got)
	}
	if agreed.asked != len(nodes) {
		t.Errorf("%d of %d nodes asked for agreement", agreed.asked, len(nodes))
	}
	for _, n := range nodes {
		if _, err := n.Open(t.Context(), want(name, -1)); !errors.Is(err, ErrInvalidDigest) {
			t.Errorf("opened by a client that brought the name: %v", err)
		}
		if _, ok := n.Stat(name); ok {
			t.Error("its size is told to who brought the name")
		}
	}
}

// If the others have other bytes, nobody gets a clean end, and nothing stays on disk.
func TestFileOfTwoMinds(t *testing.T) {
	for _, size := range []int{1000, 3 << 20} {
		data, _ := content(size, 52)
		name := store.File([]byte("v1"))
		o := newOrigin()
		o.blobs[name] = data
		agreed := &seals{roots: map[digest.Digest]store.Hash{name: {1}}}
		n := startNode(t, nodeConfig{origin: o, edit: func(c *Config) { c.Seal = agreed.seal }})
		got, err := n.pull(fileWant(name, int64(size), "a"))
		if !errors.Is(err, ErrSealed) || len(got) == size {
			t.Errorf("%d of %d bytes, %v", len(got), size, err)
		}
		eventually(t, "nothing kept", func() bool {
			info, err := n.st.Stat(name)
			return err != nil || info.Have == 0
		})
	}
}

// A private file is read from the origin by who wants it, and no seed is asked.
func TestPrivateFile(t *testing.T) {
	data, _ := content(3<<20, 53)
	name := store.File([]byte("v1"))
	o := newOrigin()
	o.blobs[name] = data
	none := newOrigin()
	seed := startNode(t, nodeConfig{origin: none, seed: true})
	n := startNode(t, nodeConfig{origin: o})
	mesh(t, seed, n)
	w := fileWant(name, int64(len(data)), "a")
	w.Private = true
	n.mustPull(w, data)
	if none.requests.Load() != 0 {
		t.Error("the seed was asked")
	}
}
