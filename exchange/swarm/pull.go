package swarm

import (
	"math"
	"slices"
	"time"
)

// pull asks peers for pieces until the node's or the blob's share of requests is used up: pieces of the own
// zone as they are rare, pieces that only other zones have under a lease.
func (c *Core) pull(b *blob) {
	if b.missing == 0 {
		return
	}
	for c.mayAsk(b) {
		p, n := c.pickNear(b)
		if n == nil {
			break
		}
		c.request(b, p, n)
	}
	c.importPieces(b)
	c.hedge(b)
}

// share returns the requests that one blob may have under way: an equal part of Config.Outstanding, two at least.
func (c *Core) share() int {
	active := 0
	for _, b := range c.live {
		if b.phase == fetching && b.opened && b.missing > 0 {
			active++
		}
	}
	return max(c.cfg.Outstanding/max(active, 1), 2)
}

// allowed returns the pieces that may come in for a blob at a time. A seed that nobody reads from here leaves the links to
// those that do until it has brought in what is its to bring; what it lacks then, others have.
func (c *Core) allowed(b *blob) int {
	switch {
	case !b.relayed || len(b.readers) > 0:
		return c.share()
	case len(b.fetches) > 0:
		return 0
	}
	return min(c.share(), 2)
}

// mayAsk reports whether one more piece of the own zone may be asked for. Requests that wait at their providers bring
// nothing yet: Config.Waiting of them may be out beyond those that flow.
func (c *Core) mayAsk(b *blob) bool {
	n := c.allowed(b)
	return b.flowing < n && c.asking(b) < n+c.cfg.Waiting
}

// asking counts the piece requests of a blob under way.
func (c *Core) asking(b *blob) int { return b.requests }

// usable reports whether a neighbour may be asked for a piece now.
func (c *Core) usable(n *neighbour) bool {
	return n.m.asked < c.cfg.PerProvider && c.now >= n.m.backoff && !c.isolated(n.m)
}

// cost is the expected time at a provider, in units of one piece's time: its queue and ours at it, scaled by how
// slow it has been.
func cost(n *neighbour) float64 { return float64(1+int(n.m.load)+n.m.asked) * n.m.slow }

// provider returns the best usable neighbour that has a piece: least cost, then least RTT, then least id.
func (c *Core) provider(b *blob, p PieceIndex, near bool, not PeerID) *neighbour {
	var best *neighbour
	for _, n := range b.neighbours {
		if n.near != near || n.m.ID == not || !n.have.Has(p) || !c.usable(n) {
			continue
		}
		if best == nil || cost(n) < cost(best) || cost(n) == cost(best) && n.m.RTT < best.m.RTT {
			best = n
		}
	}
	return best
}

// pickNear chooses the next piece to ask of the own zone: one at which a local reader is blocked, else the rarest of
// those that the least busy provider has, ties by lot.
func (c *Core) pickNear(b *blob) (PieceIndex, *neighbour) {
	for p := range b.cursors {
		if !b.inflight(p) {
			if n := c.provider(b, p, true, ""); n != nil {
				return p, n
			}
		}
	}
	who := c.leastBusy(b)
	if who == nil {
		return 0, nil
	}
	best, fewest, ties := PieceIndex(0), uint16(math.MaxUint16), 0
	for k, w := range who.have.words {
		for p := range pieces(k, w&b.lacking(inZone, k)) {
			switch n := b.avail.nearCount[p]; {
			case n < fewest:
				best, fewest, ties = p, n, 1
			case n == fewest:
				if ties++; c.rng.IntN(ties) == 0 {
					best = p
				}
			}
		}
	}
	return best, who
}

// leastBusy returns the neighbour of the zone to ask next: who has just delivered, for it has a slot to spare, or else
// the one of least cost, ties by lot. The provider comes before the piece: all uplinks are to be busy, and
// were the rarest piece to decide, all would ask the few that have it.
func (c *Core) leastBusy(b *blob) *neighbour {
	var best *neighbour
	least, ties := math.Inf(1), 0
	for _, n := range b.neighbours {
		if !n.near || !c.usable(n) {
			continue
		}
		x := cost(n)
		if n.m == c.delivered {
			x = 0
		}
		if x > least || !b.offers(n) {
			continue
		}
		if x < least {
			best, least, ties = n, x, 1
		} else if ties++; c.rng.IntN(ties) == 0 {
			best = n
		}
	}
	return best
}

// offers reports whether a neighbour has a piece that is missing here and not in flight.
func (b *blob) offers(n *neighbour) bool {
	for k, w := range n.have.words {
		if w&b.lacking(inZone, k) != 0 {
			return true
		}
	}
	return false
}

// pieces yields the pieces of word k of a set.
func pieces(k int, w uint64) func(func(PieceIndex) bool) {
	return func(yield func(PieceIndex) bool) { bitsOf(k, w, yield) }
}

