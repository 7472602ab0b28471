package netsim

import (
	"context"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// agent is what runs on a node: the driver of a core, or a rival's client. It is called from one goroutine at a
// time, reads only what is fixed, and answers through out.
type agent interface {
	// handle takes in an event at its time.
	handle(ev *event, out *outbox)
	// alarm returns when tick is to be called if nothing else happens before.
	alarm() (swarm.Time, bool)
	tick(now swarm.Time, out *outbox)
}

// outbox collects what an agent does to others in a window.
type outbox struct {
	events []event
	net    []command
	shared []shared
}

// shared is an act on what all agents share, carried out between windows in a fixed order.
type shared struct {
	at   swarm.Time
	node int32
	blob int32
	do   sharedOp
}

type sharedOp uint8

const (
	shareFind sharedOp = iota
	shareImporting
	shareHolding
	shareHoldingGlobal
	shareDone // the node's pull ended, well or not
)

// engine runs agents and network in virtual time.
//
// Time goes on in windows no longer than the least latency between two nodes. What a node does in a window reaches
// another in a later one, so within a window all nodes, and the network beside them, run in parallel; what they did is
// put together in the order of the nodes. So the result does not depend on the number of processors.
type engine struct {
	t      *topology
	net    *fluid
	cal    *calendar[event]
	agents []agent
	width  swarm.Time
	now    swarm.Time
	wakes  []swarm.Time // when a wake is in the calendar for each agent; never if not
	ops    []operation  // what happens to the world, by time
	share  func(shared)

	workers int
	head    []int32 // first event of each node in the window, plus one
	tail    []int32
	next    []int32
	busy    []uint64 // bitmap of the nodes that have any
	active  []int32
	chunks  []chunk
}

// operation is a change of the world between windows.
type operation struct {
	at  swarm.Time
	run func(now swarm.Time)
}

// chunk is a run of active nodes that one goroutine takes, and what they did.
type chunk struct {
	outbox
	scratch []*event
}

const chunkNodes = 32

func newEngine(t *topology) *engine {
	width := swarm.Time(t.window())
	n := len(t.nodes)
	e := &engine{
		t: t, width: width, net: newFluid(t, width), agents: make([]agent, n), wakes: make([]swarm.Time, n),
		head: make([]int32, n), tail: make([]int32, n), busy: make([]uint64, (n+63)/64), workers: runtime.GOMAXPROCS(0),
		cal: newCalendar(width, func(ev *event) swarm.Time { return ev.at }),
	}
	for i := range e.wakes {
		e.wakes[i] = never
	}
	return e
}

// at has something done to the world at a time.
func (e *engine) at(t swarm.Time, run func(now swarm.Time)) {
	i, _ := slices.BinarySearchFunc(e.ops, t, func(o operation, t swarm.Time) int {
		if o.at <= t {
			return -1
		}
		return 1
	})
	e.ops = slices.Insert(e.ops, i, operation{t, run})
}

// nextWindow returns the first window in which anything happens.
func (e *engine) nextWindow() (int64, bool) {
	w, ok := e.cal.next()
	if at, some := e.net.next(); some {
		if nw := int64(at / e.width); !ok || nw < w {
			w, ok = nw, true
		}
	}
	if len(e.ops) > 0 {
		if ow := int64(e.ops[0].at / e.width); !ok || ow < w {
			w, ok = ow, true
		}
	}
	return w, ok
}

// step runs the next window. It reports false if nothing is left to happen.
func (e *engine) step() bool {
	w, ok := e.nextWindow()
	if !ok {
		return false
	}
	start := swarm.Time(w) * e.width
	end := start + e.width
	e.now = max(e.now, start)
	for len(e.ops) > 0 && e.ops[0].at < end {
		o := e.ops[0]
		e.ops = e.ops[1:]
		e.net.now = max(e.net.now, start)
		o.run(max(o.at, start))
	}
	events := e.cal.take(w)
	e.group(events)
	e.window(w, events, end)
	e.merge()
	e.cal.done(events)
	e.now = end
	return true
}

// group links the events of each node together and lists the nodes that have any.
func (e *engine) group(events []event) {
	if len(e.next) < len(events) {
		e.next = make([]int32, 2*len(events))
	}
	for i := range events {
		n := events[i].node
		e.next[i] = 0
		if e.head[n] == 0 {
			e.busy[n/64] |= 1 << (n % 64)
			e.head[n] = int32(i) + 1
		} else {
			e.next[e.tail[n]] = int32(i) + 1
		}
		e.tail[n] = int32(i)
	}
	e.active = e.active[:0]
	for w, word := range e.busy {
		for ; word != 0; word &= word - 1 {
			e.active = append(e.active, int32(w*64+bits.TrailingZeros64(word)))
		}
		e.busy[w] = 0
	}
}

// window runs the agents that have events and the network.
func (e *engine) window(w int64, events []event, end swarm.Time) {
	n := (len(e.active) + chunkNodes - 1) / chunkNodes
	for len(e.chunks) < n {
		e.chunks = append(e.chunks, chunk{})
	}
	var taken atomic.Int32
	work := func() {
		for {
			i := int(taken.Add(1)) - 1
			if i >= n {
				return
			}
			lo := i * chunkNodes
			e.runChunk(&e.chunks[i], e.active[lo:min(lo+chunkNodes, len(e.active))], events, end)
		}
	}
	if e.workers < 2 || len(events) < 256 {
		e.net.run(w)
		work()
	} else {
		var wg sync.WaitGroup
		for range e.workers - 1 {
			wg.Go(work)
		}
		e.net.run(w)
		work()
		wg.Wait()
	}
	e.chunks = e.chunks[:max(n, 0)]
}

func (e *engine) runChunk(c *chunk, nodes []int32, events []event, end swarm.Time) {
	for _, n := range nodes {
		c.scratch = c.scratch[:0]
		for i := e.head[n]; i != 0; i = e.next[i-1] {
			c.scratch = append(c.scratch, &events[i-1])
		}
		e.head[n] = 0
		byTime(c.scratch)
		e.runAgent(n, c.scratch, end, &c.outbox)
	}
}

// runAgent hands an agent its events of a window and ticks it when its alarm rings.
func (e *engine) runAgent(n int32, evs []*event, end swarm.Time, out *outbox) {
	a := e.agents[n]
	now := evs[0].at
	at, ok := a.alarm()
	for i := 0; ; at, ok = a.alarm() {
		if i < len(evs) && (!ok || evs[i].at <= at) {
			now = max(now, evs[i].at)
			if evs[i].kind == evWake {
				e.wakes[n] = never
			} else {
				a.handle(evs[i], out)
			}
			i++
			continue
		}
		if !ok || at >= end {
			break
		}
		now = max(now, at)
		a.tick(now, out)
	}
	if ok && at < e.wakes[n] {
		e.wakes[n] = at
		out.events = append(out.events, event{at: max(at, end), node: n, kind: evWake})
	}
}

// merge puts together what the agents and the network did.
func (e *engine) merge() {
	for i := range e.chunks {
		c := &e.chunks[i]
		for _, s := range c.shared {
			e.share(s)
		}
		for j := range c.net {
			e.net.cmds.put(c.net[j])
		}
		for j := range c.events {
			e.cal.add(c.events[j].at, &c.events[j])
		}
		c.events, c.net, c.shared = c.events[:0], c.net[:0], c.shared[:0]
	}
	for i := range e.net.out {
		e.cal.add(e.net.out[i].at, &e.net.out[i])
	}
	e.net.out = e.net.out[:0]
}

// run goes on until done reports true, the time limit is reached, nothing is left, or ctx ends. It returns why.
func (e *engine) run(ctx context.Context, limit swarm.Time, done func() (bool, error)) error {
	for i := 0; ; i++ {
		if i%64 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if over, err := done(); over || err != nil {
			return err
		}
		if !e.step() {
			return errNothingLeft
		}
		if e.now > limit {
			return &StalledError{At: time.Duration(e.now), Why: "the time limit is reached"}
		}
	}
}
