package topology

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/meshd-project/meshd/dht/gossip"
	"github.com/meshd-project/meshd/dht/hosttest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"),
	)
}

const latency = 20 * time.Millisecond // of one way, between any two hosts

// place is a host with a map, on a simulated network.
type place struct {
	*Map
	host host.Host
	stop func()

	mu  sync.Mutex
	log []string // "up ID", "down ID"
}

func (p *place) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, fmt.Sprintf(format, args...))
}

func (p *place) notes() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, "; ")
}

// places starts n maps; call it within a synctest bubble. Zones are by index, "a" for the first half.
func places(t *testing.T, n int, cfg Config) []*place {
	t.Helper()
	hosts, closeNetwork := hosttest.New(t, n, 100, latency)
	var out []*place
	for _, h := range hosts {
		p := &place{host: h}
		cfg.Zone = "a"
		cfg.Up = func(m Member) { p.note("up %s", m.ID.ShortString()) }
		cfg.Down = func(id peer.ID) { p.note("down %s", id.ShortString()) }
		p.Map = New(h, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		p.stop = sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			h.Close()
		})
		out = append(out, p)
	}
	t.Cleanup(func() {
		for _, p := range out {
			p.stop()
		}
		closeNetwork()
	})
	return out
}

func (p *place) member(zone string) gossip.Member {
	return gossip.Member{ID: p.host.ID(), Zone: zone, Addrs: p.host.Addrs(), DataPort: 4}
}

func (p *place) view(of *place) Member {
	for _, m := range p.Members() {
		if m.ID == of.host.ID() {
			return m
		}
	}
	return Member{}
}

func TestMembersAreConnectedAndMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := places(t, 3, Config{PingInterval: 5 * time.Second})
		a, b, c := ps[0], ps[1], ps[2]
		a.Changed(b.member("a"))
		a.Changed(c.member("b"))
		if n := a.Connected(); n != 0 {
			t.Errorf("%d connected before anything was dialed", n)
		}
		time.Sleep(3 * time.Second)
		if n := a.Connected(); n != 2 {
			t.Fatalf("%d connected, want 2", n)
		}
		for _, p := range []*place{b, c} {
			m := a.view(p)
			if d := m.RTT - 2*latency; !m.Connected || d < 0 || d > latency/2 {
				t.Errorf("connected %t, RTT %v, want %v", m.Connected, m.RTT, 2*latency)
			}
			if m.DataAddr == "" || !strings.HasSuffix(m.DataAddr, ":4") {
				t.Errorf("data address %q", m.DataAddr)
			}
		}
		if b.Connected() != 0 || len(b.Members()) != 0 {
			t.Error("a connection alone makes no member")
		}
		b.Changed(a.member("a"))
		time.Sleep(time.Second)
		if b.Connected() != 1 {
			t.Error("a member that is connected already is not counted")
		}
	})
}

func TestDownAndUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := places(t, 2, Config{})
		a, b := ps[0], ps[1]
		a.Changed(b.member("a"))
		time.Sleep(2 * time.Second)
		a.host.Network().ClosePeer(b.host.ID())
		time.Sleep(5 * time.Second)
		if a.Connected() != 1 {
			t.Error("it did not connect again")
		}
		id := b.host.ID().ShortString()
		if got := a.notes(); !strings.Contains(got, "up "+id+"; down "+id+"; up "+id) {
			t.Errorf("told %q", got)
		}
		a.Lost(b.host.ID())
		time.Sleep(time.Second)
		if got := a.notes(); !strings.HasSuffix(got, "down "+id) || len(a.Members()) != 0 {
			t.Errorf("after it was lost: told %q, members %v", got, a.Members())
		}
	})
}

func TestUnreachableMemberStaysDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := places(t, 2, Config{})
		a, b := ps[0], ps[1]
		m := b.member("a")
		b.stop()
		a.Changed(m)
		time.Sleep(10 * time.Minute)
		if got := a.notes(); got != "" {
			t.Errorf("told %q", got)
		}
		a.Map.mu.Lock()
		defer a.Map.mu.Unlock()
		if e := a.peers[m.ID]; e.failures < 4 || e.failures > 20 {
			t.Errorf("%d dials in ten minutes", e.failures)
		}
	})
}

func TestHintConnectsAndIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := places(t, 3, Config{})
		a, b, c := ps[0], ps[1], ps[2]
		gone := peer.AddrInfo{ID: c.host.ID(), Addrs: c.host.Addrs()}
		c.stop()
		a.Connect([]peer.AddrInfo{{ID: b.host.ID(), Addrs: b.host.Addrs()}, gone, {ID: a.host.ID()}})
		time.Sleep(5 * time.Second)
		if a.host.Network().Connectedness(b.host.ID()) != network.Connected {
			t.Error("the hint was not followed")
		}
		time.Sleep(5 * time.Minute)
		a.Map.mu.Lock()
		defer a.Map.mu.Unlock()
		if a.peers[gone.ID] != nil {
			t.Error("a stranger that cannot be reached is kept")
		}
	})
}

// lone returns a map whose loop does not run, for looking at its decisions.
func lone(cfg Config) *Map {
	return &Map{cfg: cfg.withDefaults(), self: "self", woke: make(chan struct{}, 1), peers: make(map[peer.ID]*entry), space: newSpace("self")}
}

