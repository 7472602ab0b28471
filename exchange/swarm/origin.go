package swarm

import (
	"slices"
	"time"
)

// fetch is a request to the origin under way.
type fetch struct {
	id    uint64
	first PieceIndex
	count int // pieces; 0 while the size is unknown
	bytes int64
	at    Time // made, or its last piece came
	ended bool // its last piece came
	blind bool // it was made while the size was unknown, and has not been answered
}

// fromOrigin has this node do its part in bringing the blob out of the origin, if it has one.
func (c *Core) fromOrigin(b *blob) {
	if b.phase != fetching || b.originDead || b.origin.Zero() || c.now < b.originUntil || !c.glimpsed(b) {
		return
	}
	group, in := c.fetchGroup(b)
	if c.marooned(b) && !b.unleased() {
		return
	}
	switch {
	case !in && !b.unleased() && !c.takesOver(b):
	case b.unkept.on:
		c.unkeptFromOrigin(b)
	case b.size < 0:
		c.fetchUnsized(b, len(group) == 1)
	case !b.opened || !b.lacks(nowhere):
	case b.noRange:
		c.fetchWhole(b)
	default:
		c.claimStripes(b, group)
		c.startFetches(b)
	}
}

// unleased reports whether this node goes to the origin without a lease.
func (b *blob) unleased() bool { return b.bypass || b.alone }

// fetchUnsized asks for the start of a blob whose size nobody told: the origin's answer does.
func (c *Core) fetchUnsized(b *blob, alone bool) {
	if len(b.fetches) > 0 || !c.leaseFirst(b) {
		return
	}
	bytes := c.cfg.StripeBytes
	if alone && c.discovered(b) {
		bytes = c.cfg.RunBytes
	}
	f := c.newFetch(b, 0, 0)
	f.bytes, f.blind = bytes, true
	c.emit(FetchOrigin{Digest: b.digest, Fetch: f.id, Origin: b.origin, Bytes: bytes})
}

// fetchWhole reads everything in one request, from an origin that ignores ranges. The lease on the first stripe
// stands for all.
func (c *Core) fetchWhole(b *blob) {
	if len(b.fetches) > 0 || !c.leaseFirst(b) {
		return
	}
	f := c.newFetch(b, 0, len(b.pieces))
	c.emit(FetchOrigin{Digest: b.digest, Fetch: f.id, Origin: b.origin})
	c.carry(b, f)
}

// leaseFirst claims the first stripe and reports whether it is ours.
func (c *Core) leaseFirst(b *blob) bool {
	if len(b.stripes) == 0 {
		return false
	}
	if b.stripes[0].open(c.now) {
		c.claim(b, ScopeOrigin, []uint32{0})
	}
	return b.stripes[0].state == granted || b.unleased()
}

func (c *Core) newFetch(b *blob, first PieceIndex, count int) *fetch {
	c.lastFetch++
	f := &fetch{id: uint64(c.lastFetch), first: first, count: count, at: c.now}
	b.fetches = append(b.fetches, f)
	return f
}

// carry marks the pieces that a fetch brings and tells the zone that they are on their way into it.
func (c *Core) carry(b *blob, f *fetch) {
	var list []uint32
	for i := range f.count {
		p := f.first + PieceIndex(i)
		if int(p) < len(b.pieces) && !b.have.Has(p) && b.pieces[p].fetch == 0 {
			b.carriedBy(p, uint32(f.id))
			list = append(list, uint32(p))
		}
	}
	c.tell(b, ScopeZone, ClaimHeld, list)
}

// needsOrigin reports whether only the origin can give a piece now.
func (b *blob) needsOrigin(i PieceIndex) bool {
	return b.lacking(nowhere, int(i/64))&(1<<(i%64)) != 0
}

// openStripe reports whether a stripe has a piece to be had of the origin only.
func (b *blob) openStripe(u uint32) bool {
	first, n := b.stripe(u)
	for i := range n {
		if b.needsOrigin(first + PieceIndex(i)) {
			return true
		}
	}
	return false
}

