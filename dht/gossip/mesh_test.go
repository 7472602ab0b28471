package gossip

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/meshd-project/meshd/dht/hosttest"
)

// meshNode is a gossip node on a simulated network.
type meshNode struct {
	*Gossip
	host host.Host
	stop context.CancelFunc
	done chan error
	once sync.Once

	mu     sync.Mutex
	events []string // "+zone:id", "-id"
}

// mesh starts a node for each config on one simulated network; call it within a synctest bubble. quit stops all.
func mesh(t *testing.T, configs ...Config) (nodes []*meshNode, quit func()) {
	t.Helper()
	hosts, closeNetwork := hosttest.New(t, len(configs), 100, 5*time.Millisecond)
	for i, cfg := range configs {
		n := &meshNode{host: hosts[i], done: make(chan error, 1)}
		cfg.Changed = func(m Member) { n.event("+" + m.Zone + ":" + m.ID.String()) }
		cfg.Lost = func(id peer.ID) { n.event("-" + id.String()) }
		g, err := New(n.host, cfg)
		if err != nil {
			t.Fatal(err)
		}
		n.Gossip = g
		ctx, stop := context.WithCancel(t.Context())
		n.stop = stop
		go func() { n.done <- g.Run(ctx) }()
		nodes = append(nodes, n)
	}
	return nodes, func() {
		for _, n := range nodes {
			n.quit(t)
		}
		closeNetwork()
		time.Sleep(5 * time.Minute) // virtual: for the timers of pubsub, which end late
	}
}

func (n *meshNode) quit(t *testing.T) {
	if n.stop == nil {
		return
	}
	n.stop()
	n.stop = nil
	if err := <-n.done; err != nil {
		t.Errorf("Run: %v", err)
	}
	n.close()
}

// close cuts the node off without a word.
func (n *meshNode) close() { n.once.Do(func() { n.host.Close() }) }

func (n *meshNode) event(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, s)
}

func (n *meshNode) saw(s string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.events, s)
}

func (n *meshNode) connect(t *testing.T, to *meshNode) {
	t.Helper()
	if err := n.host.Connect(t.Context(), peer.AddrInfo{ID: to.host.ID(), Addrs: to.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
}

// zones returns the zone of every member that n knows.
func (n *meshNode) zones() map[peer.ID]string {
	out := make(map[peer.ID]string)
	for _, m := range n.Members() {
		out[m.ID] = m.Zone
	}
	return out
}

func TestNewcomerLearnsTheMeshByHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, quit := mesh(t,
			Config{Zone: "a", Seed: true, DataHost: "10.0.0.1", DataPort: 4}, Config{Zone: "b"}, Config{Zone: "a", DataPort: 5})
		defer quit()
		nodes[1].connect(t, nodes[0])
		time.Sleep(300 * time.Millisecond)
		nodes[2].connect(t, nodes[1])
		time.Sleep(300 * time.Millisecond) // less than the first heartbeat of gossipsub
		want := map[peer.ID]string{nodes[0].host.ID(): "a", nodes[1].host.ID(): "b"}
		if got := nodes[2].zones(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("the newcomer knows %v, want %v", got, want)
		}
		for _, m := range nodes[2].Members() {
			direct := m.ID == nodes[1].host.ID()
			if m.Direct != direct {
				t.Errorf("%s: direct %t, want %t", m.ID, m.Direct, direct)
			}
			if m.ID == nodes[0].host.ID() && (!m.Seed || m.DataHost != "10.0.0.1" || m.DataPort != 4 || len(m.Addrs) == 0) {
				t.Errorf("the seed is described as %+v", m)
			}
		}
		if !nodes[1].saw("+a:" + nodes[2].host.ID().String()) {
			t.Error("the greeted node was not told of the newcomer")
		}
	})
}

