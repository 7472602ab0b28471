package node

import (
	"crypto/rand"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/sync/semaphore"
)

// bareHost is a host without the rest of a node.
func bareHost(t testing.TB, keys *meshKeys, listen ...multiaddr.Multiaddr) host.Host {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h, err := newHost(hostConfig{key: key, keys: keys, listen: listen, book: newAddrBook(listen), maxPeers: Default().P2P.MaxPeers})
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
	keys := testKeys(1)
	seed := bareHost(t, keys, multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"))
	const n = 500
	hosts := make([]host.Host, n)
	for i := range hosts {
		hosts[i] = bareHost(t, keys)
	}
	limit := semaphore.NewWeighted(16)
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
	keys := testKeys(1)
	first := bareHost(t, keys, multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"))
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	listen := []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"), first.Network().ListenAddresses()[0]}
	if h, err := newHost(hostConfig{key: key, keys: keys, listen: listen, book: newAddrBook(listen), maxPeers: 8}); err == nil {
		h.Close()
		t.Error("it listens on one address of two and says nothing")
	}
}

// multiaddrDial is how net.Dial reaches a host.
func multiaddrDial(h host.Host) (network, addr string, err error) {
	return manet.DialArgs(h.Network().ListenAddresses()[0])
}

// dialRaw opens a TCP connection that ends on its own.
func dialRaw(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err == nil {
		err = c.SetDeadline(time.Now().Add(time.Minute))
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Connections beyond the bound are refused, and so are many of one peer.
func TestConnectionsAreBounded(t *testing.T) {
	rm, err := newResourceManager(1)
	if err != nil {
		t.Fatal(err)
	}
	defer rm.Close()
	const most = 2*1 + 64
	var open []network.ConnManagementScope
	for i := range most {
		c, err := rm.OpenConnection(network.DirInbound, true, multiaddr.StringCast("/ip4/10.0.0.1/tcp/1"))
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		open = append(open, c)
	}
	if _, err := rm.OpenConnection(network.DirInbound, true, multiaddr.StringCast("/ip4/10.0.0.2/tcp/1")); err == nil {
		t.Errorf("connection %d is taken", most+1)
	}
	for _, c := range open[:9] {
		if err = c.SetPeer("one peer"); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("nine connections of one peer are taken")
	}
	for _, c := range open {
		c.Done()
	}
}
