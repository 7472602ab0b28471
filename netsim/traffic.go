package netsim

import (
	"math"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// Sources of bytes.
const (
	fromOrigin = iota
	fromZone
	fromOther
	sources
)

var sourceNames = [sources]string{"origin", "zone", "other_zone"}

// bin is the span of one value in a series over time.
const bin = swarm.Time(100 * time.Millisecond)

// loads counts bytes by link and over time.
type loads struct {
	links    []int64
	bySource [sources][]float64 // bytes in each bin
	pipes    map[int32][]float64
	into     []int64 // bytes that came into each zone
	origin   int64
	wasted   int64 // moved by transfers that were stopped
	total    int64
}

func newLoads(t *topology, links int) loads {
	return loads{links: make([]int64, links), pipes: map[int32][]float64{}, into: make([]int64, len(t.s.Zones))}
}

// add counts n bytes that a flow moved between its begin and now.
func (l *loads) add(f *fluid, i int32, n int64) {
	l.total += n
	source := fromZone
	fl, over := &f.flows[i], &f.links.flows[i]
	for _, k := range over.links[:over.n] {
		l.links[k] += n
		if int(k) >= 2*len(f.t.nodes) {
			l.pipes[k] = spread(l.pipes[k], fl.began, f.now, float64(n))
		}
	}
	to := f.t.nodes[fl.dst].zone
	switch {
	case fl.src == atOrigin:
		source = fromOrigin
		l.origin += n
		if f.t.home != to {
			l.into[to] += n
		}
	case f.t.nodes[fl.src].zone != to:
		source = fromOther
		l.into[to] += n
	}
	l.bySource[source] = spread(l.bySource[source], fl.began, f.now, float64(n))
}

// spread adds n to the bins between two times, evenly.
func spread(series []float64, from, to swarm.Time, n float64) []float64 {
	first, last := int(from/bin), int(to/bin)
	for len(series) <= last {
		series = append(series, 0)
	}
	if first == last {
		series[last] += n
		return series
	}
	whole := float64(to - from)
	for b := first; b <= last; b++ {
		lo, hi := max(from, swarm.Time(b)*bin), min(to, swarm.Time(b+1)*bin)
		series[b] += n * float64(hi-lo) / whole
	}
	return series
}

// storing returns how long hash and write of n bytes take after the last came.
func (t *topology) storing(n int64) time.Duration {
	return time.Duration(float64(n) / float64(t.s.Delays.Store) * 1e9)
}

// A conn is what a sender knows of its connections to a peer.
type conn struct {
	window float64    // bytes that may be in flight
	used   swarm.Time // last time
}

// idleReset is the silence after which a sender starts slowly again, as Linux does.
const idleReset = swarm.Time(time.Second)

// ramp returns how much longer a transfer of n bytes takes than its share of the path says, because a connection that
// begins or was idle starts slowly. It is the stated simplification of slow start: the time is put in front of the
// transfer, not into its rate. The window then grows by what was sent.
func (c *conn) ramp(t *topology, now swarm.Time, n int64, rtt time.Duration, rate float64) time.Duration {
	first := float64(t.s.Network.InitialWindow)
	if c.window < first || now-c.used > idleReset {
		c.window = first
	}
	full := min(rate*rtt.Seconds(), float64(t.s.Network.Window)) // bytes in flight at the path's rate
	var extra time.Duration
	if c.window < full {
		// Each round trip sends a window and doubles it, until the path is full or all is sent.
		rounds := math.Log2(min(full/c.window, 1+float64(n)/c.window))
		slow := rounds * rtt.Seconds()
		sent := c.window * (math.Exp2(rounds) - 1)
		extra = time.Duration(max(slow-sent/rate, 0) * 1e9)
	}
	c.window = min(c.window+float64(n), float64(t.s.Network.Window))
	c.used = now.Add(extra)
	return extra
}

// flowCap returns the most that one connection carries: its window each round trip, and what TCP makes of loss.
func (t *topology) flowCap(rtt time.Duration) float64 {
	s := max(rtt.Seconds(), 1e-5)
	limit := float64(t.s.Network.Window) / s
	if p := float64(t.s.Network.Loss); p > 0 {
		limit = min(limit, 1460*1.22/(s*math.Sqrt(p)))
	}
	return limit
}