func TestGossipAcrossZones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perZone = 6
		var configs []Config
		for i := range 3 * perZone {
			configs = append(configs, Config{Zone: fmt.Sprintf("z%d", i/perZone), Seed: i%perZone == 0, Relays: 2})
		}
		nodes, quit := mesh(t, configs...)
		defer quit()
		for i, n := range nodes { // a ring in each zone, and seeds in a line: hellos alone do not reach everybody
			zone := i / perZone
			n.connect(t, nodes[zone*perZone+(i+1)%perZone])
			n.connect(t, nodes[zone*perZone+(i+2)%perZone])
			if i%perZone == 0 && zone > 0 {
				for _, m := range nodes[(zone-1)*perZone : zone*perZone] {
					n.connect(t, m)
				}
			}
		}
		time.Sleep(20 * time.Second)
		for i, n := range nodes { // as node/topology does: the backbone hangs together, and a zone about its relays
			for j, m := range nodes[:i] {
				if n.Relay() && m.Relay() && n.zones()[m.host.ID()] != "" || i/perZone == j/perZone && (n.Relay() || m.Relay()) {
					n.connect(t, m)
				}
			}
		}
		time.Sleep(40 * time.Second)
		for i, n := range nodes {
			known := n.zones()
			for j, m := range nodes {
				same := i/perZone == j/perZone
				contact := j%perZone == 0 || m.Relay()
				if _, ok := known[m.host.ID()]; i != j && (same || contact) && !ok {
					t.Errorf("node %d does not know node %d", i, j)
				}
			}
		}
		relays := 0
		for _, n := range nodes {
			if n.Relay() {
				relays++
			}
		}
		if relays < 3*2 || relays > 3*3 {
			t.Errorf("%d nodes on the backbone, want 2 relays and a seed for each of 3 zones", relays)
		}

		blob := testDigest("layer")
		holder := nodes[perZone-1]
		holder.Announce(blob, true)
		time.Sleep(5 * time.Second)
		for i, n := range nodes {
			got := n.Holders(blob)
			if known := n.zones()[holder.host.ID()] != ""; n != holder && known && !slices.Equal(got, []peer.ID{holder.host.ID()}) {
				t.Errorf("node %d: holders %v", i, got)
			}
		}
		if got := holder.Holders(blob); got != nil {
			t.Errorf("the holder is told of itself: %v", got)
		}
		remote := 0
		for _, n := range nodes[perZone:] {
			n.Gossip.mu.Lock()
			if n.Gossip.holdings.blobs[blob] != nil {
				remote++
			}
			n.Gossip.mu.Unlock()
		}
		if remote != 2*perZone {
			t.Errorf("%d nodes of other zones heard of the blob, want %d", remote, 2*perZone)
		}
	})
}

func TestSilentMemberIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, quit := mesh(t, Config{Zone: "a"}, Config{Zone: "a"}, Config{Zone: "a"})
		defer quit()
		nodes[1].connect(t, nodes[0])
		nodes[2].connect(t, nodes[0])
		time.Sleep(25 * time.Second)
		if len(nodes[1].Members()) != 2 {
			t.Fatalf("node 1 knows %v", nodes[1].zones())
		}
		nodes[2].close() // no goodbye
		time.Sleep(60 * time.Second)
		for _, n := range nodes[:2] {
			if len(n.Members()) != 1 || !n.saw("-"+nodes[2].host.ID().String()) {
				t.Errorf("still known: %v", n.zones())
			}
		}
	})
}

