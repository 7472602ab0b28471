package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/dht"
	"github.com/meshd-project/meshd/dht/gossip"
	"github.com/meshd-project/meshd/dht/hosttest"
	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
)

var crowdSize = flag.Int("nodes", 24, "nodes in the test of a flash crowd")

// memOrigin is a registry in memory that counts what it sends.
type memOrigin struct {
	data    []byte
	sent    atomic.Int64
	rate    int64 // bytes a second of one answer; 0: 100 MiB/s
	unsized bool  // it tells no length, and knows no ranges
}

func (o *memOrigin) Blob(_ context.Context, _ swarm.OriginRef, _ string, _ digest.Digest, off, n int64) (exchange.OriginBody, error) {
	ranged := n >= 0 && !o.unsized
	if !ranged {
		off, n = 0, int64(len(o.data))
	}
	part := o.data[off:min(off+n, int64(len(o.data)))]
	size := int64(len(o.data))
	if o.unsized {
		size = -1
	}
	return exchange.OriginBody{ReadCloser: &memBody{bytes.NewReader(part), o}, Size: size, Offset: off, Ranged: ranged}, nil
}

func (o *memOrigin) Listed(string) bool { return true }

func (o *memOrigin) Classify(error) (swarm.OriginErrorKind, time.Duration) {
	return swarm.OriginUnreachable, 0
}

type memBody struct {
	r *bytes.Reader
	o *memOrigin
}

func (b *memBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p[:min(len(p), 64<<10)])
	b.o.sent.Add(int64(n))
	time.Sleep(time.Duration(int64(n) * int64(time.Second) / cmp.Or(b.o.rate, 100<<20)))
	return n, err
}

func (b *memBody) Close() error { return nil }

// crowdNode is a node without mirror, topology and TCP.
type crowdNode struct {
	host   host.Host
	zone   string
	data   string // address of the data port
	ports  *hosttest.Ports
	store  *store.Store
	gossip *gossip.Gossip
	dht    *dht.DHT
	x      *exchange.Exchange
}

