package swarm

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// pull asks peers of the own zone for pieces until the node's or the blob's share of requests is used up.
func (c *Core) pull(b *blob) {
	if b.missing == 0 {
		return
	}
	c.hurry(b) // before all else: who is quick has no room for more after it
	for c.mayAsk(b) {
		p, n := c.pickNear(b)
		if n == nil {
			break
		}
		c.request(b, p, n)
	}
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
func (c *Core) asking(b *blob) int { return len(b.flights) }

// usable reports whether a neighbour may be asked for a piece now.
func (c *Core) usable(n *neighbour) bool {
	limit := c.cfg.PerProvider
	if n.m.mute > 0 || n.m.drips {
		limit = 1
	}
	return int(n.m.asked) < limit && c.now >= n.m.backoff && !c.useless(n.m)
}

// cost is the expected time at a provider, in units of one piece's time: its queue and ours at it, scaled by how
// slow it has been. Who left the last request without a byte, or drips, comes after all others.
func cost(n *neighbour) float32 {
	last := float32(1000 * n.m.mute)
	if n.m.drips {
		last += 1000
	}
	return float32(1+int32(n.m.load)+n.m.asked)*n.m.slow + last
}

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
	return b.rarest(who.have), who
}

// rarest returns the piece of a set, one of which at least is lacking in this node and held by neighbours of the zone, that fewest
// of them have.
func (b *blob) rarest(of Bitmap) PieceIndex {
	a := &b.avail
	best, least := PieceIndex(0), uint32(math.MaxUint32)
	for k, w := range of.words {
		for w &= b.lacking(inZone, k); w != 0; w &= w - 1 {
			p := 64*k + bits.TrailingZeros64(w)
			if x := uint32(a.nearCount[p])<<16 | uint32(a.lot[p]); x < least {
				best, least = PieceIndex(p), x
			}
		}
	}
	return best
}

