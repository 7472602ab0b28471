package netsim

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// The constants of Kraken, and what follows from how it works.
const (
	swarmConns    = 10              // connections of a torrent, those to origins included
	askPeer       = 3               // requests in flight at an agent
	askOrigin     = 5               // and at an origin
	announceEvery = 3 * time.Second // to the tracker
	coldPoll      = time.Second     // while the origin does not have the blob yet
	endgamePieces = 3               // the last are asked of everybody
)

// swarmPeer is a node of a BitTorrent-like swarm with a tracker: pieces are chosen rarest first among those that a
// connection's other end has, at random over all zones; each connection sends one piece at a time, all connections
// share the uplink; nobody refuses. The rival's own origins read the whole blob before they serve it, and agents hand
// it to their client once they have all of it.
type swarmPeer struct {
	station
	rng     *rand.Rand
	conns   []*swarmConn
	pending []int    // requests under way, by piece
	avail   []uint16 // connected peers that have a piece
	rarest  rarities // scratch
	asked   bool     // an origin told to read the blob
}

// swarmConn is one end of a connection.
type swarmConn struct {
	peer    int32
	origin  bool
	open    bool
	have    swarm.Bitmap
	waits   []uint32 // asked of the peer
	sending bool
	queue   []uint32 // the peer asks for
}

// Messages of the swarm.
type (
	swarmHello struct {
		have  swarm.Bitmap
		reply bool
	}
	swarmBusy     struct{} // no room for a connection
	swarmHave     struct{ piece uint32 }
	swarmComplete struct{}
	swarmRead     struct{} // to an origin: read the blob
)

func newSwarmPeer(st station) *swarmPeer {
	p := &swarmPeer{station: st, rng: rand.New(rand.NewPCG(mix(st.r.t.salt^uint64(st.id)), 2))}
	p.pending, p.avail = make([]int, st.r.pieces), make([]uint16, st.r.pieces)
	return p
}

func (p *swarmPeer) tick(now swarm.Time, out *outbox) {
	p.now, p.out, p.wake = now, out, never
	p.announce()
}

// announce tells the tracker and hears of others.
func (p *swarmPeer) announce() {
	if p.full() {
		return
	}
	p.share(shareImporting)
	every := announceEvery
	if !p.r.ready {
		every = coldPoll
	}
	p.wake = p.now.Add(every)
}

func (p *swarmPeer) handle(ev *event, out *outbox) {
	p.on(ev, out)
	switch ev.kind {
	case evWant:
		p.started = p.now
		for _, s := range p.r.t.seeds {
			p.ship(s, event{kind: evMessage, msg: swarmRead{}})
		}
		p.wake = p.now.Add(p.r.t.s.Baseline.Start.std())
	case evProviders:
		list, _ := ev.msg.([]int32)
		p.connect(list)
	case evMessage:
		p.message(ev)
	case evAsk:
		p.wanted(ev)
	case evServed:
		p.sent(ev)
	case evPiece:
		p.took(ev)
	case evOriginPiece:
		p.read(ev)
	case evLost:
		p.drop(ev.from)
	}
}

func (p *swarmPeer) conn(peer int32) *swarmConn {
	i := slices.IndexFunc(p.conns, func(c *swarmConn) bool { return c.peer == peer })
	if i < 0 {
		return nil
	}
	return p.conns[i]
}

// room reports whether one more connection fits.
func (p *swarmPeer) room() bool { return len(p.conns) < swarmConns }

func (p *swarmPeer) add(peer int32) *swarmConn {
	c := &swarmConn{peer: peer, origin: p.r.t.nodes[peer].seed, have: swarm.NewBitmap(p.r.pieces)}
	p.conns = append(p.conns, c)
	return c
}

