package swarm

import (
	"slices"
	"time"
)

// A provider that drips is one whose bytes come so slowly that it would be better if it had none: what somebody nearby has
// is neither imported nor fetched, so a blob that only such nodes hold would come no faster than they let it. The driver
// says which request drips (PieceDrips). Its piece is asked of another, or of the origin if nobody else has it, and
// once somebody has shown that this node can be served quickly, what the slow one says it has does not count for a
// while. Where nobody shows that, the narrow link may be this node's own, or there is nobody else: it is waited for. So is
// one of another zone until others of that zone are quick: the pipe between the zones may be thin, and each byte
// crosses it once, however long that takes.

// briskly is how many times faster than Config.DripRate a piece has to come to show that others can do better.
const briskly = 8

// drips notes that a request drips.
func (c *Core) drips(e PieceDrips) {
	b, m := c.blobs[e.Digest], c.member(e.From)
	if b == nil || m == nil {
		return
	}
	if i := b.flightOf(e.Piece, m); i >= 0 && b.flights[i].flows && b.flights[i].drips == 0 {
		b.flights[i].drips = max(c.now, 1)
		m.drips = true
		c.work(b)
	}
}

// comesBriskly reports whether n bytes came as quickly as nobody who drips sends them.
func (c *Core) comesBriskly(n int64, took time.Duration) bool {
	return float64(n) >= briskly*float64(c.cfg.DripRate)*took.Seconds()
}

// goAround has pieces whose requests drip brought by others, and disbelieves those at which they drip once others have shown
// what is possible.
func (c *Core) goAround(b *blob) {
	if !slices.ContainsFunc(b.flights, flight.dripping) {
		return
	}
	for _, f := range slices.Clone(b.flights) {
		switch {
		case !f.dripping() || b.flightOf(f.piece, f.to) < 0:
		case c.outdone(b, f):
			c.penalise(f.to.ID, FailedDrip)
		case f.to.Zone == c.cfg.Zone:
			c.askAround(b, f)
		}
	}
}

func (f flight) dripping() bool { return f.drips != 0 }

// outdone reports whether a piece has come quickly since a request was made that drips: from the origin or from another peer,
// of one of another zone only from there.
func (c *Core) outdone(b *blob, f flight) bool {
	near := f.to.Zone == c.cfg.Zone
	return near && b.originBrisk > f.at || slices.ContainsFunc(b.neighbours, func(n *neighbour) bool {
		return n.m != f.to && n.m.brisk > f.at && (near || n.m.Zone == f.to.Zone)
	})
}

// maxAround bounds the pieces of a blob that are asked of a third because they drip. Little is lost of what dripped, unless the
// narrow link is our own.
func (b *blob) maxAround() int { return 4 + len(b.pieces)/50 }

// askAround asks another for a piece whose request to a node of the zone drips: a node of the zone, else one of another zone, else the origin. If
// that drips too it is given up for the next: the first goes on, as perhaps the only one that ends. One piece at a time shows
// what is to be known, and outside the zone one node does: the others have it of that one.
func (c *Core) askAround(b *blob, f flight) {
	second := slices.IndexFunc(b.flights, func(o flight) bool { return o.piece == f.piece && o.to != f.to })
	n, near, held := c.other(b, f.piece)
	switch {
	case b.around >= b.maxAround() || b.pieces[f.piece].fetch != 0 || b.askedAround():
	case second >= 0 && second < b.flightOf(f.piece, f.to):
	case !near && c.now < f.drips.Add(c.lastResortTurn(b)):
	case !held:
		c.sample(b, f.piece)
	case n != nil:
		if second >= 0 {
			c.takeBack(b, b.flights[second])
		}
		b.around++
		c.request(b, f.piece, n)
	}
}

// askedAround reports whether a piece is asked of two, of which the second does not drip, or not yet.
func (b *blob) askedAround() bool {
	for i, f := range b.flights {
		if !f.dripping() && slices.ContainsFunc(b.flights[:i], func(o flight) bool { return o.piece == f.piece }) {
			return true
		}
	}
	return false
}

// other returns whom to ask for a piece that drips, nil if there is nobody now: of the own zone if one of those has it, then
// who was quick before, then of least cost. held reports whether anybody else has it who is not known to drip, near whether
// somebody of the zone.
func (c *Core) other(b *blob, p PieceIndex) (best *neighbour, near, held bool) {
	has := func(n *neighbour) bool { return n.have.Has(p) && !n.m.drips && b.flightOf(p, n.m) < 0 }
	near = slices.ContainsFunc(b.neighbours, func(n *neighbour) bool { return n.near && has(n) })
	for _, n := range b.neighbours {
		if n.near != near || !has(n) {
			continue
		}
		held = true
		if c.usable(n) && (best == nil || n.quicker(best)) {
			best = n
		}
	}
	return best, near, held
}

// quicker reports whether a neighbour is rather to be asked than another: it was quick before, or costs less.
func (n *neighbour) quicker(than *neighbour) bool {
	if a, b := n.m.brisk != 0, than.m.brisk != 0; a != b {
		return a
	}
	return cost(n) < cost(than)
}

// maxSamples bounds the pieces of a blob that are read from the origin because their requests drip. One shows what is to be known.
func (b *blob) maxSamples() int { return 1 + len(b.pieces)/100 }

// sample reads a piece whose request drips from the origin, without a lease. What it shows is what ends the waiting.
func (c *Core) sample(b *blob, p PieceIndex) {
	idle := len(b.fetches) == 0 && !b.originDead && !b.origin.Zero() && c.now >= b.originUntil
	if !idle || b.samples >= b.maxSamples() || c.marooned(b) || b.unkept.on && c.awaitsOthers(b) {
		return
	}
	b.samples++
	n := 1
	if b.noRange {
		p, n = 0, len(b.pieces)
	}
	c.startFetch(b, p, n)
}

// forgive believes those again who only drip, when there is nobody else, and reports whether there were any.
func (c *Core) forgive(b *blob) bool {
	any := false
	for _, n := range b.neighbours {
		if n.m.drips && c.useless(n.m) && !c.isolated(n.m) {
			n.m.uselessTil, any = c.now, true
			c.emit(Quarantine{Peer: n.m.ID, Until: c.now, Why: FailedDrip})
			c.send(n.m.ID, c.hello(b, false))
		}
	}
	return any
}
