package exchange

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

// leavePartial puts the first n pieces of a blob on a node's disk, as an earlier run would have left them.
func leavePartial(t *testing.T, a *node, d digest.Digest, data []byte, n int) {
	t.Helper()
	size := int64(len(data))
	l := swarm.LayoutOf(size)
	p, err := a.st.Begin(d, size, l.PieceSize)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		off, k := l.Span(swarm.PieceIndex(i))
		sum := sha256.Sum256(data[off : off+k])
		att, err := a.notary.attest(d, size, swarm.PieceIndex(i), sum)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.WritePiece(i, data[off:off+k], sum, att.Proof()); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// What a restarted node holds in part is found by its spans and had from it; the origin sends only the rest, once, and the
// node gets that from those who pulled it. A client that comes meanwhile wakes what sleeps.
func TestPartialIsServedAfterRestart(t *testing.T) {
	data, d := content(8<<20, 40) // 16 pieces
	o := newOrigin(data)
	table := newTable()
	pa, pb := &fakeProviders{table: table, spans: make(chan []int, 8)}, &fakeProviders{table: table}
	a := startNode(t, nodeConfig{zone: "a", origin: o, find: pa, edit: func(c *Config) { c.Reannounce = time.Hour }})
	b := startNode(t, nodeConfig{zone: "a", origin: o, find: pb})
	pa.self = peer.AddrInfo{ID: a.host.ID(), Addrs: a.host.Addrs()}
	pb.self = peer.AddrInfo{ID: b.host.ID(), Addrs: b.host.Addrs()}
	leavePartial(t, a, d, data, 10)
	mesh(t, a, b)
	if got := <-pa.spans; !slices.Equal(got, []int{0, 1}) {
		t.Errorf("announced spans %v, want 0 and 1", got)
	}
	if st := a.Status(); len(st.Pulls) != 0 {
		t.Errorf("what sleeps is shown as a pull: %+v", st.Pulls)
	}
	b.mustPull(want(d, -1), data)
	const had = 10 * 512 << 10
	if in := b.Status().BytesIn; in.Zone != had || in.Origin != int64(len(data))-had {
		t.Errorf("in %+v, want %d from the partial holder", in, had)
	}
	a.mustPull(want(d, -1), data)
	if in := a.Status().BytesIn; in.Zone != int64(len(data))-had || in.Origin != 0 {
		t.Errorf("the partial holder: in %+v", in)
	}
}

// What sleeps gives its room to what is wanted.
func TestSleeperMakesRoom(t *testing.T) {
	old, od := content(8<<20, 41)
	data, d := content(8<<20, 42)
	o := newOrigin(data)
	a := startNode(t, nodeConfig{zone: "a", origin: o, capacity: 12 << 20})
	b := startNode(t, nodeConfig{zone: "a"})
	leavePartial(t, a, od, old, 10)
	mesh(t, a, b)
	info, err := a.st.Stat(od)
	if err != nil {
		t.Fatal(err)
	}
	if s := a.revive(context.Background(), info); s == nil || len(s.spans()) != 2 {
		t.Fatal("not opened for peers")
	}
	a.mustPull(want(d, -1), data)
	if _, err := a.st.Stat(od); err == nil {
		t.Error("the partial is still there")
	}
}

// A sleeper that nobody asks for is closed, and can be wanted at any time: before, while and after it is.
func TestSleeperIsClosed(t *testing.T) {
	data, d := content(4<<20, 43)
	a := startNode(t, nodeConfig{zone: "a", origin: newOrigin(data)})
	leavePartial(t, a, d, data, 5)
	info, err := a.st.Stat(d)
	if err != nil {
		t.Fatal(err)
	}
	s := a.revive(context.Background(), info)
	if s == nil {
		t.Fatal("not opened for peers")
	}
	pulled := make(chan error, 1)
	go func() {
		got, err := a.pull(want(d, -1))
		if err == nil && len(got) != len(data) {
			err = fmt.Errorf("%d bytes", len(got))
		}
		pulled <- err
	}()
	a.retire(s)
	if err := <-pulled; err != nil {
		t.Errorf("pull: %v", err)
	}
	if again := a.revive(context.Background(), store.Info{Digest: d, Size: info.Size, PieceSize: info.PieceSize}); again != nil {
		t.Error("shown twice")
	}
}