// connect opens connections to peers that the tracker named: origins first, then in random order.
func (p *swarmPeer) connect(list []int32) {
	p.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	slices.SortStableFunc(list, func(a, b int32) int {
		return boolInt(p.r.t.nodes[b].seed) - boolInt(p.r.t.nodes[a].seed)
	})
	for _, peer := range list {
		if peer != p.id && !p.r.dead[peer] && p.conn(peer) == nil && p.room() {
			p.add(peer)
			p.ship(peer, event{kind: evMessage, msg: swarmHello{have: p.have.Clone()}})
		}
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (p *swarmPeer) message(ev *event) {
	c := p.conn(ev.from)
	switch m := ev.msg.(type) {
	case swarmRead:
		if !p.asked && !p.full() {
			p.asked = true
			p.readOrigin(0)
		}
	case swarmBusy:
		p.drop(ev.from)
	case swarmHello:
		p.hello(c, ev.from, m)
	case swarmHave:
		if c != nil {
			p.has(c, m.piece)
			p.request(c)
		}
	case swarmComplete:
		if c == nil {
			return
		}
		for i := range uint32(p.r.pieces) {
			p.has(c, i)
		}
		if p.full() {
			p.drop(c.peer) // of no use to each other any more
			return
		}
		p.request(c)
	}
}

func (p *swarmPeer) hello(c *swarmConn, from int32, m swarmHello) {
	if c == nil {
		if !p.room() {
			p.ship(from, event{kind: evMessage, msg: swarmBusy{}})
			return
		}
		c = p.add(from)
	}
	c.open = true
	for i := range uint32(p.r.pieces) {
		if m.have.Has(swarm.PieceIndex(i)) {
			p.has(c, i)
		}
	}
	if !m.reply {
		p.ship(from, event{kind: evMessage, msg: swarmHello{have: p.have.Clone(), reply: true}})
	}
	p.request(c)
}

func (p *swarmPeer) has(c *swarmConn, piece uint32) {
	if i := swarm.PieceIndex(piece); !c.have.Has(i) {
		c.have.Set(i)
		p.avail[piece]++
	}
}

// request fills the pipeline of a connection.
func (p *swarmPeer) request(c *swarmConn) {
	limit := askPeer
	if c.origin {
		limit = askOrigin
	}
	for c.open && len(c.waits) < limit {
		i, ok := p.pick(c)
		if !ok {
			return
		}
		p.pending[i]++
		c.waits = append(c.waits, i)
		p.tally.requests++
		p.ship(c.peer, event{kind: evAsk, unit: i})
	}
}

// pick chooses the rarest piece that the other end has and nobody was asked for; in the endgame, that it was not asked
// for. Ties go to chance, or to the order in which a binary heap filled by index gives them out: alike on hosts that
// lack the same pieces, which is what sets Kraken's agents in lock-step.
func (p *swarmPeer) pick(c *swarmConn) (uint32, bool) {
	endgame := p.r.pieces-p.count <= endgamePieces
	valid := func(i uint32) bool { return !slices.Contains(c.waits, i) && (p.pending[i] == 0 || endgame) }
	p.rarest = p.rarest[:0]
	for i := range uint32(p.r.pieces) {
		if !p.have.Has(swarm.PieceIndex(i)) && c.have.Has(swarm.PieceIndex(i)) {
			heap.Push(&p.rarest, rarity{i, p.avail[i]})
		}
	}
	if p.r.t.s.Baseline.Tie == "random" {
		return p.lot(valid)
	}
	for len(p.rarest) > 0 {
		if r := heap.Pop(&p.rarest).(rarity); valid(r.piece) {
			return r.piece, true
		}
	}
	return 0, false
}

// lot draws among the rarest.
func (p *swarmPeer) lot(valid func(uint32) bool) (uint32, bool) {
	best, ties, found := rarity{}, 0, false
	for _, r := range p.rarest {
		switch {
		case !valid(r.piece):
		case !found || r.peers < best.peers:
			best, ties, found = r, 1, true
		case r.peers == best.peers:
			if ties++; p.rng.IntN(ties) == 0 {
				best = r
			}
		}
	}
	return best.piece, found
}

// rarity is a piece and how many connected peers have it.
type rarity struct {
	piece uint32
	peers uint16
}

type rarities []rarity

func (r rarities) Len() int           { return len(r) }
func (r rarities) Less(i, j int) bool { return r[i].peers < r[j].peers }
func (r rarities) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *rarities) Push(x any)        { *r = append(*r, x.(rarity)) }
func (r *rarities) Pop() any {
	x := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return x
}

// wanted queues a piece for a peer; a connection sends one at a time.
func (p *swarmPeer) wanted(ev *event) {
	c := p.conn(ev.from)
	if c == nil || !p.have.Has(swarm.PieceIndex(ev.unit)) {
		return
	}
	c.queue = append(c.queue, ev.unit)
	p.sendNext(c)
}

func (p *swarmPeer) sendNext(c *swarmConn) {
	if c.sending || len(c.queue) == 0 {
		return
	}
	c.sending = true
	i := c.queue[0]
	c.queue = c.queue[1:]
	p.has(c, i)
	p.upload(c.peer, i)
}

func (p *swarmPeer) sent(ev *event) {
	if c := p.conn(ev.from); c != nil {
		c.sending = false
		p.sendNext(c)
	}
}

func (p *swarmPeer) took(ev *event) {
	fresh := p.keep(ev)
	c := p.conn(ev.from)
	if c != nil {
		if i := slices.Index(c.waits, ev.unit); i >= 0 {
			c.waits = slices.Delete(c.waits, i, i+1)
			p.pending[ev.unit]--
		}
	}
	if fresh {
		p.tell(ev)
	}
	if c != nil {
		p.request(c)
	}
}

// tell lets the others know of a new piece, or that this was the last.
func (p *swarmPeer) tell(ev *event) {
	if p.full() {
		p.finish()
	}
	for _, c := range slices.Clone(p.conns) {
		switch {
		case p.full():
			p.ship(c.peer, event{kind: evMessage, msg: swarmComplete{}})
		case c.peer != ev.from:
			p.ship(c.peer, event{kind: evMessage, msg: swarmHave{ev.unit}})
		}
	}
}

// read takes in what an origin reads from the registry; it serves once it has all.
func (p *swarmPeer) read(ev *event) {
	p.keep(ev)
	if p.full() {
		p.share(shareHolding)
	}
}

// drop closes a connection; what was asked of it is asked of others.
func (p *swarmPeer) drop(peer int32) {
	i := slices.IndexFunc(p.conns, func(c *swarmConn) bool { return c.peer == peer })
	if i < 0 {
		return
	}
	c := p.conns[i]
	p.conns = slices.Delete(p.conns, i, i+1)
	for _, w := range c.waits {
		p.pending[w]--
	}
	for k := range uint32(p.r.pieces) {
		if c.have.Has(swarm.PieceIndex(k)) {
			p.avail[k]--
		}
	}
	for _, o := range p.conns {
		p.request(o)
	}
}