// request asks a neighbour for a piece.
func (c *Core) request(b *blob, p PieceIndex, n *neighbour) {
	r := &b.pieces[p].reqs[0]
	if r.to != "" {
		r = &b.pieces[p].reqs[1]
	}
	*r = request{to: n.m.ID, at: c.now}
	b.avail.busy.Set(p)
	n.m.asked++
	b.requests++
	c.emit(RequestPiece{To: n.m.ID, Digest: b.digest, Piece: p, Timeout: c.timeout()})
}

// timeout is how long a request may take: many times what pieces took so far.
func (c *Core) timeout() time.Duration {
	if c.pieceTime == 0 {
		return 15 * time.Second
	}
	return min(max(24*c.pieceTime, 5*time.Second), 30*time.Second)
}

// hedgeAge is the age at which a request is old (ALGORITHM 2.d: twice a full queue of pieces, and 50 ms).
func (c *Core) hedgeAge(b *blob) time.Duration {
	if c.pieceTime == 0 {
		return 3 * time.Second
	}
	full := time.Duration(2 * (c.cfg.UploadSlots + c.cfg.UploadQueue))
	if b.missing <= 8 {
		full = full * 3 / 4
	}
	return max(full*c.pieceTime+50*time.Millisecond, c.cfg.HedgeFloor)
}

// hedge asks a second provider for pieces whose request is old. The first that comes wins.
func (c *Core) hedge(b *blob) {
	age := c.hedgeAge(b)
	for i := range b.inFlight {
		p := &b.pieces[i]
		if p.reqs[0].to == "" || p.reqs[1].to != "" || c.now.Sub(p.reqs[0].at) < age {
			continue
		}
		if n := c.provider(b, i, true, p.reqs[0].to); n != nil {
			c.request(b, i, n)
		} else if c.now.Sub(p.reqs[0].at) > max(4*age, 4*time.Second) {
			if n := c.provider(b, i, false, p.reqs[0].to); n != nil {
				c.request(b, i, n)
			}
		}
	}
}

// endRequest clears a piece's request at a peer and reports whether there was one.
func (c *Core) endRequest(b *blob, p PieceIndex, id PeerID) bool {
	reqs := &b.pieces[p].reqs
	for i := range reqs {
		if reqs[i].to != id || id == "" {
			continue
		}
		if reqs[i].flows {
			b.flowing--
		}
		reqs[i] = request{}
		if i == 0 {
			reqs[0], reqs[1] = reqs[1], request{}
		}
		b.mark(p)
		b.requests--
		if m := c.member(id); m != nil {
			m.asked--
		}
		return true
	}
	return false
}

// cancelRequests ends what is under way for a piece.
func (c *Core) cancelRequests(b *blob, p PieceIndex) {
	for _, r := range b.pieces[p].reqs {
		if r.to != "" {
			c.endRequest(b, p, r.to)
			c.emit(CancelPiece{To: r.to, Digest: b.digest, Piece: p})
		}
	}
}

// importPieces claims pieces that no neighbour of the zone has but another zone has, and fetches those granted.
// The claims of nodes are spread by rendezvous hashing; who has nothing else to do claims out of turn, which costs
// no duplicate: the arbiter grants a piece once.
func (c *Core) importPieces(b *blob) {
	room := c.cfg.Imports - c.goOnImporting(b)
	if room <= 0 {
		return
	}
	var mine, others []uint32
	for i := range b.lack(abroad) {
		switch {
		case !b.pieces[i].zone.open(c.now):
		case c.importer(b, uint32(i)):
			mine = append(mine, uint32(i))
		default:
			others = append(others, uint32(i))
		}
	}
	if len(mine) == 0 && c.asking(b) < c.allowed(b)/2 && len(others) > 0 {
		first := c.rng.IntN(len(others)) // spread: all that are idle would take the same
		mine = append(slices.Clone(others[first:]), others[:first]...)
		room = 1
	}
	mine = c.cursorFirst(b, mine, others)
	if len(mine) == 0 {
		return
	}
	c.claim(b, ScopeZone, mine[:min(room, len(mine))])
	c.goOnImporting(b)
}

// goOnImporting asks for the pieces that this node may bring into its zone, gives back those that are here by now
// or nowhere any more, and returns the number of those left.
func (c *Core) goOnImporting(b *blob) int {
	var back []uint32
	b.importing = slices.DeleteFunc(b.importing, func(i PieceIndex) bool {
		p := &b.pieces[i]
		switch {
		case p.zone.state == pending:
			return false
		case p.zone.state != granted:
			return true
		case b.inflight(i):
			return false
		case b.avail.near.Has(i) || !b.avail.far.Has(i):
			back = append(back, uint32(i))
			p.zone = claim{}
			return true
		}
		if n := c.provider(b, i, false, ""); n != nil {
			c.request(b, i, n)
		}
		return false
	})
	c.tell(b, ScopeZone, ClaimRelease, back)
	return len(b.importing)
}

