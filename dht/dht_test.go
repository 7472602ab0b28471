package dht

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/meshd-project/meshd/dht/hosttest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"),
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
	)
}

func TestKeys(t *testing.T) {
	d := digest.FromString("layer")
	seen := make(map[cid.Cid]string)
	for name, k := range map[string]cid.Cid{
		"zone a": zoneKey("a", d), "zone b": zoneKey("b", d), "global": globalKey(d),
		"another blob": zoneKey("a", digest.FromString("other")),
		"span 0":       spanKey("a", d, 0), "span 1": spanKey("a", d, 1), "span 0 in zone b": spanKey("b", d, 0),
	} {
		if k.Version() != 1 || k.Type() != cid.Raw {
			t.Errorf("%s: %s is not a raw CIDv1", name, k)
		}
		if other, ok := seen[k]; ok {
			t.Errorf("%s and %s have the same key", name, other)
		}
		seen[k] = name
	}
	// Part of the protocol: nodes of two versions must agree.
	const want = "bafkreiemdqrajgyxmouir4jrzw2xchxlt5vvg66aj4lrfmdnzc6arkdrcq"
	if got := zoneKey("a", d).String(); got != want {
		t.Errorf("the key of a zone has changed: %s, want %s", got, want)
	}
}

// tcpHosts are real hosts on loopback.
func tcpHosts(t *testing.T, n int) []host.Host {
	t.Helper()
	var out []host.Host
	for range n {
		h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.Transport(tcp.NewTCPTransport),
			libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.DisableIdentifyAddressDiscovery())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		out = append(out, h)
	}
	return out
}

// start runs a DHT node on each host, all connected to the first and to their neighbour.
func start(t *testing.T, hosts []host.Host, config func(i int) Config) []*DHT {
	t.Helper()
	var out []*DHT
	for i, h := range hosts {
		d, err := New(h, config(i))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := errors.Join(<-done, d.Close()); err != nil {
				t.Error(err)
			}
		})
		out = append(out, d)
	}
	for i, h := range hosts {
		for _, to := range []host.Host{hosts[0], hosts[max(i-1, 0)]} {
			if err := h.Connect(t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()}); err != nil && to != h {
				t.Fatal(err)
			}
		}
	}
	return out
}

// find returns all that Find tells.
func find(t *testing.T, d *DHT, blob digest.Digest) []peer.ID {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []peer.ID
	var busy sync.Mutex
	err := d.Find(ctx, blob, func(peers []peer.AddrInfo) {
		if !busy.TryLock() {
			t.Error("found is called twice at once")
		}
		defer busy.Unlock()
		for _, p := range peers {
			if len(p.Addrs) == 0 {
				t.Errorf("%s came without addresses", p.ID)
			}
			got = append(got, p.ID)
		}
	})
	if err != nil {
		t.Errorf("find: %v", err)
	}
	slices.Sort(got)
	return slices.Compact(got)
}

// crowd is a fixed place among members.
type crowd struct {
	count, before, of, held int
	near                    []peer.ID
}

func (c crowd) Count() int                     { return c.count }
func (c crowd) Place(digest.Digest) (int, int) { return c.before, c.of }
func (c crowd) Held(digest.Digest) int         { return c.held }
func (c crowd) Near(id peer.ID) bool           { return slices.Contains(c.near, id) }

func zoned(zones int) func(int) Config {
	return func(i int) Config {
		return Config{Zone: fmt.Sprint("z", i%zones), Stagger: 50 * time.Millisecond, Members: crowd{before: 3, of: 8}}
	}
}

