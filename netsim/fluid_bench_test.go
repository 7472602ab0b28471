package netsim

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// BenchmarkFluid runs the network alone: every host sends two pieces of 1 MiB at a time to others of its zone, the next
// as soon as one is over. A window's starts come in the order of the senders.
func BenchmarkFluid(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("10x%d", n), func(b *testing.B) {
			s, err := Parse("x.yaml", fmt.Appendf(nil, "name: x\nzones: [{name: a, count: 10, hosts: %d}]\nlayers: [{size: 1GiB}]\n", n))
			if err != nil {
				b.Fatal(err)
			}
			t := newTopology(s)
			width := t.window()
			f := newFluid(t, swarm.Time(width))
			rng := rand.New(rand.NewPCG(1, 2))
			key := uint64(0)
			send := func(from int32) {
				to := from
				for to == from {
					to = t.zones[t.nodes[from].zone][rng.IntN(n)]
				}
				key++
				f.cmds.put(command{at: f.now.Add(time.Duration(rng.Int64N(int64(width)))), key: key, flow: flow{src: from, dst: to, part: 1 << 20, size: 1 << 20, cap: 1e12}})
			}
			for i := range t.nodes {
				send(int32(i))
				send(int32(i))
			}
			var w int64
			run := func() (ended int) {
				f.run(w)
				w++
				for _, ev := range f.out {
					if ev.kind == evServed {
						ended++
						send(ev.node)
					}
				}
				f.out = f.out[:0]
				return ended
			}
			for range 20 {
				run()
			}
			pieces, began := 0, time.Now()
			for b.Loop() {
				pieces += run()
			}
			b.ReportMetric(float64(time.Since(began).Nanoseconds())/float64(pieces), "ns/piece")
		})
	}
}