// claimStripes claims what this node fetches next: where a local reader is blocked; then the stripes that
// rendezvous hashing gives it, in order; then, with nothing else to do, the last that nobody holds. Where others bring in
// stripes too it claims none before it can begin it: what is merely held nobody else can begin.
func (c *Core) claimStripes(b *blob, group []*member) {
	room := c.cfg.Fetches * int(c.cfg.RunBytes/(int64(b.perStripe)*b.layout.PieceSize))
	if len(group) > 1 {
		room = c.cfg.Fetches - len(b.fetches)
	}
	if !c.discovered(b) {
		room = min(room, 1)
	}
	for u := range b.stripes {
		if s := b.stripes[u].state; s == pending || s == granted && b.openStripe(uint32(u)) {
			room--
		}
	}
	var list []uint32
	add := func(u uint32) {
		if cl := b.stripes[u]; room > 0 && cl.open(c.now) && b.openStripe(u) && !slices.Contains(list, u) {
			list = append(list, u)
			room--
		}
	}
	for p := range b.cursors {
		room++
		add(uint32(int(p) / b.perStripe))
	}
	for u := range b.stripes {
		if top(b.key^unitKey(ScopeOrigin, uint32(u)), group) == c.me {
			add(uint32(u))
		}
	}
	if len(list) == 0 && len(b.fetches) == 0 {
		for u := len(b.stripes) - 1; u >= 0 && len(list) == 0; u-- {
			add(uint32(u))
		}
	}
	if b.unleased() {
		c.seize(b)
		return
	}
	if len(list) > 0 {
		c.claim(b, ScopeOrigin, list)
	}
}

// seize takes the first stripe that nobody brings, without asking: the last resort.
func (c *Core) seize(b *blob) {
	first := len(b.stripes)
	for u := range b.stripes {
		if b.openStripe(uint32(u)) {
			first = u
			break
		}
	}
	for p := range b.cursors {
		if b.needsOrigin(p) {
			first = int(p) / b.perStripe
			break
		}
	}
	if first < len(b.stripes) {
		b.stripes[first] = claim{state: granted, at: c.now}
		c.tell(b, ScopeOrigin, ClaimHeld, []uint32{uint32(first)})
	}
}

// startFetches asks the origin for runs of leased pieces: one more than Config.Fetches for a blocked reader.
func (c *Core) startFetches(b *blob) {
	for p := range b.cursors {
		if n := c.run(b, p); n > 0 && len(b.fetches) <= c.cfg.Fetches {
			c.startFetch(b, p, n)
		}
	}
	for i := range b.pieces {
		if len(b.fetches) >= c.cfg.Fetches {
			return
		}
		if n := c.run(b, PieceIndex(i)); n > 0 {
			c.startFetch(b, PieceIndex(i), n)
		}
	}
}

// run returns the number of pieces from first on that one request may take: leased, needed, of Config.RunBytes.
func (c *Core) run(b *blob, first PieceIndex) int {
	limit := max(int(c.cfg.RunBytes/b.layout.PieceSize), 1)
	n := 0
	for n < limit && int(first)+n < len(b.pieces) {
		i := int(first) + n
		if b.stripes[i/b.perStripe].state != granted || !b.needsOrigin(PieceIndex(i)) {
			break
		}
		n++
	}
	return n
}

func (c *Core) startFetch(b *blob, first PieceIndex, n int) {
	f := c.newFetch(b, first, n)
	c.emit(FetchOrigin{Digest: b.digest, Fetch: f.id, Origin: b.origin, First: first, Count: uint32(n)})
	c.carry(b, f)
}

// fetchOf returns a fetch of a blob that is still ours, and nil for one that was stopped.
func (c *Core) fetchOf(b *blob, id uint64) *fetch {
	if b == nil {
		return nil
	}
	i := slices.IndexFunc(b.fetches, func(f *fetch) bool { return f.id == id })
	if i < 0 {
		return nil
	}
	return b.fetches[i]
}

// originSized handles the head of the origin's answer.
func (c *Core) originSized(e OriginSized) {
	b := c.blobs[e.Digest]
	f := c.fetchOf(b, e.Fetch)
	if f == nil {
		return
	}
	f.blind = false
	if b.size >= 0 && b.size != e.Size {
		c.contradicted(b)
		return
	}
	if !e.Ranges {
		b.noRange = true
		c.widen(b, f)
	}
	if b.size < 0 {
		c.sized(b, e.Size, "")
		if b.size < 0 {
			c.giveUp(b, GaveUpOrigin) // larger than any blob may be
			return
		}
	}
	c.work(b)
}

// measureFetches says which pieces a request brings that was made before the size was known, whoever told it since.
func (c *Core) measureFetches(b *blob) {
	for _, f := range b.fetches {
		if f.count > 0 {
			continue
		}
		f.count = len(b.pieces)
		if !b.noRange && f.bytes > 0 {
			f.count = min(f.count, int(f.bytes/b.layout.PieceSize))
		}
		c.carry(b, f)
		c.coverStripes(b, f)
	}
}

// widen makes a fetch that turns out to bring the whole blob carry all of it.
func (c *Core) widen(b *blob, f *fetch) {
	if b.size < 0 || f.first > 0 {
		return
	}
	f.count = len(b.pieces)
	c.carry(b, f)
	c.coverStripes(b, f)
}

