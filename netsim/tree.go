package netsim

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// The constants of the tree, after Dragonfly 2.
const (
	treeParents    = 4   // of a peer
	treeCandidates = 15  // drawn for a choice
	treePieces     = 8   // in flight at a peer
	treePerParent  = 2   // of them at one parent
	treeSeedSlots  = 300 // uploads at a time of a seed
	treePeerSlots  = 50
	treeDepth      = 10
	treeStarved    = 300 * time.Millisecond // without a piece to ask for: new parents
)

// scheduler is the tree's centre: it names parents by the score of Dragonfly's evaluator.
type scheduler struct {
	r       *rival
	joined  []int32
	parents [][]int32
	depth   []int
	load    []int
}

func newScheduler(r *rival) *scheduler {
	n := len(r.t.nodes)
	return &scheduler{r: r, parents: make([][]int32, n), depth: make([]int, n), load: make([]int, n)}
}

// asked names parents for a peer: the best of some earlier ones and of the seeds.
func (s *scheduler) asked(a shared) {
	t := s.r.t
	for _, p := range s.parents[a.node] {
		s.load[p]--
	}
	var from []int32
	for _, p := range s.joined {
		if p == a.node {
			break
		}
		from = append(from, p)
	}
	from = append(t.sample(from, treeCandidates, uint64(a.at)<<20^uint64(a.node)), t.seeds...)
	from = slices.DeleteFunc(from, func(p int32) bool {
		st := s.r.all[p]
		return s.r.dead[p] || s.load[p] >= slotsOf(t, p) || s.depth[p] >= treeDepth || st.client && len(s.parents[p]) == 0 || s.under(p, a.node, 0)
	})
	slices.SortStableFunc(from, func(x, y int32) int { return cmp.Compare(s.score(a.node, y), s.score(a.node, x)) })
	from = from[:min(treeParents, len(from))]
	s.depth[a.node] = 1
	for _, p := range from {
		s.load[p]++
		s.depth[a.node] = max(s.depth[a.node], s.depth[p]+1)
	}
	s.parents[a.node] = from
	if !slices.Contains(s.joined, a.node) {
		s.joined = append(s.joined, a.node)
	}
	at := a.at.Add(2 * (t.half[t.nodes[a.node].zone][0] + t.s.Delays.Process.std()))
	s.r.cal.put(event{at: max(at, s.r.now), node: a.node, kind: evProviders, msg: slices.Clone(from)})
}

// under reports whether a node is below another in the tree.
func (s *scheduler) under(node, above int32, depth int) bool {
	if node == above || depth > treeDepth {
		return true
	}
	return slices.ContainsFunc(s.parents[node], func(p int32) bool { return s.under(p, above, depth+1) })
}

func slotsOf(t *topology, p int32) int {
	if t.nodes[p].seed {
		return treeSeedSlots
	}
	return treePeerSlots
}

// score weighs pieces, success, free slots, kind of host, zone and place, as Dragonfly's base evaluator does.
func (s *scheduler) score(child, parent int32) float64 {
	t := s.r.t
	free := 1 - float64(s.load[parent])/float64(slotsOf(t, parent))
	v := 0.2*float64(s.r.all[parent].count)/float64(max(s.r.pieces, 1)) + 0.2 + 0.15*free
	if t.nodes[parent].seed {
		v += 0.15
	} else {
		v += 0.075
	}
	if t.nodes[parent].zone == t.nodes[child].zone {
		v += 0.15 + 0.15
	}
	return v
}

// treePeer is a node of the tree: it hears from its parents what they have and asks them for it. A seed reads
// from the registry when it is asked first.
type treePeer struct {
	station
	parents  []*treeParent
	children []int32
	waits    []treeWait
	reading  bool
	rng      *rand.Rand
}

type treeParent struct {
	peer int32
	have swarm.Bitmap
	out  int
}

type treeWait struct {
	piece uint32
	from  int32
}

// treeFollow asks a parent to tell what it has, now and from then on.
type treeFollow struct{}

// treeHas is the answer.
type treeHas struct{ have swarm.Bitmap }

func newTreePeer(st station) *treePeer {
	return &treePeer{station: st, rng: rand.New(rand.NewPCG(mix(st.r.t.salt^uint64(st.id)), 3))}
}

// tick asks for new parents: these have nothing to give.
func (p *treePeer) tick(now swarm.Time, out *outbox) {
	p.now, p.out, p.wake = now, out, never
	if !p.full() && len(p.waits) == 0 {
		p.share(shareFind)
		p.wake = p.now.Add(treeStarved)
	}
}

