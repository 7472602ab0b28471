package swarm

import (
	"slices"

	"pgregory.net/rapid"
)

// picker is the slow, obvious opinion on which piece is asked of whom. It takes the requests of a step back one by one,
// the last first, and judges each as if it were to be made then.
type picker struct {
	due       []*blob    // looked at in this step, whatever the event is
	neighbour [][]PeerID // of each blob in order, before the step
	under     bool       // the request that fails was under way
	again     bool       // the piece that arrives was here: who sent it counts as nobody who has just delivered
	picks     int        // requests in the own zone
	hedges    int        // second requests
	imports   int        // requests in other zones
}

// before notes what a step starts from.
func (o *picker) before(c *Core, now Time, ev Event) {
	o.due, o.neighbour, o.under, o.again = nil, nil, false, false
	for _, b := range c.order {
		if _, tick := ev.(Tick); tick && b.live && b.wake <= max(now, c.now) {
			o.due = append(o.due, b)
		}
		o.neighbour = append(o.neighbour, neighbourIDs(b))
	}
	if e, ok := ev.(PieceArrived); ok {
		b := c.blobs[e.Digest]
		o.again = b != nil && b.have.Has(e.Piece)
	}
	if e, ok := ev.(PieceFailed); ok {
		b, m := c.blobs[e.Digest], c.member(e.From)
		o.under = b != nil && m != nil && slices.ContainsFunc(b.flights, func(f flight) bool { return f.piece == e.Piece && f.to == m })
	}
}

func neighbourIDs(b *blob) (ids []PeerID) {
	for _, n := range b.neighbours {
		ids = append(ids, n.m.ID)
	}
	return ids
}

// after judges the requests of a step, and that none is missing.
func (o *picker) after(t rapid.TB, c *Core, ev Event, acts []Action) {
	t.Helper()
	last, cancels := -1, false // requests before the last end of another cannot be told from what is there now
	for i, a := range acts {
		switch a.(type) {
		case CancelPiece, StopOrigin:
			last, cancels = i, true
		case GiveUp, Verify, Quarantine:
			last = i
		}
	}
	o.idle(t, c, ev, acts, cancels)
	for i, ids := range o.neighbour {
		if i >= len(c.order) || slices.ContainsFunc(ids, func(id PeerID) bool { return !slices.Contains(neighbourIDs(c.order[i]), id) }) {
			return // who counted when a piece was chosen may be gone
		}
	}
	views := map[*blob]*view{}
	of := func(b *blob) *view {
		if views[b] == nil {
			if views[b] = newView(c, b, ev); o.again {
				views[b].delivered = ""
			}
		}
		return views[b]
	}
	for i := len(acts) - 1; i > last; i-- {
		switch a := acts[i].(type) {
		case FetchOrigin:
			of(c.blobs[a.Digest]).unfetch(uint32(a.Fetch))
		case RequestPiece:
			v, m := of(c.blobs[a.Digest]), c.member(a.To)
			v.unask(a.Piece, m)
			o.judge(t, v, a.Piece, m)
		}
	}
	for _, v := range views {
		v.restore()
	}
}

// idle checks that nothing more could be asked for after a step that asks for all it may.
func (o *picker) idle(t rapid.TB, c *Core, ev Event, acts []Action, cancels bool) {
	t.Helper()
	looked := o.due
	switch e := ev.(type) {
	case PieceArrived:
		if slices.ContainsFunc(acts, func(a Action) bool { x, ok := a.(CancelPiece); return ok && x.Piece != e.Piece }) {
			return // likewise
		}
		looked = append(looked, c.blobs[e.Digest])
	case PieceFailed:
		if o.under {
			looked = append(looked, c.blobs[e.Digest])
		}
	case Tick:
		if cancels {
			return // of what hung: what became free with it has time until the next tick
		}
	}
	if slices.ContainsFunc(acts, func(a Action) bool { _, ended := a.(GiveUp); return ended }) {
		return
	}
	for _, b := range looked {
		if b == nil || !b.want || b.phase != fetching || !b.opened || c.blobs[b.digest] != b {
			continue
		}
		v := newView(c, b, nil)
		if !v.room() {
			continue
		}
		for _, n := range b.neighbours {
			if n.near && v.usable(n) && v.offers(n) {
				t.Fatalf("%T: %s offers what is lacking and is not asked: %d of %d requests, %d flow", ev, n.m.ID, len(v.flights), v.limit(), b.flowing)
			}
		}
	}
}

