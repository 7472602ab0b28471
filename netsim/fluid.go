package netsim

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// fluid is the network: transfers as flows over links of fixed capacity, shared max-min fairly at every moment. It knows
// nothing of pieces but their sizes. One goroutine runs it, window by window, beside those of the agents.
type fluid struct {
	t     *topology
	links *solver
	flows []flow          // by the solver's index
	paces []pace          // of the flows
	early map[uint64]bool // stopped before they began, which slow start may delay
	dead  []bool          // nodes that were killed
	ends  []ending        // heap of the flows with a rate, by the end of their current part
	cmds  *calendar[command]
	order []int32 // scratch
	now   swarm.Time
	width swarm.Time
	out   []event

	caps    []float64
	scale   []float64 // of each link's capacity: faults
	blocked []int     // faults that let nothing through
	load    loads
}

// command starts or stops a flow at a time.
type command struct {
	at  swarm.Time
	op  op
	key uint64
	flow
}

type op uint8

const (
	opStart op = iota
	opStop
)

// flow is a transfer of parts of equal size, the last of which may be shorter. A transfer between nodes is one part.
type flow struct {
	src, dst int32 // src is atOrigin for the registry
	part     int64 // bytes of each part
	size     int64 // bytes in all
	cap      float64
	blob     int32
	unit     uint32 // piece of the next part
	by       int32
	flag     uint8

	live  bool
	key   uint64
	sent  int64 // bytes of parts that are over
	began swarm.Time
}

// pace is what changes of a flow whenever another comes or goes.
type pace struct {
	left  float64 // bytes of the current part
	rate  float64
	last  swarm.Time // when left was right
	place int32      // among ends, -1 if it is not there
}

// ending is when the current part of a flow will be over.
type ending struct {
	at   swarm.Time
	key  uint64
	flow int32
}

// atOrigin is the src of what comes from the registry.
const atOrigin = -1

// never is the end of a flow that has no rate.
const never = swarm.Time(math.MaxInt64)

func newFluid(t *topology, width swarm.Time) *fluid {
	n, z := len(t.nodes), len(t.s.Zones)
	f := &fluid{
		t: t, links: newSolver(2*n + 2*z + 1 + z*z), early: map[uint64]bool{}, width: width,
		cmds: newCalendar(width, func(c *command) swarm.Time { return c.at }),
	}
	f.links.tolerance = float64(t.s.Network.Tolerance)
	f.caps = make([]float64, len(f.links.links))
	f.scale, f.blocked = make([]float64, len(f.caps)), make([]int, len(f.caps))
	for i := range f.caps {
		f.caps[i], f.scale[i] = math.Inf(1), 1
	}
	for i, nd := range t.nodes {
		f.caps[f.up(int32(i))], f.caps[f.down(int32(i))] = nd.up, nd.down
	}
	for i, zone := range t.s.Zones {
		f.caps[f.pipeOut(int32(i))], f.caps[f.pipeIn(int32(i))] = float64(zone.Out), float64(zone.In)
	}
	for _, p := range t.s.WAN.Pairs {
		if p.Rate > 0 {
			a, b := int32(t.s.zone(p.A)), int32(t.s.zone(p.B))
			f.caps[f.pair(a, b)], f.caps[f.pair(b, a)] = float64(p.Rate), float64(p.Rate)
		}
	}
	f.caps[f.egress()] = float64(t.s.Origin.Egress)
	for l := range f.caps {
		f.caps[l] /= 1 + float64(t.s.Network.Overhead)
		f.links.setCap(int32(l), f.caps[l])
	}
	f.dead = make([]bool, n)
	f.load = newLoads(t, len(f.caps))
	return f
}

// Numbers of the links.
func (f *fluid) up(node int32) int32       { return 2 * node }
func (f *fluid) down(node int32) int32     { return 2*node + 1 }
func (f *fluid) pipeOut(zone int32) int32  { return int32(2*len(f.t.nodes)) + 2*zone }
func (f *fluid) pipeIn(zone int32) int32   { return f.pipeOut(zone) + 1 }
func (f *fluid) egress() int32             { return int32(2*len(f.t.nodes) + 2*len(f.t.s.Zones)) }
func (f *fluid) pair(from, to int32) int32 { return f.egress() + 1 + from*int32(len(f.t.s.Zones)) + to }

// path appends the links that a flow crosses.
func (f *fluid) path(links []int32, src, dst int32) []int32 {
	to := f.t.nodes[dst].zone
	from := f.t.home
	if src == atOrigin {
		links = append(links, f.egress())
	} else {
		links = append(links, f.up(src))
		from = f.t.nodes[src].zone
	}
	if from != to {
		if from >= 0 {
			links = append(links, f.pipeOut(from))
			if !math.IsInf(f.caps[f.pair(from, to)], 1) {
				links = append(links, f.pair(from, to))
			}
		}
		links = append(links, f.pipeIn(to))
	}
	return append(links, f.down(dst))
}

