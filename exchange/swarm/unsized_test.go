package swarm_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/swarm/swarmtest"
)

// unsized is a net around an origin that sends a blob of unknown size in so much time.
func unsized(rank int, takes time.Duration, hosts, seeds int) *swarmtest.Net {
	n := swarmtest.New(32 * mib)
	n.Config.Unsized = 15 * time.Minute
	n.Digest = digest.FromString(fmt.Sprint("blob ", rank))
	n.Origin.NoSize = true
	n.Origin.Rate = float64(n.Size) / takes.Seconds()
	for i := range hosts {
		n.Add([]string{"a", "b"}[i%2], i < seeds)
	}
	return n
}

// readers returns the nodes that read the origin so far.
func readers(n *swarmtest.Net) []*swarmtest.Node {
	return slices.DeleteFunc(slices.Clone(n.Nodes()), func(nd *swarmtest.Node) bool { return nd.FromOrigin == 0 })
}

// Twenty hosts want a blob of unknown size, at once and while it is being read: its origin sends it once, however long that
// takes while the one that reads it lives.
func TestUnsizedIsReadOnce(t *testing.T) {
	for _, seeds := range []int{0, 1, 3} {
		for _, takes := range []time.Duration{5 * time.Second, 2 * time.Minute} {
			t.Run(fmt.Sprint(seeds, " seeds, ", takes), func(t *testing.T) {
				n := unsized(seeds, takes, 20, seeds)
				for i, nd := range n.Nodes() {
					at := time.Duration(i) * time.Millisecond
					if i%4 == 3 {
						at = time.Duration(i) * takes / 20
					}
					n.At(at, func() { nd.Want(-1) })
				}
				n.Run(takes + 20*time.Second)
				check(t, n, 1, 1.5)
			})
		}
	}
}

// The reader dies, or its process is stopped: one of the others takes over, soon, and no second one.
func TestUnsizedReaderDies(t *testing.T) {
	const takes = 24 * time.Second
	for rank := range 3 {
		for _, seeds := range []int{0, 1, 2} {
			for name, end := range map[string]func(*swarmtest.Node){
				"dies":  (*swarmtest.Node).Kill,
				"stops": func(nd *swarmtest.Node) { nd.Stopped = true },
			} {
				t.Run(fmt.Sprint(name, ", ", seeds, " seeds, blob ", rank), func(t *testing.T) {
					n := unsized(rank, takes, 12, seeds)
					for _, nd := range n.Nodes()[min(seeds, 1):] {
						nd.Want(-1)
					}
					n.Run(takes / 2)
					first := readers(n)
					if len(first) != 1 {
						t.Fatalf("%d nodes read the origin", len(first))
					}
					end(first[0])
					n.Run(takes/2 + takes + 20*time.Second)
					check(t, n, 1.55, 2)
					if all := readers(n); len(all) != 2 {
						t.Errorf("%d nodes read the origin", len(all))
					}
				})
			}
		}
	}
}

// A reader whose client goes away reads on: others wait for it.
func TestUnsizedReaderIsAwaited(t *testing.T) {
	n := unsized(1, 30*time.Second, 12, 0)
	for _, nd := range n.Nodes() {
		nd.Want(-1)
	}
	n.Run(5 * time.Second)
	for _, nd := range readers(n) {
		nd.Step(swarm.ReadClosed{Digest: n.Digest, Reader: 1})
	}
	n.Run(50 * time.Second)
	check(t, n, 1, 1.5)
}

// Who holds the lease, renews it for ever and brings nothing is believed for Config.Unsized. Then others read, one by one, and
// the first to have it serves all, those among them that read it for themselves.
func TestUnsizedHoarder(t *testing.T) {
	for _, row := range []struct {
		takes  time.Duration
		copies float64 // at most
	}{{10 * time.Second, 1.4}, {20 * time.Second, 1.9}} { // a quarter of Config.Unsized is 15 s
		for _, seeds := range []int{0, 1, 2} {
			for rank := range 2 {
				n := unsized(rank, row.takes, 0, 0)
				n.Config.Unsized = time.Minute
				for i := range 8 {
					n.Add([]string{"a", "b"}[i%2], i < seeds)
				}
				for _, nd := range n.Nodes()[min(seeds, 1):] {
					nd.Want(-1)
				}
				n.Run(3 * time.Second)
				for _, nd := range n.Nodes() {
					nd.Hoard = nd.FromOrigin > 0
				}
				n.Run(n.Config.Unsized + 2*n.Config.LastResort + row.takes + 10*time.Second)
				for _, nd := range n.Nodes() {
					if !nd.Hoard && nd.Done == 0 {
						t.Errorf("%d seeds, blob %d: %s has not got it (gave up: %v)", seeds, rank, nd.ID, nd.Ended)
					}
				}
				if copies, _ := n.Copies(); copies > row.copies {
					t.Errorf("%d seeds, blob %d: the origin sent %.2f copies", seeds, rank, copies)
				}
			}
		}
	}
}

// If the origin delivers to nobody, which a reader finds out after 30 s, everybody hears so within minutes.
func TestUnsizedFromNowhere(t *testing.T) {
	for _, seeds := range []int{0, 1, 2} {
		n := unsized(2, time.Minute, 10, seeds)
		n.Origin.Hangs = true
		for _, nd := range n.Nodes()[min(seeds, 1):] {
			nd.Want(-1)
		}
		n.Run(6 * time.Minute)
		for _, nd := range n.Nodes()[seeds:] {
			if took := time.Duration(nd.EndedAt); nd.Ended != swarm.GaveUpOrigin || took > 5*time.Minute {
				t.Errorf("%d seeds: %s ended with %v after %v", seeds, nd.ID, nd.Ended, took)
			}
		}
	}
}