// leastBusy returns the neighbour of the zone to ask next: who has just delivered, for it has a slot to spare, or else
// the one of least cost, ties by lot. The provider comes before the piece: all uplinks are to be busy, and
// were the rarest piece to decide, all would ask the few that have it.
func (c *Core) leastBusy(b *blob) *neighbour {
	var best *neighbour
	least, ties := float32(math.MaxFloat32), 0
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

// request asks a neighbour for a piece.
func (c *Core) request(b *blob, p PieceIndex, n *neighbour) {
	b.flights = append(b.flights, flight{piece: p, to: n.m, at: c.now})
	b.avail.busy.Set(p)
	n.m.asked++
	c.emit(RequestPiece{To: n.m.ID, Digest: b.digest, Piece: p, Timeout: c.timeout(n.near)})
}

// timeout is how long a request may take: many times what pieces took so far.
func (c *Core) timeout(near bool) time.Duration {
	switch {
	case c.pieceTime == 0:
		return 15 * time.Second
	case near:
		return min(max(24*c.pieceTime, 5*time.Second), 30*time.Second)
	}
	return min(max(24*c.farTime, 15*time.Second), time.Minute)
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
	c.giveUpMute(b, age)
	for _, f := range b.flights {
		if c.now.Sub(f.at) < age {
			return // the oldest come first
		}
		if b.requested(f.piece, f.to) {
			continue
		}
		if n := c.provider(b, f.piece, true, f.to.ID); n != nil {
			c.request(b, f.piece, n)
		} else if c.now.Sub(f.at) > max(4*age, 2*c.farPatience()) {
			if n := c.provider(b, f.piece, false, f.to.ID); n != nil {
				c.request(b, f.piece, n)
			}
		}
	}
}

// maxHurried bounds the second requests of a blob because a reader waits, in pieces: each may bring one for nothing.
func (b *blob) maxHurried() int { return 2 + len(b.pieces)/100 }

// hurry asks a second provider for a piece at which a local reader waits, much sooner than hedge: a provider that drips costs
// the reader no more than a few times what the others take. It is known to be slow from then on.
func (c *Core) hurry(b *blob) {
	for p := range b.cursors {
		i := slices.IndexFunc(b.flights, func(f flight) bool { return f.piece == p })
		if i < 0 || b.hurried >= b.maxHurried() {
			continue
		}
		f := b.flights[i]
		if c.now.Sub(f.at) < c.hurryAge(f.to) || b.requested(p, f.to) {
			continue
		}
		n := c.provider(b, p, true, f.to.ID)
		if n == nil && c.now.Sub(f.at) >= c.farPatience() {
			n = c.provider(b, p, false, f.to.ID)
		}
		if n != nil {
			b.hurried++
			c.request(b, p, n)
		}
	}
}

// hurryAge is the age at which a request is old for a reader that waits.
func (c *Core) hurryAge(to *member) time.Duration {
	switch {
	case to.Zone != c.cfg.Zone:
		return max(c.farPatience(), c.cfg.HurryFloor)
	case c.brisk == 0:
		return 2 * c.cfg.HurryFloor
	}
	return max(4*c.brisk, c.cfg.HurryFloor)
}

// outpaced notes those whose piece came from another, asked later, as slow.
func (c *Core) outpaced(b *blob, p PieceIndex) {
	for _, f := range b.flights {
		if age := c.now.Sub(f.at); f.piece == p && f.to.Zone == c.cfg.Zone && c.brisk > 0 && age >= c.hurryAge(f.to) {
			slow := max(1, float32(age)/float32(c.brisk)/float32(f.to.load+1))
			f.to.slow += 0.3 * max(slow-f.to.slow, 0)
		}
	}
}

// maxMute is how often in a row a peer of the own zone may leave a request without a byte before what it has does not count.
const maxMute = 3

// maxOvertakes is how many later requests to the same zone may bring bytes before one that brings none is taken back. Time
// alone says little: where the pipe between zones is full all wait.
const maxOvertakes = 3

// giveUpMute takes back requests of which no byte has come in a time in which the longest queue would have passed: a process
// that hangs, or means to, accepts and sends nothing. Nothing was sent, so nothing comes twice.
func (c *Core) giveUpMute(b *blob, age time.Duration) {
	for i := 0; i < len(b.flights) && c.now.Sub(b.flights[i].at) >= c.cfg.HedgeFloor; {
		f := b.flights[i]
		old := max(age, 2*c.cfg.HedgeFloor)
		switch {
		case f.to.Zone == c.cfg.Zone:
			old = age
		case f.overtaken < maxOvertakes:
			old = c.farPatience()
		}
		if f.flows || c.now.Sub(f.at) < old {
			i++
			continue
		}
		c.takeBack(b, f)
		c.muteAgain(f.to, max(age, c.now.Sub(f.at)))
		i = 0
	}
}

// farPatience is the age at which a request to another zone is old.
func (c *Core) farPatience() time.Duration {
	if c.farTime == 0 {
		return 4 * time.Second
	}
	return max(8*c.farTime, 2*time.Second)
}

// muteAgain leaves a peer that did not begin to send alone for a while, longer each time.
func (c *Core) muteAgain(m *member, age time.Duration) {
	if c.now < m.backoff && m.mute > 0 {
		return // another request to it, made at the same time
	}
	m.backoff = c.now.Add(age << m.mute)
	if m.mute++; m.mute < maxMute {
		return
	}
	m.mute = maxMute - 1
	if m.Zone == c.cfg.Zone {
		c.penalise(m.ID, FailedMute)
	}
}

// requested reports whether a piece is asked of anybody but one peer.
func (b *blob) requested(p PieceIndex, but *member) bool {
	return slices.ContainsFunc(b.flights, func(f flight) bool { return f.piece == p && f.to != but })
}

// flightOf returns the place of a piece's request at a peer, -1 if there is none.
func (b *blob) flightOf(p PieceIndex, to *member) int {
	return slices.IndexFunc(b.flights, func(f flight) bool { return f.piece == p && f.to == to })
}

// endRequest clears a piece's request at a peer and reports whether there was one.
func (c *Core) endRequest(b *blob, p PieceIndex, to *member) bool {
	i := b.flightOf(p, to)
	if i < 0 {
		return false
	}
	if b.flights[i].flows {
		b.flowing--
	}
	b.flights = slices.Delete(b.flights, i, i+1)
	b.mark(p)
	to.asked--
	return true
}

// takeBack cancels a request.
func (c *Core) takeBack(b *blob, f flight) {
	c.endRequest(b, f.piece, f.to)
	c.emit(CancelPiece{To: f.to.ID, Digest: b.digest, Piece: f.piece})
}

// cancelRequests ends what is under way for a piece.
func (c *Core) cancelRequests(b *blob, p PieceIndex) {
	for i := 0; i < len(b.flights); {
		f := b.flights[i]
		if f.piece != p {
			i++
			continue
		}
		c.takeBack(b, f)
	}
}

// cancelAt ends what is under way at a peer.
func (c *Core) cancelAt(b *blob, m *member) {
	for i := 0; i < len(b.flights); {
		f := b.flights[i]
		if f.to != m {
			i++
			continue
		}
		c.takeBack(b, f)
	}
}

// started notes that the bytes of a piece come.
func (c *Core) started(e PieceStarted) {
	b := c.blobs[e.Digest]
	if b == nil {
		return
	}
	if i := b.flightOf(e.Piece, c.member(e.From)); i >= 0 && !b.flights[i].flows {
		b.flights[i].flows = true
		b.flowing++
		for k := range i {
			if f := &b.flights[k]; f.to.Zone == b.flights[i].to.Zone && f.overtaken < maxOvertakes {
				f.overtaken++
			}
		}
	}
}

// arrived handles a piece from a peer.
func (c *Core) arrived(e PieceArrived) {
	b := c.blobs[e.Digest]
	if b == nil || !b.opened || int(e.Piece) >= len(b.pieces) {
		return
	}
	m := c.member(e.From)
	if m != nil {
		i := b.flightOf(e.Piece, m)
		dripped := i >= 0 && b.flights[i].dripping()
		c.endRequest(b, e.Piece, m)
		c.timed(b, m, e, dripped)
	}
	if b.have.Has(e.Piece) {
		c.work(b)
		return
	}
	b.rests(e.Piece, e.Hash, e.Attester)
	imported := m == nil || m.Zone != c.cfg.Zone
	c.got(b, e.Piece, e.Passed)
	if imported {
		if m != nil {
			c.imported(b, m, e.Took)
		}
		c.zoneDone(b, []uint32{uint32(e.Piece)})
	}
	c.checkWhole(b)
	c.delivered = m
	if imported {
		c.work(b)
	} else {
		c.ask(b)
	}
	c.delivered = nil
}

// timed learns from how long a piece took: of one that dripped, once there are others, only that the peer is not mute.
func (c *Core) timed(b *blob, m *member, e PieceArrived, dripped bool) {
	took := e.Took
	m.mute, m.busy = 0, 0
	if dripped && c.pieceTime > 0 {
		return
	}
	if _, n := b.layout.Span(e.Piece); c.comesBriskly(n, took) {
		m.drips, m.brisk = false, c.now
	}
	if c.pieceTime == 0 {
		c.pieceTime = took
	}
	slow := max(1, float32(took)/float32(max(c.pieceTime, time.Millisecond))/float32(m.load+1))
	m.slow += 0.3 * (slow - m.slow)
	if m.Zone != c.cfg.Zone {
		if c.farTime == 0 {
			c.farTime = took
		}
		c.farTime += (took - c.farTime) * 3 / 10
	}
	c.pieceTime += (took - c.pieceTime) * 3 / 10
	if m.Zone == c.cfg.Zone {
		if c.brisk == 0 {
			c.brisk = took
		}
		c.brisk += (min(took, 4*c.brisk) - c.brisk) * 3 / 10
	}
}

// got notes a new piece: what else is under way for it is cancelled, neighbours are told. The caller tells the
// arbiters that its claims are done and then calls checkWhole, which releases whatever claims are left. One that has
// passed, of a blob that is not kept, is missing as before.
func (c *Core) got(b *blob, i PieceIndex, passed bool) {
	c.outpaced(b, i)
	c.cancelRequests(b, i)
	b.carriedBy(i, 0)
	b.progressAt = c.now
	b.bypass, b.begun = b.bypass && b.unkept.on, true
	if passed || !b.holds(i) {
		return
	}
	b.have.Set(i)
	b.missing--
	if b.unkept.on {
		return
	}
	b.news = append(b.news, i)
	if b.flushAt == 0 {
		b.flushAt = max(c.now, b.flushed.Add(c.cfg.HaveBatch)) // at once after a pause: others wait for something to pass on
	}
}

// failed handles a request that ended without a piece.
func (c *Core) failed(e PieceFailed) {
	b := c.blobs[e.Digest]
	m := c.member(e.From)
	if b == nil || m == nil || int(e.Piece) >= len(b.pieces) {
		return
	}
	i := b.flightOf(e.Piece, m)
	if i < 0 {
		return
	}
	asked := b.flights[i].at
	c.endRequest(b, e.Piece, m)
	n := m.in(b)
	switch e.Why {
	case FailedBusy:
		m.load = e.Load
		if m.busy == 0 {
			m.busy = max(asked, 1)
		}
		m.backoff = c.now.Add(time.Duration(float64(max(e.Wait, 5*time.Millisecond)) * (0.5 + c.rng.Float64())))
	case FailedNotFound:
		if n != nil {
			c.doubt(b, n, asked)
		}
	case FailedDistrusted, FailedHash, FailedProtocol:
		if n != nil && n.have.Has(e.Piece) {
			n.have.Clear(e.Piece)
			n.count--
			b.avail.add(e.Piece, n.near, -1)
		}
	case FailedTimeout, FailedReset:
		m.backoff = c.now.Add(time.Second)
	}
	c.penalise(e.From, e.Why)
	if c.isolated(m) {
		c.shun(e.From)
	}
	if m.Zone == c.cfg.Zone {
		c.ask(b)
	} else {
		c.work(b)
	}
}

// doubt handles a peer that has not what it said it has. What it said no longer counts and it is asked again; if what
// it says then is not so either, it boasts. Boasts do harm: what somebody nearby has is neither imported nor fetched.
func (c *Core) doubt(b *blob, n *neighbour, asked Time) {
	if n.sworn != 0 && asked >= n.sworn {
		c.penalise(n.m.ID, FailedBoast)
		return
	}
	if n.have.Count() == 0 {
		return
	}
	n.doubted = true
	b.forgetHave(n)
	c.send(n.m.ID, c.hello(b, false))
}

// shun takes an isolated peer out of all neighbourhoods.
func (c *Core) shun(id PeerID) {
	for _, b := range c.order {
		c.dropNeighbour(b, id)
		b.wake = c.now
	}
}