// cursorFirst puts a piece at which a local reader is blocked in front, whoever its importer is.
func (c *Core) cursorFirst(b *blob, mine, others []uint32) []uint32 {
	for p := range b.cursors {
		u := uint32(p)
		if i := slices.Index(mine, u); i > 0 {
			return append([]uint32{u}, slices.Delete(mine, i, i+1)...)
		} else if i < 0 && slices.Contains(others, u) {
			return append([]uint32{u}, mine...)
		}
	}
	return mine
}

// importer reports whether this node is the one of its zone's swarm to import a piece.
func (c *Core) importer(b *blob, unit uint32) bool {
	key := b.key ^ unitKey(ScopeZone, unit)
	mine := mix(key ^ c.me.key)
	for _, n := range b.neighbours {
		if n.near && n.wants && mix(key^n.m.key) > mine {
			return false
		}
	}
	return true
}

// started notes that the bytes of a piece come.
func (c *Core) started(e PieceStarted) {
	b := c.blobs[e.Digest]
	if b == nil || int(e.Piece) >= len(b.pieces) {
		return
	}
	reqs := &b.pieces[e.Piece].reqs
	for i := range reqs {
		if reqs[i].to == e.From && !reqs[i].flows {
			reqs[i].flows = true
			b.flowing++
		}
	}
}

// arrived handles a piece from a peer.
func (c *Core) arrived(e PieceArrived) {
	b := c.blobs[e.Digest]
	if b == nil || !b.opened || int(e.Piece) >= len(b.pieces) {
		return
	}
	c.endRequest(b, e.Piece, e.From)
	m := c.member(e.From)
	if m != nil {
		c.timed(m, e.Took)
	}
	if b.have.Has(e.Piece) {
		c.work(b)
		return
	}
	p := &b.pieces[e.Piece]
	p.hash, p.by = e.Hash, e.Attester
	imported := m == nil || m.Zone != c.cfg.Zone
	c.got(b, e.Piece)
	if imported {
		c.zoneDone(b, []uint32{uint32(e.Piece)})
	}
	c.checkWhole(b)
	c.delivered = m
	c.work(b)
	c.delivered = nil
}

// timed learns from how long a piece took.
func (c *Core) timed(m *member, took time.Duration) {
	if c.pieceTime == 0 {
		c.pieceTime = took
	}
	slow := max(1, float64(took)/float64(max(c.pieceTime, time.Millisecond))/float64(m.load+1))
	m.slow += 0.3 * (slow - m.slow)
	c.pieceTime += (took - c.pieceTime) * 3 / 10
}

// got notes a new piece: what else is under way for it is cancelled, neighbours are told. The caller tells the
// arbiters that its claims are done and then calls checkWhole, which releases whatever claims are left.
func (c *Core) got(b *blob, i PieceIndex) {
	c.cancelRequests(b, i)
	b.carriedBy(i, 0)
	b.have.Set(i)
	b.missing--
	b.progressAt = c.now
	b.bypass = false
	b.news = append(b.news, i)
	if b.flushAt == 0 {
		b.flushAt = max(c.now, b.flushed.Add(c.cfg.HaveBatch)) // at once after a pause: others wait for something to pass on
	}
}

// failed handles a request that ended without a piece.
func (c *Core) failed(e PieceFailed) {
	b := c.blobs[e.Digest]
	if b == nil || int(e.Piece) >= len(b.pieces) || !c.endRequest(b, e.Piece, e.From) {
		return
	}
	n, m := b.neighbour(e.From), c.member(e.From)
	if m == nil {
		c.work(b)
		return
	}
	switch e.Why {
	case FailedBusy:
		m.load = e.Load
		m.backoff = c.now.Add(time.Duration(float64(max(e.Wait, 5*time.Millisecond)) * (0.5 + c.rng.Float64())))
	case FailedNotFound, FailedDistrusted, FailedHash, FailedProtocol:
		if n != nil && n.have.Has(e.Piece) {
			n.have.Clear(e.Piece)
			b.avail.add(e.Piece, n.near, -1)
		}
	case FailedTimeout, FailedReset:
		m.backoff = c.now.Add(time.Second)
	}
	c.penalise(e.From, e.Why)
	if c.isolated(m) {
		c.shun(e.From)
	}
	c.work(b)
}

// shun takes an isolated peer out of all neighbourhoods.
func (c *Core) shun(id PeerID) {
	for _, b := range c.order {
		c.dropNeighbour(b, id)
		b.wake = c.now
	}
}
