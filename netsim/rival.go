package netsim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// Systems are what a scenario can be run with: meshd, and rivals on the same network for comparison.
//
//	direct         every host pulls from the registry
//	cdn            seeds are caches that pass on what they read; hosts pull from a seed only
//	random-swarm   BitTorrent with a tracker, as Kraken does it
//	tree           a scheduler names parents, as Dragonfly does it
//
// Rivals pull the image as one blob, and know of arrivals, classes, warm origins, kills and slow links only.
var Systems = []string{"meshd", "direct", "cdn", "random-swarm", "tree"}

// newPeer makes the agent of a rival on a node.
type newPeer func(r *rival, st station) agent

var rivals = map[string]newPeer{
	"direct":       func(r *rival, st station) agent { return &direct{station: st} },
	"cdn":          func(r *rival, st station) agent { return newCache(st) },
	"random-swarm": func(r *rival, st station) agent { return newSwarmPeer(st) },
	"tree":         func(r *rival, st station) agent { return newTreePeer(st) },
}

// rival is a mesh of another system in a run.
type rival struct {
	*engine
	size   int64
	part   int64
	pieces int
	all    []*station
	open   int
	dead   []bool

	joined []int32 // who told the tracker or the scheduler of itself, in order
	ready  bool    // the rival's own origin has the blob
	tree   *scheduler
}

// station is what agents of all rivals have: a place, a clock, a way to others and a tally.
type station struct {
	r       *rival
	id      int32
	now     swarm.Time
	out     *outbox
	gen     uint64
	client  bool // it pulls
	started swarm.Time
	ended   swarm.Time
	first   swarm.Time
	have    swarm.Bitmap
	count   int
	peers   map[int32]*conn
	tally   counts
	wake    swarm.Time
}

func (st *station) at() *station { return st }

// alarm and tick serve agents that need none, or set wake.
func (st *station) alarm() (swarm.Time, bool) { return max(st.wake, st.now), st.wake != never }

// placed is an agent at a station.
type placed interface {
	agent
	at() *station
}

func newRival(s *Scenario, system string) (*rival, error) {
	newAgent, ok := rivals[system]
	if !ok {
		return nil, fmt.Errorf("there is no system %q: %v", system, Systems)
	}
	if err := rivalKnows(s); err != nil {
		return nil, err
	}
	t := newTopology(s)
	r := &rival{engine: newEngine(t), part: int64(s.Baseline.PieceSize), dead: make([]bool, len(t.nodes)), ready: s.Baseline.Warm}
	for _, l := range newLayers(s).list {
		r.size += l.layout.Size
	}
	r.pieces = int((r.size + r.part - 1) / r.part)
	r.share = r.act
	r.tree = newScheduler(r)
	arrived := arrivals(t)
	for i, n := range t.nodes {
		st := station{r: r, id: int32(i), started: never, first: never, wake: never, have: swarm.NewBitmap(r.pieces), client: !n.seed}
		if n.seed && s.Baseline.Warm {
			st.have, st.count = swarm.FullBitmap(r.pieces), r.pieces
		}
		a := newAgent(r, st)
		r.agents[i] = a
		r.all = append(r.all, a.(placed).at())
		r.cal.put(event{node: int32(i), kind: evStart})
		if !n.seed {
			r.open++
			r.cal.put(event{at: arrived[i], node: int32(i), kind: evWant})
		}
	}
	r.faults()
	return r, nil
}

// rivalKnows refuses scenarios whose point rivals would miss.
func rivalKnows(s *Scenario) error {
	for i, f := range s.Faults {
		if f.Stop > 0 || f.StopSeeds > 0 || f.Cut != "" || f.Origin {
			return s.problem(fmt.Sprintf("faults[%d]", i), "rivals know kills and slow links only")
		}
	}
	switch {
	case len(s.Liars) > 0:
		return s.problem("liars", "rivals do not know liars")
	case len(s.Warm) > 0:
		return s.problem("warm", "rivals know baseline.warm only")
	case s.Churn.Rate > 0:
		return s.problem("churn", "rivals do not know churn")
	}
	return nil
}