// coverStripes takes the leases on what a request made before the size was known turned out to bring.
func (c *Core) coverStripes(b *blob, f *fetch) {
	var list []uint32
	for u := range b.stripes {
		if u*b.perStripe < f.count {
			b.stripes[u] = claim{state: granted, at: c.now}
			list = append(list, uint32(u))
		}
	}
	c.tell(b, ScopeOrigin, ClaimHeld, list)
}

// contradicted handles an origin that gives another size than was believed. Local readers were told the wrong
// one, so the session ends; a peer that told it is penalised.
func (c *Core) contradicted(b *blob) {
	from := b.sizeFrom
	c.emit(Discard{Digest: b.digest})
	c.penalise(from, FailedProtocol)
	c.giveUp(b, GaveUpCorrupt)
	b.unsize()
}

// originPiece handles a piece from the origin.
func (c *Core) originPiece(e OriginPiece) {
	b := c.blobs[e.Digest]
	if b == nil || !b.opened || int(e.Piece) >= len(b.pieces) || b.have.Has(e.Piece) {
		return
	}
	b.rests(e.Piece, e.Hash, c.cfg.Self)
	b.originTries = 0
	b.outage = min(b.outage, c.now.Add(c.cfg.Reunion))
	if f := c.fetchOf(b, e.Fetch); f != nil {
		f.ended = int(e.Piece) == int(f.first)+f.count-1
		if _, n := b.layout.Span(e.Piece); c.comesBriskly(n, c.now.Sub(f.at)) {
			b.originBrisk = c.now
		}
		f.at = c.now
	}
	c.got(b, e.Piece, e.Passed)
	c.zoneDone(b, []uint32{uint32(e.Piece)})
	u := uint32(int(e.Piece) / b.perStripe)
	if b.phase == fetching && c.holdsUnit(b, leaseKey{unit: u, s: ScopeOrigin}) {
		b.stripes[u] = claim{}
		c.tell(b, ScopeOrigin, ClaimDone, []uint32{u})
	}
	c.checkWhole(b)
	c.work(b)
}

// endFetch forgets a fetch; pieces that it did not bring are to be had again.
func (c *Core) endFetch(b *blob, f *fetch) {
	b.fetches = slices.DeleteFunc(b.fetches, func(o *fetch) bool { return o == f })
	var list []uint32
	for i := range b.pieces {
		if b.pieces[i].fetch == uint32(f.id) {
			b.carriedBy(PieceIndex(i), 0)
			list = append(list, uint32(i))
		}
	}
	c.tell(b, ScopeZone, ClaimRelease, list)
}

// marooned reports whether the zone is cut off: no peer of another zone is left where there were some, and the origin
// is, or was until a moment ago, out of reach too. When it comes back so will they, with what they have brought out of it.
func (c *Core) marooned(b *blob) bool {
	return b.metFar && c.now < b.outage && !slices.ContainsFunc(b.neighbours, func(n *neighbour) bool { return !n.near })
}

func (c *Core) originDone(e OriginDone) {
	b := c.blobs[e.Digest]
	if f := c.fetchOf(b, e.Fetch); f != nil {
		c.endFetch(b, f)
		c.work(b)
	}
}

// originFailed handles a fetch that ended early: wait and try again, or leave it to others.
func (c *Core) originFailed(e OriginFailed) {
	b := c.blobs[e.Digest]
	f := c.fetchOf(b, e.Fetch)
	if f == nil {
		return
	}
	c.endFetch(b, f)
	b.lastOriginErr = e.Kind
	switch e.Kind {
	case OriginNoRange:
		b.noRange = true
	case OriginUnauthorized, OriginNotFound, OriginRefused:
		b.originDead = true
		if e.Kind == OriginNotFound && b.relayed {
			c.penalise(b.askedBy, FailedWant)
		}
	default:
		b.originTries++
		wait := max(c.cfg.OriginBackoff<<min(b.originTries-1, 10), e.RetryAfter)
		b.originUntil = c.now.Add(min(wait, 30*time.Second))
		b.originDead = b.originTries > c.cfg.OriginRetries && (b.relayed || !b.begun)
		if e.Kind == OriginUnreachable {
			b.outage = never
		}
	}
	if len(b.fetches) == 0 {
		c.release(b, ScopeOrigin)
	}
	if b.originDead && c.me.Seed && b.relayed && len(b.readers) == 0 {
		c.giveUp(b, GaveUpOrigin)
		return
	}
	c.work(b)
}