// judge checks one request against the rules.
func (o *picker) judge(t rapid.TB, v *view, p PieceIndex, to *member) {
	t.Helper()
	n := to.in(v.b)
	if n == nil || !n.have.Has(p) || v.b.have.Has(p) || !v.usable(n) {
		t.Fatalf("piece %d is asked of %s, which is not to be asked for it", p, to.ID)
	}
	first := slices.IndexFunc(v.flights, func(f flight) bool { return f.piece == p })
	switch {
	case first >= 0:
		o.hedges++
		v.hedge(t, p, n, v.flights[first])
	case n.near:
		o.picks++
		v.pick(t, p, n)
	default:
		o.imports++
		v.importing(t, p, n)
	}
}

// view is a blob's session as it was before a request.
type view struct {
	c         *Core
	b         *blob
	flights   []flight
	fetch     []uint32 // that brings each piece
	fetches   int
	delivered PeerID // sent the piece that is being handled
	taken     []*member
}

func newView(c *Core, b *blob, ev Event) *view {
	v := &view{c: c, b: b, flights: slices.Clone(b.flights), fetches: len(b.fetches)}
	for i := range b.pieces {
		v.fetch = append(v.fetch, b.pieces[i].fetch)
	}
	if e, ok := ev.(PieceArrived); ok && e.Digest == b.digest {
		v.delivered = e.From
	}
	return v
}

// unask takes a request back.
func (v *view) unask(p PieceIndex, to *member) {
	i := slices.IndexFunc(v.flights, func(f flight) bool { return f.piece == p && f.to == to })
	v.flights = slices.Delete(v.flights, i, i+1)
	v.taken = append(v.taken, to)
	to.asked--
}

func (v *view) unfetch(id uint32) {
	v.fetches--
	for i := range v.fetch {
		if v.fetch[i] == id {
			v.fetch[i] = 0
		}
	}
}

func (v *view) restore() {
	for _, m := range v.taken {
		m.asked++
	}
}

func (v *view) lacking(p PieceIndex) bool {
	for _, f := range v.flights {
		if f.piece == p {
			return false
		}
	}
	return !v.b.have.Has(p) && v.fetch[p] == 0 && (!v.b.unkept.on || v.b.cover.Has(p))
}

func (v *view) usable(n *neighbour) bool {
	limit := v.c.cfg.PerProvider
	if n.m.mute > 0 || n.m.drips {
		limit = 1 // it left the last request without a byte, or drips
	}
	return int(n.m.asked) < limit && v.c.now >= n.m.backoff && v.c.now >= n.m.uselessTil
}

func (v *view) offers(n *neighbour) bool {
	for i := range v.b.pieces {
		if p := PieceIndex(i); n.have.Has(p) && v.lacking(p) {
			return true
		}
	}
	return false
}

// near counts the neighbours of the zone that have a piece.
func (v *view) near(p PieceIndex) (k int) {
	for _, n := range v.b.neighbours {
		if n.near && n.have.Has(p) {
			k++
		}
	}
	return k
}

// limit is how many pieces may come in for the blob at a time: its part of Outstanding, two at least. A seed that nobody
// reads from takes none while it reads the origin for others, and two after that.
func (v *view) limit() int {
	sessions := 0
	for _, b := range v.c.order {
		if b.want && b.phase == fetching && b.opened && b.missing > 0 {
			sessions++
		}
	}
	n := max(v.c.cfg.Outstanding/max(sessions, 1), 2)
	if v.b.relayed && len(v.b.readers) == 0 {
		if n = min(n, 2); v.fetches > 0 {
			n = 0
		}
	}
	return n
}

// room reports whether one more piece may be asked for: beyond those that flow, Waiting may be out.
func (v *view) room() bool {
	n, flow := v.limit(), 0
	for _, f := range v.flights {
		if f.flows {
			flow++
		}
	}
	return flow < n && len(v.flights) < n+v.c.cfg.Waiting
}

