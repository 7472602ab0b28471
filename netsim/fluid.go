package netsim

import (
	"math"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// fluid is the network: transfers as flows over links of fixed capacity, shared max-min fairly at every moment. It knows
// nothing of pieces but their sizes. One goroutine runs it, window by window, beside those of the agents.
type fluid struct {
	t     *topology
	links *solver
	flows []flow          // by the solver's index
	early map[uint64]bool // stopped before they began, which slow start may delay
	ends  []int32         // heap of the flows with a rate, by the end of their current part
	cmds  *calendar[command]
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

	key   uint64
	sent  int64   // bytes of parts that are over
	left  float64 // bytes of the current part
	rate  float64
	last  swarm.Time // when left was right
	end   swarm.Time // when the current part will be over
	began swarm.Time
	heap  int32 // place among ends, -1 if none
	live  bool
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
		f.links.setCap(int32(l), f.caps[l])
	}
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

// path returns the links that a flow crosses.
func (f *fluid) path(src, dst int32) []int32 {
	to := f.t.nodes[dst].zone
	from := f.t.home
	links := make([]int32, 0, maxPath)
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
	if len(f.ends) > 0 && f.flows[f.ends[0]].end < at {
		at, ok = f.flows[f.ends[0]].end, true
	}
	return at, ok
}

// run lets time pass to the end of window w: flows start, end and stop. What agents learn of it is in out.
func (f *fluid) run(w int64) {
	end := swarm.Time(w+1) * f.width
	cmds := f.cmds.take(w)
	sortCommands(cmds)
	i := 0
	f.settle() // faults between windows
	for {
		at, cmd := never, false
		if len(f.ends) > 0 {
			at = f.flows[f.ends[0]].end
		}
		if i < len(cmds) && cmds[i].at < at {
			at, cmd = cmds[i].at, true
		}
		if at >= end {
			break
		}
		f.now = max(f.now, at)
		if cmd {
			f.do(&cmds[i])
			i++
		} else {
			f.ended(f.ends[0])
		}
		f.settle()
	}
	for ; i < len(cmds); i++ {
		f.do(&cmds[i])
		f.settle()
	}
	f.cmds.done(cmds)
	f.now = max(f.now, end)
}

func sortCommands(c []command) {
	for i := 1; i < len(c); i++ {
		for j := i; j > 0 && c[j].at < c[j-1].at; j-- {
			c[j], c[j-1] = c[j-1], c[j]
		}
	}
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
	fl.key, fl.began, fl.last, fl.live, fl.heap = c.key, f.now, f.now, true, -1
	fl.left = float64(min(fl.part, fl.size))
	i := f.links.add(f.path(fl.src, fl.dst), fl.cap)
	for int(i) >= len(f.flows) {
		f.flows = append(f.flows, flow{})
	}
	f.flows[i] = fl
	if fl.src >= 0 {
		f.emit(event{at: f.now.Add(f.t.oneWay(fl.src, fl.dst)), node: fl.dst, from: fl.src, kind: evStarted, xfer: fl.key})
	}
	if fl.size == 0 {
		f.flows[i].end = f.now
		f.push(i)
	}
}

// find returns the flow of a source by its key, -1 if there is none.
func (f *fluid) find(src int32, key uint64) int32 {
	l := f.egress()
	if src != atOrigin {
		l = f.up(src)
	}
	for _, i := range f.links.links[l].flows {
		if f.flows[i].key == key {
			return i
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
		f.pace(i, f.links.rate(i))
	}
}

// pace gives a flow a rate from now on.
func (f *fluid) pace(i int32, rate float64) {
	fl := &f.flows[i]
	fl.left = max(fl.left-fl.rate*f.now.Sub(fl.last).Seconds(), 0)
	fl.last, fl.rate = f.now, rate
	f.due(i)
}

// due sets when the current part of a flow will be over.
func (f *fluid) due(i int32) {
	fl := &f.flows[i]
	fl.end = never
	if fl.left <= 0 {
		fl.end = f.now
	} else if fl.rate > 0 {
		if d := math.Ceil(fl.left / fl.rate * 1e9); d < 1e15 {
			fl.end = f.now.Add(time.Duration(d))
		}
	}
	switch {
	case fl.end == never && fl.heap >= 0:
		f.pull(i)
	case fl.end == never:
	case fl.heap < 0:
		f.push(i)
	default:
		f.fix(fl.heap)
	}
}

// ended handles the end of a part.
func (f *fluid) ended(i int32) {
	fl := &f.flows[i]
	n := min(fl.part, fl.size-fl.sent)
	fl.sent += n
	f.load.add(f, fl, n)
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
	fl.left, fl.last = float64(min(fl.part, fl.size-fl.sent)), f.now
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
	fl := &f.flows[i]
	if moved := f.moved(fl); moved > 0 {
		f.load.add(f, fl, moved)
		f.load.wasted += moved
	}
	f.drop(i)
}

// moved returns the bytes of the current part that are over.
func (f *fluid) moved(fl *flow) int64 {
	left := fl.left - fl.rate*f.now.Sub(fl.last).Seconds()
	return max(min(fl.part, fl.size-fl.sent)-int64(math.Ceil(max(left, 0))), 0)
}

func (f *fluid) drop(i int32) {
	fl := &f.flows[i]
	if fl.heap >= 0 {
		f.pull(i)
	}
	fl.live = false
	f.links.remove(i)
}

// kill ends all flows from or to a node and returns them.
func (f *fluid) kill(node int32) []flow {
	var hit []flow
	for _, l := range []int32{f.up(node), f.down(node)} {
		for len(f.links.links[l].flows) > 0 {
			i := f.links.links[l].flows[0]
			hit = append(hit, f.flows[i])
			f.stop(i)
		}
	}
	return hit
}

// finish counts what flows that are under way at the end have moved.
func (f *fluid) finish() {
	for i := range f.flows {
		if fl := &f.flows[i]; fl.live {
			if moved := f.moved(fl); moved > 0 {
				f.load.add(f, fl, moved)
			}
		}
	}
}

// The heap of ends, ordered by time and then by key, so that equal times have one order.

func (f *fluid) before(a, b int32) bool {
	x, y := &f.flows[a], &f.flows[b]
	return x.end < y.end || x.end == y.end && x.key < y.key
}

func (f *fluid) push(i int32) {
	f.ends = append(f.ends, i)
	f.flows[i].heap = int32(len(f.ends) - 1)
	f.fix(f.flows[i].heap)
}

// pull takes a flow out of the heap.
func (f *fluid) pull(i int32) {
	at, last := f.flows[i].heap, int32(len(f.ends)-1)
	f.swap(at, last)
	f.ends = f.ends[:last]
	f.flows[i].heap = -1
	if at < last {
		f.fix(at)
	}
}

func (f *fluid) swap(a, b int32) {
	f.ends[a], f.ends[b] = f.ends[b], f.ends[a]
	f.flows[f.ends[a]].heap, f.flows[f.ends[b]].heap = a, b
}

// fix restores the order around a place whose flow changed.
func (f *fluid) fix(at int32) {
	for at > 0 {
		p := (at - 1) / 4
		if !f.before(f.ends[at], f.ends[p]) {
			break
		}
		f.swap(at, p)
		at = p
	}
	for {
		least := at
		for c := 4*at + 1; c <= 4*at+4 && int(c) < len(f.ends); c++ {
			if f.before(f.ends[c], f.ends[least]) {
				least = c
			}
		}
		if least == at {
			return
		}
		f.swap(at, least)
		at = least
	}
}