// crowd starts n nodes in zones; call it within a synctest bubble.
func crowd(t *testing.T, n, zones, seeds int, o *memOrigin) (nodes []*crowdNode, quit func()) {
	t.Helper()
	hosts, closeNetwork := hosttest.New(t, n, 1000, 2*time.Millisecond)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	ports := hosttest.NewPorts()
	where := make(map[peer.ID]string)
	for i, h := range hosts {
		where[h.ID()] = fmt.Sprint("node", i)
	}
	for i, h := range hosts {
		c := &crowdNode{host: h, zone: fmt.Sprint("z", i%zones), data: where[h.ID()], ports: ports}
		if err := c.start(t, where, i < seeds, o); err != nil {
			t.Fatal(err)
		}
		for _, run := range []func(context.Context) error{c.gossip.Run, c.dht.Run, c.x.Run} {
			running.Go(func() {
				if err := run(ctx); err != nil {
					t.Errorf("%s: %v", c.data, err)
				}
			})
		}
		nodes = append(nodes, c)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for i, c := range nodes {
		for _, j := range rng.Perm(i)[:min(i, 6)] {
			if err := c.host.Connect(ctx, peer.AddrInfo{ID: nodes[j].host.ID(), Addrs: nodes[j].host.Addrs()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return nodes, func() {
		stop()
		running.Wait()
		for _, c := range nodes {
			if err := errors.Join(c.dht.Close(), c.host.Close(), c.store.Close()); err != nil {
				t.Error(err)
			}
		}
		closeNetwork()
		time.Sleep(5 * time.Minute) // virtual: for the timers of pubsub, which end late
	}
}

func (c *crowdNode) start(t *testing.T, where map[peer.ID]string, seed bool, o *memOrigin) (err error) {
	key := c.host.Peerstore().PrivKey(c.host.ID())
	c.store, err = store.Open(store.Config{Dir: t.TempDir(), PieceSize: func(n int64) int64 { return swarm.LayoutOf(n).PieceSize }})
	if err != nil {
		return err
	}
	c.gossip, err = gossip.New(c.host, gossip.Config{
		Zone: c.zone, Seed: seed, DataPort: 1,
		Changed: func(m gossip.Member) {
			c.host.Peerstore().AddAddrs(m.ID, m.Addrs, time.Hour)
			c.x.SetMember(exchange.Member{ID: m.ID, Zone: m.Zone, Seed: m.Seed, Relay: m.Relay, DataAddr: where[m.ID]})
		},
		Lost: func(id peer.ID) { c.x.RemoveMember(id) },
		Turned: func(relay bool) {
			c.x.SetMember(exchange.Member{ID: c.host.ID(), Zone: c.zone, Seed: seed, Relay: relay || seed})
		},
	})
	if err != nil {
		return err
	}
	if c.dht, err = dht.New(c.host, dht.Config{Zone: c.zone, Seed: seed, Members: c.gossip}); err != nil {
		return err
	}
	c.x, err = exchange.New(exchange.Config{
		Key: key, Zone: c.zone, Seed: seed, Transport: c.ports.Listen(c.data), SpoolDir: t.TempDir(),
	}, c.host, c.store, o, c.dht, c.gossip)
	return err
}

func (c *crowdNode) pull(d digest.Digest) error {
	h, err := c.x.Open(context.Background(), exchange.Want{
		Digest: d, Size: -1, Origin: swarm.OriginRef{Registry: "registry", Repository: "crowd"}, Class: swarm.Foreground,
	})
	if err != nil {
		return err
	}
	defer h.Close()
	r, err := h.Reader(0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	v := d.Verifier()
	if _, err := io.Copy(v, r); err != nil {
		return err
	}
	if !v.Verified() {
		return errors.New("wrong bytes")
	}
	return nil
}

// asked and told are what the nodes did for the mesh so far.
func asked(nodes []*crowdNode) (requests, bytes []int64) {
	for _, c := range nodes {
		s := c.dht.Stats()
		requests = append(requests, s.AskedFind+s.AskedStore)
		bytes = append(bytes, c.gossip.Stats().BytesOut)
	}
	return requests, bytes
}

// busiest returns the largest difference.
func busiest(before, after []int64) int64 {
	var most int64
	for i := range before {
		most = max(most, after[i]-before[i])
	}
	return most
}

// A whole mesh asks for one layer in the same second, by real libp2p, DHT, gossip and exchange on a simulated network: the
// origin sends it once, each zone imports it once, no node is asked much, and little is told. Run it with -nodes for larger
// crowds: the busiest node was asked 63 times by the DHT among 20 nodes, 94 among 40, 128 among 100, 292 among 200 (where the
// bucket is twice as large), and sent 17, 13, 8 and 7 kB of gossip. With 200 it takes 7 minutes of a processor and 5.7 GB.
func TestFlashCrowdOfRealNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			zones = 2
			size  = 4 << 20
		)
		n := *crowdSize
		o := &memOrigin{data: make([]byte, size)}
		_, _ = rand.NewChaCha8([32]byte{1}).Read(o.data)
		d := digest.FromBytes(o.data)
		nodes, quit := crowd(t, n, zones, 2, o)
		defer quit()
		time.Sleep(40 * time.Second)

		requests, told := asked(nodes)
		began := time.Now()
		done := make(chan error, n)
		for _, c := range nodes {
			go func() {
				time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
				done <- c.pull(d)
			}()
		}
		for range nodes {
			if err := <-done; err != nil {
				t.Errorf("pull: %v", err)
			}
		}
		took := time.Since(began)
		time.Sleep(10 * time.Second) // announcements
		requestsAfter, toldAfter := asked(nodes)
		rpcs, bytes := busiest(requests, requestsAfter), busiest(told, toldAfter)
		copies := float64(o.sent.Load()) / size
		imported := map[string]int64{}
		for _, c := range nodes {
			in := c.x.Status().BytesIn
			imported[c.zone] += in.OtherZone + in.Origin
		}
		t.Logf("%d nodes in %v of virtual time: origin copies %.3f, imported %v, DHT requests at the busiest node %d, gossip of the busiest %d bytes",
			n, took, copies, imported, rpcs, bytes)
		if copies != 1 {
			t.Errorf("the origin sent %.3f copies", copies)
		}
		for zone, in := range imported {
			if in > size+size/8 { // a piece more: its arbiters saw different members
				t.Errorf("%s imported %.3f copies", zone, float64(in)/size)
			}
		}
		if rpcs > 200 && (n < 200 || rpcs > 400) { // from 200 members on a record has twice as many copies
			t.Errorf("a node was asked %d times by the DHT", rpcs)
		}
		if bytes > 40<<10 {
			t.Errorf("a node sent %d bytes of gossip", bytes)
		}
	})
}
