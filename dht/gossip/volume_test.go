package gossip

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
)

var zoneSizes = flag.String("nodes", "40", "sizes of the zones whose gossip is measured")

// zoneOf starts n nodes of one zone, each connected to up to degree of those before it; call it within a synctest
// bubble.
func zoneOf(t *testing.T, n, degree int) (nodes []*meshNode, quit func()) {
	configs := make([]Config, n)
	for i := range configs {
		configs[i] = Config{
			Zone: "a", Seed: i == 0, DataPort: 65004,
			Coordinate: func() Coordinate { return Coordinate{Error: 0.1} },
		}
	}
	nodes, quit = mesh(t, configs...)
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	for i, node := range nodes {
		for _, j := range rng.Perm(i)[:min(i, degree)] {
			node.connect(t, nodes[j])
		}
	}
	return nodes, quit
}

// sent returns what each node sends while f runs, in bytes.
func sent(nodes []*meshNode, f func()) []int64 {
	out := make([]int64, len(nodes))
	for i, n := range nodes {
		out[i] = -n.Stats().BytesOut
	}
	f()
	for i, n := range nodes {
		out[i] += n.Stats().BytesOut
	}
	return out
}

func mean(v []int64) int64 {
	var sum int64
	for _, x := range v {
		sum += x
	}
	return sum / int64(len(v))
}

// What a node sends does not grow with its zone: at most 2 kB/s when nothing happens, and for an image of eight layers
// that all pull in the same moment a few kB for each. Run it with -nodes 25,50,100,200 for the law.
func TestVolumeIsBounded(t *testing.T) {
	const (
		idleTime  = 45 * time.Second
		layers    = 8
		idleLimit = 2000 // bytes a second, the busiest node
		pullLimit = 6000 // bytes a layer, the busiest node
	)
	for _, size := range strings.Split(*zoneSizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(size, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nodes, quit := zoneOf(t, n, 8)
				defer quit()
				time.Sleep(45 * time.Second) // the first presences of newcomers
				idle := sent(nodes, func() { time.Sleep(idleTime) })
				pull := sent(nodes, func() {
					announceAll(nodes, layers, false)
					time.Sleep(5 * time.Second)
					announceAll(nodes, layers, true)
					time.Sleep(5 * time.Second)
				})
				for i, x := range idle {
					pull[i] -= x * 10 / 45
				}
				seconds := int64(idleTime / time.Second)
				t.Logf("%d nodes: idle %d B/s a node, %d the busiest; a pull %d bytes a layer, %d the busiest",
					n, mean(idle)/seconds, slices.Max(idle)/seconds, mean(pull)/layers, slices.Max(pull)/layers)
				if got := slices.Max(idle) / seconds; got > idleLimit {
					t.Errorf("a node sends %d B/s when idle", got)
				}
				if got := slices.Max(pull) / layers; got > pullLimit {
					t.Errorf("a node sends %d bytes for a layer", got)
				}
				for i, m := range nodes {
					if known := len(m.Members()); known < n-1-n/100 { // the last to come may not have got around
						t.Errorf("node %d knows %d of %d others", i, known, n-1)
					}
					for l := range layers {
						if got := len(m.Holders(testDigest(fmt.Sprint("layer", l)))); got < tellers-1 || got > 2*tellers {
							t.Errorf("node %d knows %d holders of layer %d, want about %d", i, got, l, tellers)
						}
					}
				}
			})
		})
	}
}

func announceAll(nodes []*meshNode, layers int, holding bool) {
	for i := range layers {
		for _, n := range nodes {
			n.Announce(testDigest(fmt.Sprint("layer", i)), holding)
		}
	}
}

// What is announced again is heard again: by those who came between, within the two minutes for which pubsub drops
// repeated messages.
func TestRepeatIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, quit := mesh(t, Config{Zone: "a"}, Config{Zone: "a"}, Config{Zone: "a"}, Config{Zone: "a"})
		defer quit()
		nodes[1].connect(t, nodes[0])
		time.Sleep(5 * time.Second)
		blob := testDigest("kept")
		nodes[0].Announce(blob, true)
		time.Sleep(10 * time.Second)
		for _, n := range nodes[2:] {
			n.connect(t, nodes[0])
			n.connect(t, nodes[1])
		}
		time.Sleep(5 * time.Second)
		if got := nodes[2].Holders(blob); len(got) != 0 {
			t.Fatalf("heard before it was there: %v", got)
		}
		nodes[0].Announce(blob, true)
		time.Sleep(3 * time.Second)
		for i, n := range nodes[1:] {
			if got := n.Holders(blob); len(got) != 1 {
				t.Errorf("node %d: holders %v", i+1, got)
			}
		}
	})
}

// What was announced to nobody is not taken for said.
func TestAnnouncedToNobodyIsNotSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, quit := mesh(t, Config{Zone: "a"}, Config{Zone: "a"})
		defer quit()
		blob := testDigest("early")
		for range 4 {
			nodes[0].Announce(blob, true)
			time.Sleep(time.Second)
		}
		nodes[1].connect(t, nodes[0])
		time.Sleep(5 * time.Second)
		nodes[0].Announce(blob, true)
		time.Sleep(3 * time.Second)
		if got := nodes[1].Holders(blob); len(got) != 1 {
			t.Errorf("holders %v", got)
		}
	})
}

// A neighbour that sends nonsense is counted, and does no harm.
func TestNonsenseIsRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, quit := mesh(t, Config{Zone: "a"}, Config{Zone: "a"})
		defer quit()
		nodes[1].connect(t, nodes[0])
		time.Sleep(5 * time.Second)
		topic := "/meshd/3/zone/a"
		frame, err := (&pb.RPC{Publish: []*pb.Message{{Data: []byte("nonsense"), Topic: &topic}}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		stream, err := nodes[1].host.NewStream(t.Context(), nodes[0].host.ID(), pubsub.GossipSubID_v12)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Reset()
		if _, err := stream.Write(appendBytes(nil, string(frame))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s := nodes[0].Stats(); s.BytesIn == 0 || s.BytesOut == 0 || s.Delivered == 0 || s.Rejected != 1 {
			t.Errorf("counted %+v", s)
		}
	})
}