func (p *treePeer) handle(ev *event, out *outbox) {
	p.on(ev, out)
	switch ev.kind {
	case evWant:
		p.started = p.now
		for _, s := range p.r.t.seeds {
			p.ship(s, event{kind: evMessage, msg: swarmRead{}})
		}
		p.share(shareFind)
		p.wake = p.now.Add(treeStarved)
	case evProviders:
		list, _ := ev.msg.([]int32)
		p.follow(list)
	case evMessage:
		p.message(ev)
	case evAsk:
		if p.have.Has(swarm.PieceIndex(ev.unit)) {
			p.upload(ev.from, ev.unit)
		}
	case evPiece, evOriginPiece:
		p.took(ev)
	case evLost:
		p.lost(ev.from)
	}
}

// follow takes new parents; those kept are not asked again.
func (p *treePeer) follow(list []int32) {
	old := p.parents
	p.parents = nil
	for _, id := range list {
		if i := slices.IndexFunc(old, func(o *treeParent) bool { return o.peer == id }); i >= 0 {
			p.parents = append(p.parents, old[i])
			continue
		}
		p.parents = append(p.parents, &treeParent{peer: id, have: swarm.NewBitmap(p.r.pieces)})
		p.ship(id, event{kind: evMessage, msg: treeFollow{}})
	}
	p.request()
}

func (p *treePeer) message(ev *event) {
	switch m := ev.msg.(type) {
	case swarmRead:
		if !p.reading && !p.full() {
			p.reading = true
			p.readOrigin(0)
		}
	case treeFollow:
		if !slices.Contains(p.children, ev.from) {
			p.children = append(p.children, ev.from)
		}
		p.ship(ev.from, event{kind: evMessage, msg: treeHas{p.have.Clone()}})
	case treeHas:
		if f := p.parent(ev.from); f != nil {
			f.have = m.have
			p.request()
		}
	case swarmHave:
		if f := p.parent(ev.from); f != nil {
			f.have.Set(swarm.PieceIndex(m.piece))
			p.request()
		}
	}
}

func (p *treePeer) parent(id int32) *treeParent {
	i := slices.IndexFunc(p.parents, func(f *treeParent) bool { return f.peer == id })
	if i < 0 {
		return nil
	}
	return p.parents[i]
}

// request asks the parents with room for pieces that they have, from a random place on: peers that all asked in order
// would have nothing for each other.
func (p *treePeer) request() {
	for len(p.waits) < treePieces {
		var best *treeParent
		var piece uint32
		for _, f := range p.parents {
			if f.out < treePerParent && (best == nil || f.out < best.out) {
				if i, ok := p.pick(f); ok {
					best, piece = f, i
				}
			}
		}
		if best == nil {
			break
		}
		best.out++
		p.waits = append(p.waits, treeWait{piece, best.peer})
		p.tally.requests++
		p.ship(best.peer, event{kind: evAsk, unit: piece})
	}
	if p.client && !p.full() && len(p.waits) == 0 && p.wake == never {
		p.wake = p.now.Add(treeStarved)
	}
}

// pick returns a piece that a parent has and that is neither here nor asked for.
func (p *treePeer) pick(f *treeParent) (uint32, bool) {
	start := p.rng.IntN(max(p.r.pieces, 1))
	for k := range p.r.pieces {
		i := uint32((start + k) % p.r.pieces)
		if f.have.Has(swarm.PieceIndex(i)) && !p.have.Has(swarm.PieceIndex(i)) &&
			!slices.ContainsFunc(p.waits, func(w treeWait) bool { return w.piece == i }) {
			return i, true
		}
	}
	return 0, false
}

func (p *treePeer) took(ev *event) {
	fresh := p.keep(ev)
	if i := slices.IndexFunc(p.waits, func(w treeWait) bool { return w.piece == ev.unit && w.from == ev.from }); i >= 0 && ev.kind == evPiece {
		p.waits = slices.Delete(p.waits, i, i+1)
		if f := p.parent(ev.from); f != nil {
			f.out--
		}
	}
	if fresh {
		for _, c := range p.children {
			p.ship(c, event{kind: evMessage, msg: swarmHave{ev.unit}})
		}
	}
	if !p.client {
		return
	}
	if p.first == never && p.have.Has(0) {
		p.first = p.now
	}
	if p.full() {
		p.finish()
		return
	}
	p.request()
}

func (p *treePeer) lost(id int32) {
	p.waits = slices.DeleteFunc(p.waits, func(w treeWait) bool { return w.from == id })
	p.children = slices.DeleteFunc(p.children, func(c int32) bool { return c == id })
	if p.parent(id) != nil {
		p.parents = slices.DeleteFunc(p.parents, func(f *treeParent) bool { return f.peer == id })
		p.request()
	}
}