func TestWantedConnections(t *testing.T) {
	count := func(m *Map) (near, far, special int) {
		m.mu.Lock()
		defer m.mu.Unlock()
		w := m.wanted()
		for _, e := range m.peers {
			switch {
			case !w(e):
			case e.member.Seed || e.member.Relay:
				special++
			case e.member.Zone == "a":
				near++
			default:
				far++
			}
		}
		return near, far, special
	}
	fill := func(m *Map, zone string, n int, seeds int) {
		for i := range n {
			m.Changed(gossip.Member{ID: peer.ID(fmt.Sprint(zone, i)), Zone: zone, Seed: i < seeds})
		}
	}
	for _, row := range []struct {
		name               string
		nearN, farN        int
		near, far, special int
	}{
		{"alone", 0, 0, 0, 0, 0},
		{"small: everybody", 30, 33, 28, 31, 4},
		{"small zone in a large mesh", 30, 300, 28, 0, 4},
		{"large zone", 300, 300, neighbours, 0, 4},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := lone(Config{Zone: "a"})
			fill(m, "a", row.nearN, 2)
			fill(m, "b", row.farN, 2)
			near, far, special := count(m)
			// Seeds may be among the neighbours picked, in place of others.
			if near > row.near || near < row.near-2 || far != row.far || special != row.special {
				t.Errorf("%d near, %d far, %d seeds, want %d, %d, %d", near, far, special, row.near, row.far, row.special)
			}
		})
	}
}

// When most of a large zone died without a word, its dead are known for long: others are connected to in their place.
func TestDeadNeighboursAreReplaced(t *testing.T) {
	m := lone(Config{Zone: "a"})
	for i := range 300 {
		m.Changed(gossip.Member{ID: peer.ID(fmt.Sprint("a", i)), Zone: "a"})
		m.Changed(gossip.Member{ID: peer.ID(fmt.Sprint("b", i)), Zone: "b", Seed: true})
	}
	for id, e := range m.peers {
		if strings.HasSuffix(string(id), "0") || strings.HasSuffix(string(id), "5") {
			e.connected = true
		} else {
			e.failures = missing
		}
	}
	near, far := 0, 0
	w := m.wanted()
	for _, e := range m.peers {
		switch {
		case !e.connected || !w(e):
		case e.member.Zone == "a":
			near++
		default:
			far++
		}
	}
	if near != neighbours || far != 60 {
		t.Errorf("connected to %d of 60 neighbours and %d of 60 seeds that live, want %d and 60", near, far, neighbours)
	}
}

func TestDataAddr(t *testing.T) {
	addrs := []ma.Multiaddr{ma.StringCast("/ip4/10.0.0.5/tcp/1"), ma.StringCast("/ip4/10.0.0.6/tcp/1")}
	for _, row := range []struct {
		name string
		e    entry
		want string
	}{
		{"unknown", entry{}, ""},
		{"no data port", entry{known: true}, ""},
		{"named by the member", entry{known: true, remoteIP: "10.0.0.9", outbound: true, member: gossip.Member{DataPort: 4, DataHost: "10.0.0.7"}}, "10.0.0.7:4"},
		{"where it was dialed", entry{known: true, remoteIP: "10.0.0.9", outbound: true, member: gossip.Member{DataPort: 4, Addrs: addrs}}, "10.0.0.9:4"},
		{"where it came from, confirmed", entry{known: true, remoteIP: "10.0.0.6", member: gossip.Member{DataPort: 4, Addrs: addrs}}, "10.0.0.6:4"},
		{"where it came from, not confirmed", entry{known: true, remoteIP: "10.0.0.9", member: gossip.Member{DataPort: 4, Addrs: addrs}}, "10.0.0.5:4"},
		{"not connected", entry{known: true, member: gossip.Member{DataPort: 4, Addrs: addrs}}, "10.0.0.5:4"},
		{"only the connection", entry{known: true, remoteIP: "2001:db8::1", member: gossip.Member{DataPort: 4}}, "[2001:db8::1]:4"},
		{"nothing", entry{known: true, member: gossip.Member{DataPort: 4}}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := row.e.dataAddr(); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestRTTIsTheLeastOfTheWindow(t *testing.T) {
	var e samples
	if e.least() != 0 {
		t.Error("an RTT without a sample")
	}
	for i := range 3 * rttWindow {
		e.add(time.Duration(10+i), time.Unix(int64(i), 0))
	}
	if e.count != 3*rttWindow || e.last != time.Unix(3*rttWindow-1, 0) {
		t.Errorf("%d rounds, the last at %v", e.count, e.last)
	}
	if got, want := e.least(), time.Duration(10+2*rttWindow); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestNews(t *testing.T) {
	old := Member{RTT: 100, Connected: true}
	same, slower, faster, moved := old, old, old, old
	same.RTT, slower.RTT, faster.RTT, moved.Zone = 110, 130, 70, "b"
	got := []bool{news(old, old), news(old, same), news(old, slower), news(old, faster), news(old, moved), news(Member{}, Member{})}
	if want := []bool{false, false, true, true, true, false}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