// rescale multiplies the capacity of a link, for a fault. It takes effect in the next window.
func (f *fluid) rescale(l int32, by float64) {
	f.scale[l] *= by
	f.recap(l)
}

// block lets nothing through a link until it is unblocked, by -1, as often as it was blocked, by 1.
func (f *fluid) block(l int32, by int) {
	f.blocked[l] += by
	f.recap(l)
}

func (f *fluid) recap(l int32) {
	cap := f.caps[l] * f.scale[l]
	if f.blocked[l] > 0 {
		cap = 0
	}
	f.links.setCap(l, cap)
}

// next returns when something happens next.
func (f *fluid) next() (swarm.Time, bool) {
	at, ok := never, false
	if w, some := f.cmds.next(); some {
		at, ok = swarm.Time(w)*f.width, true
	}
	if len(f.ends) > 0 && f.ends[0].at < at {
		at, ok = f.ends[0].at, true
	}
	return at, ok
}

// run lets time pass to the end of window w: flows start, end and stop. What agents learn of it is in out.
func (f *fluid) run(w int64) {
	end := swarm.Time(w+1) * f.width
	cmds := f.cmds.take(w)
	order := f.inOrder(cmds)
	i := 0
	f.settle() // faults between windows
	for {
		at, cmd := never, false
		if len(f.ends) > 0 {
			at = f.ends[0].at
		}
		if i < len(order) && cmds[order[i]].at < at {
			at, cmd = cmds[order[i]].at, true
		}
		if at >= end {
			break
		}
		f.now = max(f.now, at)
		if cmd {
			f.do(&cmds[order[i]])
			i++
		} else {
			f.ended(f.ends[0].flow)
		}
		f.settle()
	}
	for ; i < len(order); i++ {
		f.do(&cmds[order[i]])
		f.settle()
	}
	f.cmds.done(cmds)
	f.now = max(f.now, end)
}

// inOrder returns the places of commands by time; those at the same time stay in order.
func (f *fluid) inOrder(c []command) []int32 {
	f.order = f.order[:0]
	for i := range c {
		f.order = append(f.order, int32(i))
	}
	slices.SortFunc(f.order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(c[a].at, c[b].at), cmp.Compare(a, b))
	})
	return f.order
}

func (f *fluid) do(c *command) {
	if c.op == opStop {
		if i := f.find(c.src, c.key); i >= 0 {
			f.stop(i)
		} else {
			f.early[c.key] = true
		}
		return
	}
	if len(f.early) > 0 && f.early[c.key] {
		delete(f.early, c.key)
		return
	}
	fl := c.flow
	if f.dead[fl.dst] || fl.src != atOrigin && f.dead[fl.src] {
		return
	}
	fl.key, fl.began, fl.live = c.key, f.now, true
	var links [maxPath]int32
	i := f.links.add(f.path(links[:0], fl.src, fl.dst), fl.cap)
	for int(i) >= len(f.flows) {
		f.flows, f.paces = append(f.flows, flow{}), append(f.paces, pace{})
	}
	f.flows[i] = fl
	f.paces[i] = pace{left: float64(min(fl.part, fl.size)), last: f.now, place: -1}
	if fl.src >= 0 {
		f.emit(event{at: f.now.Add(f.t.oneWay(fl.src, fl.dst)), node: fl.dst, from: fl.src, kind: evStarted, xfer: fl.key})
	}
	if fl.size == 0 {
		f.endAt(i, f.now)
	}
}

// find returns the flow of a source by its key, -1 if there is none.
func (f *fluid) find(src int32, key uint64) int32 {
	l := f.egress()
	if src != atOrigin {
		l = f.up(src)
	}
	for _, c := range f.links.links[l].flows {
		if f.flows[c.flow].key == key {
			return c.flow
		}
	}
	return -1
}

// settle has the solver share out anew and gives the flows their rates.
func (f *fluid) settle() {
	if len(f.links.queue) == 0 && len(f.links.touched) == 0 {
		return
	}
	for _, i := range f.links.solve() {
		f.setRate(i, f.links.rate(i))
	}
}

// setRate gives a flow a rate from now on.
func (f *fluid) setRate(i int32, rate float64) {
	p := &f.paces[i]
	p.left = max(p.left-p.rate*f.now.Sub(p.last).Seconds(), 0)
	p.last, p.rate = f.now, rate
	f.due(i)
}

// due sets when the current part of a flow will be over.
func (f *fluid) due(i int32) {
	p := &f.paces[i]
	end := never
	if p.left <= 0 {
		end = f.now
	} else if p.rate > 0 {
		if d := math.Ceil(p.left / p.rate * 1e9); d < 1e15 {
			end = f.now.Add(time.Duration(d))
		}
	}
	f.endAt(i, end)
}

