package netsim

import (
	"math"
	"slices"
)

// maxPath is the most links that a flow may cross: uplink, pipe out of a zone, pair pipe, pipe into a zone, downlink.
const maxPath = 5

// solver shares the capacity of links among flows by max-min fairness: no flow can get more without another that has
// no more than it getting less.
//
// Each link keeps a level, the rate that it gives to each flow which no other link holds back more; a flow's rate is
// the least level on its path, or its own cap. A level follows from the levels of the other links of its flows. Links
// whose inputs changed are recomputed until nothing moves: wherever that ends, each flow below its cap crosses a full
// link on which nobody has more, which is what max-min fairness means; and it ends, because the lowest level
// settles first, then the next (Charny, Clark and Jain 1995). A change of one flow costs what it moves, not the size of
// the network.
type solver struct {
	links  []link
	levels []float64 // of each link; +Inf while it is not full
	flows  []path
	rates  []float64 // of each flow, as of the last solve
	marks  []bool    // flows in touched
	free   []int32
	// tolerance is the relative change of a level that is not passed on. Zero is exact up to rounding.
	tolerance float64

	queue   []int32    // dirty links, in order
	touched []crossing // flows whose rate may have changed, on the link where that was seen first
	changed []int32
	demand  []float64
}

type link struct {
	cap   float64 // bytes per second; +Inf: no limit
	flows []crossing
	dirty bool
}

// crossing is a flow on a link, with what the link's level follows from, if that is little, beside each other.
type crossing struct {
	flow int32
	link int32
	peer int32 // the other link of a flow over two; -1: ask the path
	cap  float64
}

type path struct {
	links [maxPath]int32
	n     int8
	cap   float64
}

func newSolver(links int) *solver {
	s := &solver{links: make([]link, links), levels: make([]float64, links)}
	for i := range s.links {
		s.links[i].cap, s.levels[i] = math.Inf(1), math.Inf(1)
	}
	return s
}

// setCap changes what a link can carry.
func (s *solver) setCap(l int32, cap float64) {
	if s.links[l].cap != cap {
		s.links[l].cap = cap
		s.soil(l)
	}
}

// add makes a flow over links, at most cap bytes per second. Its rate is that of the next solve.
func (s *solver) add(links []int32, cap float64) int32 {
	var f int32
	if n := len(s.free); n > 0 {
		f, s.free = s.free[n-1], s.free[:n-1]
	} else {
		s.flows, s.rates, s.marks = append(s.flows, path{}), append(s.rates, 0), append(s.marks, false)
		f = int32(len(s.flows) - 1)
	}
	p := &s.flows[f]
	*p = path{n: int8(len(links)), cap: cap}
	s.rates[f] = 0
	for i, l := range links {
		c := crossing{flow: f, link: l, peer: -1, cap: cap}
		if len(links) == 2 {
			c.peer = links[1-i]
		}
		p.links[i] = l
		s.links[l].flows = append(s.links[l].flows, c)
		s.soil(l)
		s.touch(c)
	}
	return f
}

// remove ends a flow.
func (s *solver) remove(f int32) {
	p := &s.flows[f]
	for _, l := range p.links[:p.n] {
		list := s.links[l].flows
		last := len(list) - 1
		list[s.on(l, f)] = list[last]
		s.links[l].flows = list[:last]
		s.soil(l)
	}
	p.n = 0
	s.free = append(s.free, f)
	if s.marks[f] {
		s.marks[f] = false
		s.touched = slices.DeleteFunc(s.touched, func(c crossing) bool { return c.flow == f })
	}
}

// on returns the place of a flow in a link's list. Lists are short but for pipes between zones.
func (s *solver) on(l, f int32) int {
	return slices.IndexFunc(s.links[l].flows, func(c crossing) bool { return c.flow == f })
}

// rate returns the bytes per second of a flow as of the last solve.
func (s *solver) rate(f int32) float64 { return s.rates[f] }

// solve settles all levels and returns the flows whose rate changed. The list is valid until the next call.
func (s *solver) solve() []int32 {
	for i := 0; i < len(s.queue); i++ {
		s.settle(s.queue[i])
	}
	s.queue = s.queue[:0]
	s.changed = s.changed[:0]
	for i := range s.touched {
		c := &s.touched[i]
		s.marks[c.flow] = false
		r := min(c.cap, s.levels[c.link])
		if c.peer >= 0 {
			r = min(r, s.levels[c.peer])
		} else {
			r = s.least(&s.flows[c.flow], -1, -1)
		}
		if r != s.rates[c.flow] {
			s.rates[c.flow] = r
			s.changed = append(s.changed, c.flow)
		}
	}
	s.touched = s.touched[:0]
	return s.changed
}

func (s *solver) soil(l int32) {
	if k := &s.links[l]; !k.dirty {
		k.dirty = true
		s.queue = append(s.queue, l)
	}
}

func (s *solver) touch(c crossing) {
	if !s.marks[c.flow] {
		s.marks[c.flow] = true
		s.touched = append(s.touched, c)
	}
}

// least returns the least level on a path and its cap, two links left out.
func (s *solver) least(p *path, not, nor int32) float64 {
	r := p.cap
	for _, l := range p.links[:p.n] {
		if l != not && l != nor {
			r = min(r, s.levels[l])
		}
	}
	return r
}

// settle recomputes a link's level and soils the links that this moves.
func (s *solver) settle(l int32) {
	k := &s.links[l]
	k.dirty = false
	old := s.levels[l]
	level := s.levelOf(l, k)
	s.levels[l] = level
	if near(old, level, s.tolerance) {
		return
	}
	for i := range k.flows {
		c := &k.flows[i]
		s.touch(*c)
		if c.peer >= 0 {
			s.pass(c.peer, min(c.cap, old), min(c.cap, level))
			continue
		}
		p := &s.flows[c.flow]
		for _, m := range p.links[:p.n] {
			if m != l && !s.links[m].dirty {
				o := s.least(p, l, m)
				s.pass(m, min(o, old), min(o, level))
			}
		}
	}
}

// pass tells a link that what a flow asks of it, the least level elsewhere, was and is so much. If that was and is above
// its own level, it does not care.
func (s *solver) pass(m int32, was, is float64) {
	if was != is && min(was, is) < s.levels[m] {
		s.soil(m)
	}
}

// levelOf fills a link: flows that ask for less than the level get what they ask, the others share the rest.
func (s *solver) levelOf(l int32, k *link) float64 {
	if math.IsInf(k.cap, 1) {
		return k.cap
	}
	if cap(s.demand) < len(k.flows) {
		s.demand = make([]float64, 2*len(k.flows))
	}
	demand := s.demand[:len(k.flows)]
	sum := 0.0
	for i := range k.flows {
		c := &k.flows[i]
		d := c.cap
		if c.peer >= 0 {
			d = min(d, s.levels[c.peer])
		} else {
			d = s.least(&s.flows[c.flow], l, -1)
		}
		demand[i] = d
		sum += d
	}
	if sum <= k.cap {
		return math.Inf(1)
	}
	left, rest := k.cap, demand
	for {
		level := left / float64(len(rest))
		n := 0
		for _, d := range rest {
			if d < level {
				left -= d
			} else {
				rest[n] = d
				n++
			}
		}
		if n == len(rest) || n == 0 {
			return level
		}
		rest = rest[:n]
	}
}

// near reports whether two levels differ by no more than a relative tolerance, or by rounding.
func near(a, b, tolerance float64) bool {
	return a == b || math.Abs(a-b) <= max(tolerance, 1e-12)*min(a, b)
}
