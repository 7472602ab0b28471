package exchange

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

// part wants bytes of a blob of known size and nothing else of it.
func part(d digest.Digest, size int, off, n int64) Want {
	w := want(d, int64(size))
	w.Off, w.End, w.Sparse = off, off+n, true
	return w
}

// pullPart reads a part and compares it.
func (n *node) pullPart(t testing.TB, data []byte, d digest.Digest, off, length int64, sparse bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w := part(d, len(data), off, length)
	w.Sparse = sparse
	h, err := n.Open(ctx, w)
	if err != nil {
		t.Fatalf("bytes %d+%d: %v", off, length, err)
	}
	defer h.Close()
	r, err := h.Reader(off, length)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer context.AfterFunc(ctx, func() { _ = r.Close() })()
	got, err := io.ReadAll(struct{ io.Reader }{r})
	if err != nil || !bytes.Equal(got, data[off:off+length]) {
		t.Fatalf("bytes %d+%d: %d bytes, %v", off, length, len(got), err)
	}
}

// covered is the bytes of the pieces that cover some parts.
func covered(size int64, parts ...[2]int64) (sum int64) {
	l := swarm.LayoutOf(size)
	seen := map[swarm.PieceIndex]bool{}
	for _, p := range parts {
		for i := l.Piece(p[0]); i <= l.Piece(p[0]+p[1]-1); i++ {
			if _, n := l.Span(i); !seen[i] {
				seen[i] = true
				sum += n
			}
		}
	}
	return sum
}

// A part brings in the pieces that cover it, once, wherever it lies: the last bytes too, of which a lazy puller reads an
// index. A want of the whole then costs what is missing.
func TestPartsCostTheirPieces(t *testing.T) {
	data, d := content(12<<20+100, 1)
	size := int64(len(data))
	parts := [][2]int64{{size - 51, 51}, {5 << 20, 10}, {5<<20 + 10, 10}, {2<<20 - 1, 2}, {0, 1}, {7 << 20, 2<<20 + 5}, {size - 51, 51}}
	o := newOrigin(data)
	n := startNode(t, nodeConfig{zone: "a", origin: o})
	for i, p := range parts {
		n.pullPart(t, data, d, p[0], p[1], true)
		if want := covered(size, parts[:i+1]...); o.sent.Load() != want {
			t.Fatalf("after %v: the origin sent %d bytes, the pieces have %d", parts[:i+1], o.sent.Load(), want)
		}
	}
	if _, ok := n.Stat(d); ok {
		t.Error("parts count as the whole")
	}
	n.mustPull(want(d, size), data)
	eventually(t, "complete on disk", func() bool { _, ok := n.Stat(d); return ok })
	if o.sent.Load() != size {
		t.Errorf("the origin sent %s copies", copies(o, data))
	}
}

// A part that is on disk from an earlier run is served without anybody.
func TestPartFromDisk(t *testing.T) {
	data, d := content(12<<20, 2)
	o := newOrigin(data)
	dir := t.TempDir()
	n := startNode(t, nodeConfig{zone: "a", origin: o, dir: dir})
	n.pullPart(t, data, d, 3<<20, 100, true)
	n.stop()
	sent := o.sent.Load()
	o.mu.Lock()
	o.fail = errNotFoundAtOrigin
	o.mu.Unlock()
	n = startNode(t, nodeConfig{zone: "a", origin: o, dir: dir})
	n.pullPart(t, data, d, 3<<20+50, 100, true)
	if o.sent.Load() != sent {
		t.Error("the origin was asked for what is on disk")
	}
}

// The rest comes behind a part if that is wanted, and goes on when the client has left.
func TestPartAndTheRest(t *testing.T) {
	data, d := content(12<<20, 3)
	o := newOrigin(data)
	n := startNode(t, nodeConfig{zone: "a", origin: o})
	n.pullPart(t, data, d, 9<<20, 100, false)
	eventually(t, "complete on disk", func() bool { _, ok := n.Stat(d); return ok })
	if o.sent.Load() != int64(len(data)) {
		t.Errorf("the origin sent %s copies", copies(o, data))
	}
}

// Reading like a stargz or SOCI snapshotter: the index at the end, then hundreds of small files in no order. Reported are
// the time to the first byte and the bytes brought in, as a share of the blob.
func BenchmarkLazyPull(b *testing.B) {
	const size, files, file = 256 << 20, 300, 16 << 10
	data, d := content(size, 4)
	rng := rand.New(rand.NewPCG(1, 2))
	hot := make([]int64, files) // what a program reads at its start lies in few places
	for i := range hot {
		hot[i] = (rng.Int64N(8)*31 + rng.Int64N(4)) << 20
	}
	var first, share float64
	for b.Loop() {
		o := newOrigin(data)
		n := startNode(b, nodeConfig{zone: "a", origin: o})
		start := time.Now()
		n.pullPart(b, data, d, size-51, 51, true)
		first += time.Since(start).Seconds()
		for _, off := range hot {
			n.pullPart(b, data, d, off, file, true)
		}
		share += float64(o.sent.Load()) / size
		n.stop()
	}
	b.ReportMetric(1000*first/float64(b.N), "ms/first-byte")
	b.ReportMetric(share/float64(b.N), "share-of-blob")
}

// In a mesh a part is had of peers that hold it, by several lazy nodes at once of the registry once, and a seed is not
// moved to fetch the whole.
func TestPartsInAMesh(t *testing.T) {
	data, d := content(12<<20+100, 5)
	size := int64(len(data))
	for name, row := range map[string]struct{ seeds, holders int }{"with a seed": {1, 0}, "without seeds": {0, 0}, "a peer holds it": {0, 1}} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(data)
			nodes := []*node{
				startNode(t, nodeConfig{zone: "a", origin: o, seed: row.seeds > 0}),
				startNode(t, nodeConfig{zone: "a", origin: o}), startNode(t, nodeConfig{zone: "b", origin: o}),
			}
			mesh(t, nodes...)
			want := covered(size, [2]int64{5 << 20, 10}, [2]int64{size - 51, 51})
			if row.holders > 0 {
				nodes[0].mustPull(Want{Digest: d, Size: size, Origin: testRef, Class: swarm.Foreground}, data)
				want = size
			}
			for _, n := range nodes[1:] {
				start := time.Now()
				n.pullPart(t, data, d, 5<<20, 10, true)
				n.pullPart(t, data, d, size-51, 51, true)
				t.Logf("two parts after %v", time.Since(start).Round(time.Millisecond))
			}
			if o.sent.Load() != want {
				t.Errorf("the origin sent %d bytes, want %d", o.sent.Load(), want)
			}
			nodes[1].mustPull(Want{Digest: d, Size: size, Origin: testRef, Class: swarm.Foreground}, data)
			if sent := o.sent.Load(); sent != size {
				t.Errorf("for the whole after it the origin sent %d bytes of %d", sent, size)
			}
		})
	}
}