// ended handles the end of a part.
func (f *fluid) ended(i int32) {
	fl := &f.flows[i]
	n := min(fl.part, fl.size-fl.sent)
	fl.sent += n
	f.load.add(f, i, n)
	if fl.src == atOrigin {
		f.tellOrigin(fl, n)
	} else {
		f.tellPeers(fl)
	}
	fl.began = f.now
	if fl.sent >= fl.size {
		f.drop(i)
		return
	}
	fl.unit++
	f.paces[i].left, f.paces[i].last = float64(min(fl.part, fl.size-fl.sent)), f.now
	f.due(i)
}

func (f *fluid) tellOrigin(fl *flow, n int64) {
	at := f.now.Add(f.t.origin + f.t.storing(n))
	f.emit(event{at: at, node: fl.dst, kind: evOriginPiece, blob: fl.blob, unit: fl.unit, xfer: fl.key, flag: fl.flag})
	if fl.sent >= fl.size {
		f.emit(event{at: at, node: fl.dst, kind: evOriginEnd, blob: fl.blob, xfer: fl.key})
	}
}

func (f *fluid) tellPeers(fl *flow) {
	f.emit(event{at: f.now, node: fl.src, from: fl.dst, kind: evServed, xfer: fl.key, flag: okay})
	f.emit(event{
		at: f.now.Add(f.t.oneWay(fl.src, fl.dst) + f.t.storing(fl.size)), node: fl.dst, from: fl.src,
		kind: evPiece, blob: fl.blob, unit: fl.unit, xfer: fl.key, by: fl.by, flag: fl.flag,
	})
}

// emit tells an agent: not before the next window, in which it may be running already.
func (f *fluid) emit(e event) {
	e.at = max(e.at, f.now.Add(time.Duration(f.width)))
	f.out = append(f.out, e)
}

// stop ends a flow in the middle. What it moved was for nothing.
func (f *fluid) stop(i int32) {
	if moved := f.moved(i); moved > 0 {
		f.load.add(f, i, moved)
		f.load.wasted += moved
	}
	f.drop(i)
}

// moved returns the bytes of the current part that are over.
func (f *fluid) moved(i int32) int64 {
	fl, p := &f.flows[i], &f.paces[i]
	left := p.left - p.rate*f.now.Sub(p.last).Seconds()
	return max(min(fl.part, fl.size-fl.sent)-int64(math.Ceil(max(left, 0))), 0)
}

func (f *fluid) drop(i int32) {
	f.endAt(i, never)
	f.flows[i].live = false
	f.links.remove(i)
}

// kill ends all flows from or to a node for good and returns them: what was to begin later does not.
func (f *fluid) kill(node int32) []flow {
	f.dead[node] = true
	var hit []flow
	for _, l := range []int32{f.up(node), f.down(node)} {
		for len(f.links.links[l].flows) > 0 {
			i := f.links.links[l].flows[0].flow
			hit = append(hit, f.flows[i])
			f.stop(i)
		}
	}
	return hit
}

// finish counts what flows that are under way at the end have moved.
func (f *fluid) finish() {
	for i := range f.flows {
		if f.flows[i].live {
			if moved := f.moved(int32(i)); moved > 0 {
				f.load.add(f, int32(i), moved)
			}
		}
	}
}

// The heap of ends, ordered by time and then by key, so that equal times have one order.

func (e *ending) before(o *ending) bool { return e.at < o.at || e.at == o.at && e.key < o.key }

// endAt sets when the current part of a flow will be over; never takes it out of the heap.
func (f *fluid) endAt(i int32, at swarm.Time) {
	place := f.paces[i].place
	switch {
	case at == never && place < 0:
	case at == never:
		last := len(f.ends) - 1
		moved := f.ends[last]
		f.ends = f.ends[:last]
		f.paces[i].place = -1
		if int(place) < last {
			f.settleAt(place, moved)
		}
	case place < 0:
		f.ends = append(f.ends, ending{})
		f.settleAt(int32(len(f.ends)-1), ending{at, f.flows[i].key, i})
	default:
		f.settleAt(place, ending{at, f.flows[i].key, i})
	}
}

// settleAt puts e into the heap, whose order is right but for a gap at a place.
func (f *fluid) settleAt(at int32, e ending) {
	ends := f.ends
	for at > 0 {
		p := (at - 1) / 4
		if !e.before(&ends[p]) {
			break
		}
		ends[at] = ends[p]
		f.paces[ends[at].flow].place = at
		at = p
	}
	for {
		least, first := int32(-1), 4*at+1
		for c := first; c < first+4 && int(c) < len(ends); c++ {
			if least < 0 || ends[c].before(&ends[least]) {
				least = c
			}
		}
		if least < 0 || !ends[least].before(&e) {
			break
		}
		ends[at] = ends[least]
		f.paces[ends[at].flow].place = at
		at = least
	}
	ends[at] = e
	f.paces[e.flow].place = at
}
