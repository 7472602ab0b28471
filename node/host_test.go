package node

import (
	"crypto/rand"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/semaphore"
)

// bareHost is a host without the rest of a node.
func bareHost(t testing.TB, psk pnet.PSK, listen ...multiaddr.Multiaddr) host.Host {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h, err := newHost(hostConfig{key: key, psk: psk, listen: listen, book: newAddrBook(listen), maxPeers: Default().P2P.MaxPeers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// TestHostTakes500Peers from one address: libp2p's own limits end at 252 connections, or 8 from an address.
func TestHostTakes500Peers(t *testing.T) {
	if testing.Short() {
		t.Skip("500 hosts")
	}
	psk := make(pnet.PSK, 32)
	seed := bareHost(t, psk, multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"))
	const n = 500
	hosts := make([]host.Host, n)
	for i := range hosts {
		hosts[i] = bareHost(t, psk)
	}
	limit := semaphore.NewWeighted(64)
	var wg sync.WaitGroup
	for _, h := range hosts {
		if err := limit.Acquire(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer limit.Release(1)
			if err := h.Connect(t.Context(), peer.AddrInfo{ID: seed.ID(), Addrs: seed.Addrs()}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	eventually(t, "500 peers", func() bool { return len(seed.Network().Peers()) == n })
	seed.ConnManager().TrimOpenConns(t.Context())
	if got := len(seed.Network().Peers()); got != n {
		t.Errorf("%d peers after trimming, want %d", got, n)
	}
}

func TestHostListensOnAllOrFails(t *testing.T) {
	psk := make(pnet.PSK, 32)
	first := bareHost(t, psk, multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"))
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	listen := []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"), first.Network().ListenAddresses()[0]}
	if h, err := newHost(hostConfig{key: key, psk: psk, listen: listen, book: newAddrBook(listen), maxPeers: 8}); err == nil {
		h.Close()
		t.Error("it listens on one address of two and says nothing")
	}
}