func (r *rival) faults() {
	for k, f := range r.t.s.Faults {
		key := uint64(keyFault+k) << 32
		at := begin.Add(f.At.std())
		var who []int32
		switch {
		case f.Pipe != "":
			zone := int32(r.t.s.zone(f.Pipe))
			r.at(at, func(swarm.Time) {
				r.net.rescale(r.net.pipeIn(zone), f.Factor)
				r.net.rescale(r.net.pipeOut(zone), f.Factor)
			})
			continue
		case f.KillSeeds > 0:
			who = r.t.sample(r.t.seeds, f.KillSeeds, key)
		case f.KillHosts > 0:
			who = r.t.sample(r.t.hosts, f.KillHosts, key)
		default:
			who = r.t.draw(max(f.Kill, f.Slow), key)
		}
		for _, i := range who {
			if f.Slow > 0 {
				r.at(at, func(swarm.Time) { r.net.rescale(r.net.up(i), f.Factor); r.net.rescale(r.net.down(i), f.Factor) })
				continue
			}
			r.at(at, func(now swarm.Time) { r.kill(i, now) })
		}
	}
}

// kill ends a node; all learn it at once.
func (r *rival) kill(i int32, now swarm.Time) {
	if r.dead[i] {
		return
	}
	r.dead[i] = true
	if st := r.all[i]; st.client && st.ended == 0 {
		r.open--
	}
	r.net.kill(i)
	for _, st := range r.all {
		if !r.dead[st.id] {
			r.cal.put(event{at: now.Add(r.t.flight(i, st.id)), node: st.id, from: i, kind: evLost})
		}
	}
}

// act carries out what agents do to the tracker and the scheduler.
func (r *rival) act(s shared) {
	switch s.do {
	case shareDone:
		r.open--
	case shareHolding:
		r.ready = true
	case shareFind:
		r.tree.asked(s)
	case shareImporting:
		r.tracked(s)
	}
}

// handout is the most peers that the tracker names (Kraken).
const handout = 50

// tracked answers an announcement to the tracker: who else announced, drawn anew each time, and the origins. Before the
// rival's own origin has the blob, there is nothing to say.
func (r *rival) tracked(s shared) {
	if !slices.Contains(r.joined, s.node) {
		r.joined = append(r.joined, s.node)
	}
	var list []int32
	if r.ready {
		list = r.t.sample(r.joined, handout, uint64(s.at)^uint64(s.node)<<40)
		list = append(list, r.t.seeds...)
	}
	at := s.at.Add(2 * (r.t.half[r.t.nodes[s.node].zone][0] + r.t.s.Delays.Process.std()))
	r.cal.put(event{at: max(at, r.now), node: s.node, kind: evProviders, msg: list})
}

// put sets the time and the place for a handler.
func (st *station) on(ev *event, out *outbox) { st.now, st.out = max(st.now, ev.at), out }

func (st *station) ship(to int32, ev event) {
	ev.at, ev.node, ev.from = st.now.Add(st.r.t.flight(st.id, to)), to, st.id
	st.tally.msgs++
	st.tally.msgBytes += 60
	st.out.events = append(st.out.events, ev)
}

func (st *station) share(do sharedOp) {
	st.out.shared = append(st.out.shared, shared{at: st.now, node: st.id, do: do})
}

// size returns the bytes of a piece.
func (st *station) size(i uint32) int64 { return min(st.r.part, st.r.size-int64(i)*st.r.part) }

// upload sends a piece to a peer.
func (st *station) upload(to int32, piece uint32) {
	st.gen++
	n := st.size(piece)
	t := st.r.t
	rtt := t.rtt(st.id, to)
	c := st.peers[to]
	if c == nil {
		if st.peers == nil {
			st.peers = map[int32]*conn{}
		}
		c = &conn{}
		st.peers[to] = c
	}
	extra := c.ramp(t, st.now, n, rtt, min(t.nodes[st.id].up, t.nodes[to].down))
	st.out.net = append(st.out.net, command{
		at: st.now.Add(time.Duration(st.r.width) + extra), op: opStart, key: uint64(st.id)<<36 | st.gen,
		flow: flow{src: st.id, dst: to, part: n, size: n, unit: piece, cap: t.flowCap(rtt)},
	})
}

