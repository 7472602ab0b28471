package exchange

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
)

// A peer that talks without end is read no faster than messages may come.
func TestFloodIsReadSlowly(t *testing.T) {
	a, b := startNode(t, nodeConfig{}), startNode(t, nodeConfig{})
	mesh(t, a, b)
	h := newHost(t)
	defer h.Close()
	h.Peerstore().AddAddrs(a.host.ID(), a.host.Addrs(), peerstore.TempAddrTTL)
	if err := h.Connect(t.Context(), peer.AddrInfo{ID: a.host.ID()}); err != nil {
		t.Fatal(err)
	}
	st, err := h.NewStream(t.Context(), a.host.ID(), Protocol)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := wire.AppendCard(nil, wire.Card{})
	if err != nil {
		t.Fatal(err)
	}
	const n = messageBurst + 2*maxMessages
	for range n {
		if frames, err = wire.AppendMessage(frames, swarm.Bye{Digest: digest.FromString("x")}); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	if _, err := st.Write(frames); err != nil {
		t.Fatal(err)
	}
	if err := st.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the whole flood was read", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		r := a.remotes[h.ID()]
		return r == nil || r.in == nil && r.card != nil
	})
	if d := time.Since(start); d < 1500*time.Millisecond {
		t.Errorf("%d messages were read in %v", n, d)
	}
}
