package dht

import (
	"context"
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"
)

var crowdSize = flag.Int("nodes", 24, "holders in the test of a flash crowd, an even number")

// crowds returns for each host, in zones of equal size one after the other, what a node that knows all of its zone says.
func crowds(hosts []host.Host, zones int) func(int) (zone string, c crowd) {
	per := len(hosts) / zones
	return func(i int) (string, crowd) {
		c := crowd{count: len(hosts), before: i % per, of: per}
		for _, h := range hosts[i/per*per:][:per] {
			c.near = append(c.near, h.ID())
		}
		return fmt.Sprint("z", i/per), c
	}
}

// standing returns how many nodes stand under a key, over all its copies.
func standing(t *testing.T, from *DHT, key cid.Cid) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return from.lookup(ctx, key, 0, func([]peer.AddrInfo) {})
}

// A layer that everybody gets in the same second, in two zones: under each key stand about as many as are enough, in every
// copy of it, at once and when the records have been renewed; and a zone can still be found from the other one.
func TestFlashCrowdHasFewRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			enough = 6
			zones  = 2
			ttl    = 3 * time.Minute
		)
		hosts := simHosts(t, *crowdSize)
		place := crowds(hosts, zones)
		nodes := start(t, hosts, func(i int) Config {
			zone, c := place(i)
			return Config{Zone: zone, Members: c, ZoneAnnouncers: enough, RecordTTL: ttl, Stagger: time.Second}
		})
		time.Sleep(10 * time.Second)
		d := digest.FromString("popular")
		done := make(chan error, len(nodes))
		for _, n := range nodes {
			go func() { done <- n.Provide(t.Context(), d, false) }()
		}
		for range nodes {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		for _, after := range []time.Duration{0, 20 * time.Second, ttl} { // at once, when all have looked, after renewal
			time.Sleep(after)
			near, far := standing(t, nodes[len(nodes)-1], zoneKey("z1", d)), standing(t, nodes[len(nodes)-1], globalKey(d))
			t.Logf("%v later: %d nodes under the key of a zone, %d under the global key", after, near, far)
			if near < enough || near > 2*enough {
				t.Errorf("%v later: %d nodes under the key of a zone, want about %d", after, near, enough)
			}
			if far < 2*zones || far > 6*zones {
				t.Errorf("%v later: %d nodes under the global key, want about %d", after, far, 3*zones)
			}
		}
		var busiest int64
		for _, n := range nodes {
			busiest = max(busiest, n.Stats().AskedFind+n.Stats().AskedStore)
		}
		t.Logf("the busiest node was asked %d times", busiest)
	})
}

// Who comes late among the members of its zone announces all the same if nobody else does, globally too.
func TestLoneHolderAnnounces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := simHosts(t, 8)
		nodes := start(t, hosts, func(i int) Config {
			return Config{Zone: fmt.Sprint("z", i%2), Members: crowd{count: 1000, before: 700, of: 1000, near: []peer.ID{hosts[i].ID()}}}
		})
		time.Sleep(10 * time.Second)
		d := digest.FromString("rare")
		if err := nodes[1].Provide(t.Context(), d, false); err != nil {
			t.Fatal(err)
		}
		if got := nodes[1].Stats(); got.Announced != 0 || got.Placed != 0 {
			t.Errorf("announced before its turn: %+v", got)
		}
		time.Sleep(3 * time.Minute)
		for _, i := range []int{2, 3} {
			if got := find(t, nodes[i], d); len(got) != 1 || got[0] != hosts[1].ID() {
				t.Errorf("node %d finds %v", i, got)
			}
		}
		s := nodes[1].Stats()
		if s.Announced != 2 || s.Left != 0 || s.Looks != 2 || s.Placed != 2 {
			t.Errorf("counted %+v", s)
		}
	})
}

// learner knows nobody at first.
type learner struct {
	crowd
	known *atomic.Bool
}

func (l learner) Place(d digest.Digest) (before, of int) {
	if !l.known.Load() {
		return 0, 1
	}
	return l.crowd.Place(d)
}

// A node that announced a blob while it knew nobody leaves the key to others once it knows its place.
func TestEarlyAnnouncerLeavesTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 10 * time.Minute
		hosts := simHosts(t, 8)
		place := crowds(hosts, 1)
		var known atomic.Bool
		nodes := start(t, hosts, func(i int) Config {
			_, c := place(i)
			return Config{Zone: "a", Members: learner{c, &known}, ZoneAnnouncers: 3, GlobalAnnouncers: 1, RecordTTL: ttl}
		})
		time.Sleep(10 * time.Second)
		d := digest.FromString("restarted")
		for _, n := range nodes {
			if err := n.Provide(t.Context(), d, false); err != nil {
				t.Fatal(err)
			}
		}
		if got := standing(t, nodes[0], zoneKey("a", d)); got != len(nodes)-1 {
			t.Fatalf("%d others stand under the key at first, want all", got)
		}
		known.Store(true)
		time.Sleep(2 * ttl)
		announced := 0
		for _, n := range nodes {
			announced += n.Stats().Announced
		}
		if want := 3 + 1; announced != want {
			t.Errorf("%d records are kept, want %d in the zone and 1 global", announced, 3)
		}
		if got := standing(t, nodes[7], zoneKey("a", d)); got != 3 {
			t.Errorf("%d stand under the key of the zone, want 3", got)
		}
	})
}

func TestBucketFollowsTheMesh(t *testing.T) {
	for _, row := range []struct{ members, k, want int }{
		{1, 0, 10}, {199, 0, 10}, {200, 0, 20}, {199, 10, 10}, {200, 10, 20}, {151, 20, 20}, {149, 20, 10},
	} {
		if got := bucketFor(row.members, row.k); got != row.want {
			t.Errorf("%d members after %d: got %d, want %d", row.members, row.k, got, row.want)
		}
	}
}

// growing is a mesh that grows.
type growing struct {
	crowd
	count chan int // a value with a lock
}

func (g growing) Count() int {
	n := <-g.count
	g.count <- n
	return n
}

// A node whose mesh has grown restarts its table: records that it keeps for others are still there, as are its own.
func TestTableIsResized(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := simHosts(t, 5)
		g := growing{crowd: crowd{of: 5}, count: make(chan int, 1)}
		g.count <- 5
		nodes := start(t, hosts, func(int) Config { return Config{Zone: "a", Members: g} })
		time.Sleep(10 * time.Second)
		d := digest.FromString("kept")
		if err := nodes[1].Provide(t.Context(), d, false); err != nil {
			t.Fatal(err)
		}
		<-g.count
		g.count <- 300
		time.Sleep(2 * resizeEvery)
		for i, n := range nodes {
			if s := n.Stats(); s.BucketSize != 20 || s.Peers == 0 {
				t.Errorf("node %d: %+v", i, s)
			}
		}
		if got := find(t, nodes[3], d); len(got) != 1 || got[0] != hosts[1].ID() {
			t.Errorf("found %v", got)
		}
	})
}