// readOrigin reads the blob from the registry from a piece on.
func (st *station) readOrigin(from uint32) {
	st.gen++
	st.tally.fetches++
	t := st.r.t
	wait := max(time.Duration(2*(registryDialTrips+registryTokenTrips+1)-1)*t.origin, time.Duration(st.r.width))
	limit := t.flowCap(2 * t.origin)
	if per := float64(t.s.Origin.PerConnection); per > 0 {
		limit = min(limit, per)
	}
	st.out.net = append(st.out.net, command{
		at: st.now.Add(wait), op: opStart, key: uint64(st.id)<<36 | st.gen,
		flow: flow{src: atOrigin, dst: st.id, part: st.r.part, size: st.r.size - int64(from)*st.r.part, unit: from, cap: limit},
	})
}

// keep takes in a piece and reports whether it was new.
func (st *station) keep(ev *event) bool {
	n := st.size(ev.unit)
	source := fromOrigin
	if ev.kind == evPiece {
		source = fromZone
		if st.r.t.nodes[ev.from].zone != st.r.t.nodes[st.id].zone {
			source = fromOther
		}
	}
	st.tally.in[source] += n
	if st.have.Has(swarm.PieceIndex(ev.unit)) {
		st.tally.dup += n
		return false
	}
	st.have.Set(swarm.PieceIndex(ev.unit))
	st.count++
	st.tally.pieces++
	return true
}

func (st *station) full() bool { return st.count == st.r.pieces }

// finish ends the pull of a client that has all.
func (st *station) finish() {
	if st.client && st.ended == 0 {
		st.ended = st.now
		if st.first == never {
			st.first = st.now
		}
		st.share(shareDone)
	}
}

// play runs the rival and gathers what it showed.
func (r *rival) play(ctx context.Context, system string, limit time.Duration, progress func(Progress)) (*Result, error) {
	var last int64
	var since swarm.Time
	n := 0
	err := r.run(ctx, swarm.Time(limit), func() (bool, error) {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if n++; n%256 != 0 || r.open == 0 {
			return r.open == 0, nil
		}
		var pieces int64
		for _, st := range r.all {
			pieces += st.tally.pieces + st.tally.in[fromOrigin]
		}
		if progress != nil {
			progress(Progress{Virtual: time.Duration(r.now), Pieces: pieces, Total: int64(r.pieces) * int64(len(r.t.hosts)), Open: r.open})
		}
		if pieces != last || len(r.ops) > 0 {
			last, since = pieces, r.now
		}
		if r.now.Sub(since) > patience {
			return false, r.verdict(fmt.Sprintf("no piece has moved for %v", patience))
		}
		return false, nil
	})
	var stalled *StalledError
	if errors.Is(err, errNothingLeft) {
		err = r.verdict(err.Error())
	} else if errors.As(err, &stalled) {
		err = r.verdict(stalled.Why)
	}
	return r.result(system), err
}

func (r *rival) verdict(why string) *StalledError {
	e := &StalledError{At: time.Duration(r.now), Why: why}
	for _, st := range r.all {
		if !st.client || st.ended != 0 || r.dead[st.id] {
			continue
		}
		if len(e.Waits) == maxWaits {
			e.More++
			continue
		}
		e.Waits = append(e.Waits, fmt.Sprintf("%s has %d of %d pieces", r.t.nodes[st.id].name, st.count, r.pieces))
	}
	return e
}

func (r *rival) result(system string) *Result {
	r.net.now = max(r.net.now, r.now)
	r.net.finish()
	res := &Result{Scenario: r.t.s.Name, System: system, Seed: r.t.s.Seed, Nodes: len(r.t.nodes), Zones: len(r.t.s.Zones), Bytes: r.size}
	var took, first []float64
	var c counts
	for _, st := range r.all {
		c.plus(&st.tally)
		switch {
		case !st.client:
		case st.ended == 0 && r.dead[st.id]:
			res.Killed++
		case !r.t.judged(st.id) && st.ended == 0:
			res.OthersFailed++
		case !r.t.judged(st.id):
			res.OthersCompleted++
		case st.ended == 0:
			res.Failed++
		default:
			res.Completed++
			took = append(took, st.ended.Sub(st.started).Seconds())
			first = append(first, st.first.Sub(st.started).Seconds())
			res.EndS = max(res.EndS, st.ended.Sub(begin).Seconds())
		}
	}
	res.times(took, first)
	res.traffic(r.net, &c)
	return res
}