// pick checks a piece asked of the own zone.
func (v *view) pick(t rapid.TB, p PieceIndex, n *neighbour) {
	t.Helper()
	if !v.lacking(p) || !v.room() {
		t.Fatalf("piece %d is asked for with %d of %d requests; carried by fetch %d", p, len(v.flights), v.limit(), v.fetch[p])
	}
	if q, who := v.blocked(); who != nil {
		if p != q || n != who {
			t.Fatalf("piece %d of %s, while a reader waits for %d, to be had of %s", p, n.m.ID, q, who.m.ID)
		}
		return
	}
	for _, o := range v.b.neighbours {
		if o.near && v.usable(o) && v.offers(o) && v.cost(o) < v.cost(n) {
			t.Fatalf("%s is asked at a cost of %v, %s has something at %v", n.m.ID, v.cost(n), o.m.ID, v.cost(o))
		}
	}
	for i := range v.b.pieces {
		if q := PieceIndex(i); n.have.Has(q) && v.lacking(q) && v.near(q) < v.near(p) {
			t.Fatalf("piece %d of %s, which %d have; piece %d have %d", p, n.m.ID, v.near(p), q, v.near(q))
		}
	}
}

// blocked returns the first piece at which a reader waits that can be had nearby, and of whom.
func (v *view) blocked() (PieceIndex, *neighbour) {
	for _, r := range v.b.readers {
		for i := range v.b.pieces {
			p := PieceIndex(i)
			off, size := v.b.layout.Span(p)
			if off+size <= r.off || r.end >= 0 && off >= r.end || v.b.have.Has(p) {
				continue
			}
			if n := v.best(p, true, nil); v.lacking(p) && n != nil {
				return p, n
			}
			break // it waits for this one, wherever it comes from
		}
	}
	return 0, nil
}

// cost is that of the core; who has just delivered costs nothing.
func (v *view) cost(n *neighbour) float32 {
	if n.m.ID == v.delivered {
		return 0
	}
	return cost(n)
}

// best returns the provider of a piece: of least cost, then of least RTT, then of least id.
func (v *view) best(p PieceIndex, near bool, not *member) (best *neighbour) {
	for _, n := range v.b.neighbours {
		if n.near != near || n.m == not || !n.have.Has(p) || !v.usable(n) {
			continue
		}
		if best == nil || cost(n) < cost(best) || cost(n) == cost(best) && n.m.RTT < best.m.RTT {
			best = n
		}
	}
	return best
}

// hedge checks a second request for a piece.
func (v *view) hedge(t rapid.TB, p PieceIndex, n *neighbour, first flight) {
	t.Helper()
	if first.dripping() && !n.m.drips {
		return
	}
	if age := v.c.now.Sub(first.at); age < v.c.cfg.HedgeFloor {
		t.Fatalf("piece %d is asked again after %v", p, age)
	}
	best := v.best(p, true, first.to)
	if best == nil {
		best = v.best(p, false, first.to)
	}
	if n != best {
		t.Fatalf("piece %d is asked again of %s, best is %s", p, n.m.ID, best.m.ID)
	}
}

// importing checks a piece asked of another zone.
func (v *view) importing(t rapid.TB, p PieceIndex, n *neighbour) {
	t.Helper()
	if k := v.near(p); k > 0 || !v.lacking(p) {
		t.Fatalf("piece %d is imported; %d nearby have it", p, k)
	}
	if v.b.pieces[p].zone.state != granted && !v.b.unkept.on {
		t.Fatalf("piece %d is imported without a lease", p)
	}
	if !n.have.Has(p) || !v.usable(n) {
		t.Fatalf("piece %d is imported from %s: has it: %v, usable: %v", p, n.m.ID, n.have.Has(p), v.usable(n))
	}
	for _, o := range v.b.neighbours {
		alike := o.m.Zone == n.m.Zone && o.m.Seed == n.m.Seed && v.c.warm(o) == v.c.warm(n)
		if alike && o.have.Has(p) && v.usable(o) && cost(o) < cost(n) {
			t.Fatalf("piece %d is imported from %s at a cost of %v, %s has it at %v", p, n.m.ID, cost(n), o.m.ID, cost(o))
		}
	}
}