func TestFindOverRealHosts(t *testing.T) {
	hosts := tcpHosts(t, 8)
	nodes := start(t, hosts, zoned(2))
	waitPeers(t, nodes, 3)
	zoneOnly, everywhere := digest.FromString("zone only"), digest.FromString("everywhere")
	if err := nodes[2].Provide(t.Context(), zoneOnly, false); err != nil {
		t.Fatal(err)
	}
	if err := nodes[3].Provide(t.Context(), everywhere, true); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		from int
		blob digest.Digest
		want []peer.ID
	}{
		{"same zone", 4, zoneOnly, []peer.ID{hosts[2].ID()}},
		{"another zone", 5, zoneOnly, nil},
		{"the provider itself", 2, zoneOnly, nil},
		{"same zone, global too", 5, everywhere, []peer.ID{hosts[3].ID()}},
		{"another zone, by the global key", 6, everywhere, []peer.ID{hosts[3].ID()}},
		{"nobody", 6, digest.FromString("nothing"), nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := find(t, nodes[row.from], row.blob); !slices.Equal(got, row.want) {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
}

// waitPeers waits until every routing table has n nodes.
func waitPeers(t *testing.T, nodes []*DHT, n int) {
	t.Helper()
	deadline := time.After(time.Minute)
	for _, d := range nodes {
		for d.Peers() < n {
			d.Refresh()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-deadline:
				t.Fatalf("a routing table has %d nodes, want %d", d.Peers(), n)
			}
		}
	}
}

func TestFindEndsWithItsContext(t *testing.T) {
	nodes := start(t, tcpHosts(t, 3), zoned(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := nodes[0].Find(ctx, digest.FromString("x"), func([]peer.AddrInfo) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestAddrFilter(t *testing.T) {
	hosts := tcpHosts(t, 3)
	nodes := start(t, hosts, func(i int) Config {
		c := Config{Zone: "a"}
		if i == 2 {
			c.AddrFilter = func([]multiaddr.Multiaddr) []multiaddr.Multiaddr { return nil }
		}
		return c
	})
	waitPeers(t, nodes, 1)
	d := digest.FromString("x")
	if err := nodes[1].Provide(t.Context(), d, false); err != nil {
		t.Fatal(err)
	}
	err := nodes[2].Find(t.Context(), d, func(found []peer.AddrInfo) {
		for _, p := range found {
			if len(p.Addrs) > 0 {
				t.Errorf("filtered addresses came through: %v", p)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// simHosts are hosts on a simulated network; call it within a synctest bubble.
func simHosts(t *testing.T, n int) []host.Host {
	t.Helper()
	hosts, closeNetwork := hosttest.New(t, n, 100, 5*time.Millisecond)
	t.Cleanup(func() {
		for _, h := range hosts {
			h.Close()
		}
		closeNetwork()
	})
	return hosts
}

func TestRecordsOutliveTheirValidityAndEndAfterWithdraw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 10 * time.Minute
		nodes := start(t, simHosts(t, 6), func(int) Config { return Config{Zone: "a", RecordTTL: ttl} })
		time.Sleep(10 * time.Second)
		kept, dropped := digest.FromString("kept"), digest.FromString("dropped")
		for _, d := range []digest.Digest{kept, dropped} {
			if err := nodes[1].Provide(t.Context(), d, false); err != nil {
				t.Fatal(err)
			}
		}
		if got := find(t, nodes[5], dropped); len(got) != 1 {
			t.Fatalf("found %v at first", got)
		}
		nodes[1].Withdraw(dropped)
		time.Sleep(3 * ttl)
		if got := find(t, nodes[5], kept); len(got) != 1 {
			t.Errorf("the record was not renewed: %v", got)
		}
		if got := find(t, nodes[5], dropped); len(got) != 0 {
			t.Errorf("the record was renewed after its withdrawal: %v", got)
		}
	})
}

func TestProvideAloneIsPlacedWhenOthersCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := simHosts(t, 4)
		alone := start(t, hosts[:1], func(int) Config { return Config{Zone: "a"} })
		d := digest.FromString("early")
		if err := alone[0].Provide(t.Context(), d, true); err != nil {
			t.Fatalf("alone: %v", err)
		}
		time.Sleep(time.Minute)
		others := start(t, hosts[1:], func(int) Config { return Config{Zone: "a"} })
		for _, h := range hosts[1:] {
			if err := h.Connect(t.Context(), peer.AddrInfo{ID: hosts[0].ID(), Addrs: hosts[0].Addrs()}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(4 * time.Minute)
		hosts[1].Network().ClosePeer(hosts[0].ID())
		if got := find(t, others[0], d); !slices.Equal(got, []peer.ID{hosts[0].ID()}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestOwnRecordsRetryAndSerialise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var placed []time.Duration
		start := time.Now()
		fail := true
		o := newOwnRecords(time.Hour, func(context.Context, cid.Cid) error {
			mu.Lock()
			defer mu.Unlock()
			placed = append(placed, time.Since(start))
			if fail {
				return errors.New("no")
			}
			return nil
		}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- o.run(ctx) }()
		d := digest.FromString("x")
		if err := o.provide(ctx, record{key: globalKey(d), blob: d, must: true}, 0); err == nil {
			t.Error("the failure of the first placement is not told")
		}
		time.Sleep(2 * time.Minute)
		mu.Lock()
		if n := len(placed); n < 4 || n > 7 {
			t.Errorf("%d placements in two minutes of failure: %v", n, placed)
		}
		fail, placed = false, nil
		mu.Unlock()
		time.Sleep(6 * time.Hour)
		mu.Lock()
		if n := len(placed); n < 12 || n > 21 {
			t.Errorf("%d placements in six hours, want one each 18 to 27 minutes", n)
		}
		mu.Unlock()
		if err := o.provide(ctx, record{key: globalKey(d), blob: d, must: true}, 0); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestNobodyInTheTableIsNoError(t *testing.T) {
	o := newOwnRecords(time.Hour, func(context.Context, cid.Cid) error { return kb.ErrLookupFailure }, nil)
	d := digest.FromString("x")
	if err := o.provide(t.Context(), record{key: globalKey(d), blob: d, must: true}, 0); err != nil {
		t.Errorf("got %v", err)
	}
	if r := o.keys[globalKey(d)]; r.retry == 0 {
		t.Error("it is not tried again soon")
	}
}