// All relays of a zone die at once: others stand in long before the dead are forgotten, and what the zone says is heard in
// another again.
func TestRelaysAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const inA, relays = 10, 2
		var configs []Config
		for i := range inA + 3 {
			zone := "a"
			if i >= inA {
				zone = "b"
			}
			configs = append(configs, Config{Zone: zone, Relays: relays, Interval: 10 * time.Minute})
		}
		nodes, quit := mesh(t, configs...)
		defer quit()
		for i, n := range nodes {
			for _, m := range nodes[:i] {
				n.connect(t, m)
			}
		}
		time.Sleep(time.Minute)
		var left []*meshNode
		for _, n := range nodes[:inA] {
			if n.Relay() {
				n.close()
			} else {
				left = append(left, n)
			}
		}
		if len(left) != inA-relays {
			t.Fatalf("%d relays in zone a, want %d", inA-len(left), relays)
		}
		time.Sleep(relayAwaited + 10*time.Second)
		now := 0
		for _, n := range left {
			if n.Relay() {
				now++
			}
		}
		if now != relays {
			t.Errorf("%d relays now, want %d", now, relays)
		}
		for i, n := range left {
			n.Announce(testDigest(fmt.Sprint(i)), true)
		}
		time.Sleep(5 * time.Second)
		for _, n := range nodes[inA:] {
			for i := range left {
				if len(n.Holders(testDigest(fmt.Sprint(i)))) != 1 {
					t.Errorf("zone b did not hear of blob %d", i)
				}
			}
		}
	})
}

func TestGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, quit := mesh(t, Config{Zone: "a"}, Config{Zone: "a"}, Config{Zone: "a"})
		defer quit()
		nodes[1].connect(t, nodes[0])
		nodes[2].connect(t, nodes[0])
		time.Sleep(25 * time.Second)
		nodes[2].quit(t)
		time.Sleep(time.Second) // far less than the expiry
		if len(nodes[1].Members()) != 1 || !nodes[1].saw("-"+nodes[2].host.ID().String()) {
			t.Errorf("still known: %v", nodes[1].zones())
		}
	})
}

func TestAnnouncementsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var configs []Config
		for range 12 {
			configs = append(configs, Config{Zone: "a"})
		}
		nodes, quit := mesh(t, configs...)
		defer quit()
		for i, n := range nodes {
			for j := range i {
				n.connect(t, nodes[j])
			}
		}
		time.Sleep(25 * time.Second)
		blob := testDigest("popular")
		for _, n := range nodes { // a layer that everybody finishes, one after the other
			n.Announce(blob, true)
			time.Sleep(200 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		for i, n := range nodes {
			if got := len(n.Holders(blob)); got < 2 || got > 3 {
				t.Errorf("node %d knows %d holders, want 2 or 3 (itself not counted)", i, got)
			}
		}
	})
}

func TestHelloForAnotherPeerIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, quit := mesh(t, Config{Zone: "a"}, Config{Zone: "b"})
		defer quit()
		honest, liar := nodes[0], nodes[1]
		liar.connect(t, honest)
		s, err := liar.host.NewStream(t.Context(), honest.host.ID(), helloProtocol)
		if err != nil {
			t.Fatal(err)
		}
		body := hello{self: presence{ID: testID(7), Seq: 1, Zone: "c"}}.encode()
		if _, err := s.Write(appendBytes(nil, string(body))); err != nil {
			t.Fatal(err)
		}
		if raw, err := io.ReadAll(s); err == nil {
			t.Errorf("answered with %d bytes, want a reset", len(raw))
		}
		if z := honest.zones()[testID(7)]; z != "" {
			t.Errorf("believed that another peer is in zone %q", z)
		}
	})
}

func TestAddrFilterApplies(t *testing.T) {
	g := &Gossip{cfg: Config{Zone: "a", AddrFilter: func([]ma.Multiaddr) []ma.Multiaddr { return nil }}.withDefaults()}
	g.table = table{self: testID(0), members: make(map[peer.ID]*member)}
	g.wakeEvents, g.wakeTell = make(chan struct{}, 1), make(chan struct{}, 1)
	g.heardPresence(fullPresence(), fullPresence().encode(), false)
	if m := g.table.members[testID(1)]; m == nil || len(m.Addrs) != 0 {
		t.Errorf("got %+v", m)
	}
}

var _ network.Notifiee = (*network.NotifyBundle)(nil)
