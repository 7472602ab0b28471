package swarm

import (
	"slices"
	"time"
)

// wanted handles a local want: it begins a session, or raises the one under way.
func (c *Core) wanted(e Wanted) {
	b := c.blob(e.Digest)
	b.active = c.now
	if b.phase == verifying {
		return
	}
	if b.phase == held { // the driver would not ask if the store still had it
		b.phase, b.opened = idle, false
		b.clear()
		c.greetAgain(b)
	}
	if !b.want {
		b.origin, b.class, b.private, b.relayed = e.Origin, e.Class, e.Private, false
		b.sparse, b.readers, b.unkept = e.Sparse && max(e.Size, b.size) >= 0, nil, unkept{}
		b.measureCover()
		c.begin(b, e.Size)
		return
	}
	b.class = max(b.class, e.Class)
	b.private = b.private && e.Private
	if !e.Sparse {
		c.widenToAll(b)
	}
	if !e.Origin.Zero() && (b.origin.Zero() || b.originDead) {
		b.origin, b.originDead, b.originTries, b.originUntil = e.Origin, false, 0, 0
	}
	c.work(b)
}

// widenToAll makes a sparse session one that brings in the whole blob. Where that is for others to do, they need the
// leases that this node has.
func (c *Core) widenToAll(b *blob) {
	if !b.sparse || b.unkept.on {
		return
	}
	b.sparse, b.cover, b.progressAt = false, Bitmap{}, c.now
	if _, in := c.fetchGroup(b); !in {
		c.leave(b)
	}
	for _, m := range c.willingSeeds(b) {
		c.wantFrom(b, m)
	}
}

// begin opens a session: find members, providers and seeds, and room in the store.
func (c *Core) begin(b *blob, size int64) {
	b.want, b.phase = true, fetching
	b.wantedAt, b.progressAt, b.lastRead, b.renewAt = c.now, c.now, c.now, c.now
	b.refused, b.silent, b.parted, b.asked, b.suspects = nil, nil, nil, nil, nil
	b.imports, b.elsewhere = imports{}, elsewhere{}
	b.originDead, b.originTries, b.originUntil, b.bypass, b.alone, b.repairs = false, 0, 0, false, false, 0
	b.outage, b.metFar, b.begun = 0, false, b.have.Count() > 0
	switch {
	case b.size < 0 && size >= 0:
		c.sized(b, size, "")
	case b.size >= 0 && !b.opened && !b.opening:
		c.open(b)
	}
	c.search(b)
	c.checkWhole(b)
	c.wakeFor(b) // it counts among the sessions that share Config.Outstanding
	c.work(b)
}

// sized fixes the blob's size, told by the local client, a peer or the origin, and asks the store for room.
func (c *Core) sized(b *blob, size int64, from PeerID) {
	if size < 0 || size > MaxBlobSize {
		return
	}
	b.setSize(size, from, c.cfg.StripeBytes, c.rng)
	b.progressAt = c.now
	c.open(b)
	for _, n := range b.neighbours {
		n.have, n.count = Bitmap{}, 0
		if n.m.ID != from {
			c.send(n.m.ID, c.hello(b, false)) // what they told before was of no known size
		}
	}
	c.measureFetches(b)
}

func (c *Core) open(b *blob) {
	b.opening = true
	c.emit(OpenBlob{Digest: b.digest, Size: b.size})
}

// search asks everybody who may know members or providers of the blob.
func (c *Core) search(b *blob) {
	for _, s := range []Scope{ScopeZone, ScopeOrigin} {
		for _, m := range c.arbiters(b, s) {
			c.join(b, m)
		}
	}
	for _, m := range c.willingSeeds(b) {
		c.wantFrom(b, m)
	}
	for _, j := range slices.Clone(b.joiners) {
		c.greet(b, j.ID, chosen)
	}
	if len(c.members) > 1 {
		b.searching = true
		c.emit(FindProviders{Digest: b.digest})
		c.emit(Announce{Digest: b.digest, State: Importing})
	}
}

// join makes this node a member of the swarm at a rendezvous.
func (c *Core) join(b *blob, m *member) {
	if m == c.me || slices.ContainsFunc(b.asked, func(a asking) bool { return a.id == m.ID && !a.seed }) {
		return
	}
	b.asked = append(b.asked, asking{id: m.ID, at: c.now})
	c.send(m.ID, Join{Digest: b.digest, Want: true})
}

// wantFrom asks a seed to bring the blob into the mesh: the whole of it, which a sparse session does not want.
func (c *Core) wantFrom(b *blob, m *member) {
	if m == c.me || b.sparse && !b.unkept.on || b.origin.Zero() || slices.ContainsFunc(b.asked, func(a asking) bool { return a.id == m.ID && a.seed }) {
		return
	}
	b.asked = append(b.asked, asking{id: m.ID, at: c.now, seed: true})
	c.send(m.ID, Want{Digest: b.digest, Size: b.size, Origin: b.origin})
}

// tellNewMember lets a node that came, or changed its role, during a session take its part in it.
func (c *Core) tellNewMember(b *blob, m *member) {
	if b.phase != fetching {
		return
	}
	for _, s := range []Scope{ScopeZone, ScopeOrigin} {
		if slices.Contains(c.arbiters(b, s), m) {
			c.join(b, m)
		}
	}
	if slices.Contains(c.willingSeeds(b), m) {
		c.wantFrom(b, m)
	}
}

// asSeed handles a Want: a seed takes part in the blob's swarm until it has it whole.
func (c *Core) asSeed(b *blob, from PeerID, w Want) {
	b.active = c.now
	if b.unkept.on {
		c.meet(b, from) // for what is kept of it
		c.send(from, Refuse{Digest: b.digest, Kind: OriginUnreachable})
		return
	}
	if b.phase == held || b.phase == verifying || b.want {
		if b.want && b.origin.Zero() {
			b.origin = w.Origin
		}
		c.widenToAll(b)
		b.relayed = b.relayed || b.want
		c.meet(b, from)
		return
	}
	if !c.me.Seed || w.Origin.Zero() || c.now < b.refusedUntil {
		c.send(from, Refuse{Digest: b.digest, Kind: OriginRefused})
		return
	}
	if unproven, all := c.sessionsFor(from); unproven >= maxUnproven || all >= maxSessionsFor || c.shunned(from) {
		c.send(from, Refuse{Digest: b.digest, Kind: OriginThrottled})
		return
	}
	b.origin, b.class, b.private, b.relayed, b.askedBy = w.Origin, Background, false, true, from
	b.sparse, b.unkept = false, unkept{}
	c.begin(b, -1) // the size is the origin's to tell: room on disk is not to be had for the asking
	c.meet(b, from)
}

// maxSessionsFor bounds the blobs that a seed brings into the mesh at a time because one peer asked first: many more
// than the layers of an image, and no way to fill a seed's disk with partials of blobs that do not exist.
const maxSessionsFor = 256

// maxUnproven bounds those among them of which the origin has not said yet that they exist.
const maxUnproven = 16

// sessionsFor counts the sessions that a peer's Want began, and those of unknown size among them.
func (c *Core) sessionsFor(id PeerID) (unproven, all int) {
	for _, b := range c.live {
		if b.want && b.relayed && b.askedBy == id {
			all++
			if b.size < 0 {
				unproven++
			}
		}
	}
	return unproven, all
}

// meet answers a Want by Hello, which tells the asker that this seed is on it.
func (c *Core) meet(b *blob, from PeerID) {
	n := c.addNeighbour(b, from, offered)
	if n == nil {
		c.send(from, Bye{Digest: b.digest, Full: true})
		return
	}
	n.wants = true
	if n.greeted == 0 {
		n.greeted = max(c.now, 1)
		c.send(from, c.hello(b, false))
		return
	}
	c.send(from, c.hello(b, true))
}

// refusedBy handles a seed's Refuse.
func (c *Core) refusedBy(b *blob, from PeerID) {
	b.answered(from)
	if indexOf(b.refused, from) < 0 {
		b.refused = append(b.refused, from)
	}
	c.work(b)
}

// discovered reports whether the search has shown all it will show soon: before that the origin is not asked.
func (c *Core) discovered(b *blob) bool {
	if c.now.Sub(b.wantedAt) >= c.cfg.Discover {
		return true
	}
	return !b.searching && len(b.asked) == 0 &&
		!slices.ContainsFunc(b.neighbours, func(n *neighbour) bool { return !n.replied })
}

// glimpsed reports whether a node may bring in a first stripe while the search goes on.
func (c *Core) glimpsed(b *blob) bool {
	return c.discovered(b) || c.me.Seed && c.now.Sub(b.wantedAt) >= c.cfg.Glimpse
}

func (c *Core) providersFound(e ProvidersFound) {
	b := c.blobs[e.Digest]
	if b == nil {
		return
	}
	if e.Done {
		b.searching = false
	}
	c.introduce(b, e.Peers, found)
	c.work(b)
}

func (c *Core) reading(e Reading) {
	b := c.blobs[e.Digest]
	if b == nil || !b.want {
		return
	}
	b.active, b.lastRead = c.now, c.now
	r := reader{id: e.Reader, off: e.Off, end: e.End}
	if i := slices.IndexFunc(b.readers, func(o reader) bool { return o.id == r.id }); i >= 0 {
		b.readers[i] = r
	} else {
		b.readers = append(b.readers, r)
	}
	b.measureCover()
	c.slide(b)
	c.work(b)
}

func (c *Core) readClosed(e ReadClosed) {
	if b := c.blobs[e.Digest]; b != nil {
		b.readers = slices.DeleteFunc(b.readers, func(r reader) bool { return r.id == e.Reader })
		b.lastRead = c.now
		b.measureCover()
		c.slide(b)
	}
}

// unwanted ends a background session that nothing else keeps: a client's is left to Config.Linger.
func (c *Core) unwanted(e Unwanted) {
	b := c.blobs[e.Digest]
	if b != nil && b.want && b.phase == fetching && b.class == Background && !b.relayed && len(b.readers) == 0 {
		c.giveUp(b, GaveUpAbandoned)
	}
}

// stored handles what the local store holds.
func (c *Core) stored(e Held) {
	b := c.blob(e.Digest)
	if b.unkept.on {
		return
	}
	if b.size != e.Size {
		c.resize(b, e.Size)
	}
	b.opening, b.opened = false, true
	for i := range b.pieces {
		if p := PieceIndex(i); e.Have.Has(p) && !b.have.Has(p) {
			c.cancelRequests(b, p)
			b.have.Set(p)
			b.missing--
			b.news = append(b.news, p)
		}
	}
	if len(b.news) > 0 && b.flushAt == 0 {
		b.flushAt = c.now
	}
	if b.missing == 0 && !b.want {
		b.phase = held
	}
	c.checkWhole(b)
	c.work(b)
}

// resize gives a blob the size that the store opened it with.
func (c *Core) resize(b *blob, size int64) {
	for len(b.flights) > 0 {
		c.cancelRequests(b, b.flights[0].piece)
	}
	b.setSize(size, "", c.cfg.StripeBytes, c.rng)
	for _, n := range b.neighbours {
		n.have, n.count = Bitmap{}, 0
	}
}

func (c *Core) openFailed(e OpenFailed) {
	if b := c.blobs[e.Digest]; b != nil && (b.opening || b.want) {
		b.opening = false
		c.giveUp(b, GaveUpStore)
	}
}

// dropped handles the loss of a blob from the local store.
func (c *Core) dropped(e Dropped) {
	b := c.blobs[e.Digest]
	if b == nil || b.want {
		return
	}
	b.phase, b.opened = idle, false
	b.clear()
	c.farewell(b)
}

// farewell tells the neighbours that this node leaves the swarm.
func (c *Core) farewell(b *blob) {
	for len(b.neighbours) > 0 {
		id := b.neighbours[0].m.ID
		c.dropNeighbour(b, id)
		c.send(id, Bye{Digest: b.digest})
	}
}

// checkProgress ends a session that nobody reads or that cannot go on, and lets one without progress go to the
// origin without a lease: whoever should have gone there does not.
func (c *Core) checkProgress(b *blob) {
	if b.phase != fetching {
		return
	}
	if b.forsaken(c.now, c.cfg.Linger) {
		if !b.awaited() {
			c.giveUp(b, GaveUpAbandoned)
			return
		}
		b.relayed = true // it would all have been read for nothing
	}
	if len(b.fetches) > 0 || b.opening {
		return
	}
	if b.content() {
		b.progressAt = c.now
		c.release(b, ScopeOrigin) // a stripe of which this node wants no more is for others
		return
	}
	still := c.now.Sub(b.progressAt)
	c.probe(b, still)
	c.coax(b, still)
	if len(b.flights) > 0 {
		return
	}
	alone := b.origin.Zero() && c.discovered(b) && len(b.neighbours) == 0 // nobody has it, and nobody said where it comes from
	over := (b.originDead || alone) && !c.offered(b) && !c.awaitsSeeds(b) || still > c.cfg.Stalled
	switch {
	case (over || still > c.cfg.Stalled/2) && c.forgive(b):
		b.progressAt = c.now
		return
	case over:
		c.giveUp(b, GaveUpOrigin)
		return
	}
	if still > c.lastResort(b) && c.now >= b.originUntil && !b.origin.Zero() {
		b.bypass = true
		c.writeOff(b)
	}
}

// forsaken reports whether the local readers have been gone for so long that the session ends.
func (b *blob) forsaken(now Time, linger time.Duration) bool {
	if b.unkept.on {
		return len(b.readers) == 0 && now.Sub(b.lastRead) > min(linger, unkeptLinger)
	}
	return b.class == Foreground && !b.relayed && len(b.readers) == 0 && now.Sub(b.lastRead) > linger
}

// writeOff believes no neighbour that has what is missing here and has been busy all the while, also when it was asked last:
// nothing is fetched of what somebody says that he has.
func (c *Core) writeOff(b *blob) {
	for _, n := range slices.Clone(b.neighbours) {
		m := n.m
		busy := m.busy != 0 && c.now.Sub(m.busy) >= c.cfg.LastResort/2 && m.backoff.Add(c.cfg.ClaimTimeout) >= c.now
		if busy && n.offers(b) {
			c.penalise(m.ID, FailedMute)
		}
	}
}

// offers reports whether a neighbour says that it has a piece that is missing here.
func (n *neighbour) offers(b *blob) bool {
	for i := range b.pieces {
		if p := PieceIndex(i); n.have.Has(p) && !b.have.Has(p) {
			return true
		}
	}
	return false
}

// probe asks the neighbours for a sign of life when nothing comes, and leaves out those that gave none: their pieces
// and leases are then had from others.
func (c *Core) probe(b *blob, still time.Duration) {
	if still < c.cfg.Probe {
		return
	}
	for _, n := range slices.Clone(b.neighbours) {
		switch {
		case n.probed == 0:
			n.probed = c.now
			c.send(n.m.ID, c.hello(b, false))
		case c.now.Sub(n.probed) < c.cfg.ClaimTimeout:
		case n.heard >= n.probed:
			n.probed = 0 // alive: asked again if nothing comes all the same
		default:
			c.dropNeighbour(b, n.m.ID)
			c.ignore(b, n.m.ID)
		}
	}
}

// ignore leaves a peer that does not answer out of the blob's rankings.
func (c *Core) ignore(b *blob, id PeerID) {
	if indexOf(b.silent, id) < 0 {
		c.handOver(b, id)
		b.silent = append(b.silent, id)
	}
	b.renewAt = c.now
	b.coaxed = c.now
}

// coax greets those that fell silent, now and then: a link that was cut for a short time keeps its connections.
func (c *Core) coax(b *blob, still time.Duration) {
	if len(b.silent) == 0 || still < c.cfg.Probe || c.now.Sub(b.coaxed) < c.cfg.Probe {
		return
	}
	b.coaxed = c.now
	for _, id := range b.silent {
		if indexOf(b.refused, id) < 0 {
			c.send(id, c.hello(b, false))
		}
	}
}

// heardFrom counts a peer that fell silent again: it says something of the blob.
func (c *Core) heardFrom(b *blob, id PeerID) {
	if i := indexOf(b.silent, id); i >= 0 && indexOf(b.refused, id) < 0 {
		b.silent = slices.Delete(b.silent, i, i+1)
		b.arbiters = [2]arbiterSet{{silent: -1}, {silent: -1}}
		b.renewAt = c.now
		if m := c.member(id); m != nil {
			c.tellNewMember(b, m)
		}
	}
}

// lastResort is the time without progress after which this node goes to the origin without a lease.
func (c *Core) lastResort(b *blob) time.Duration {
	patience := c.cfg.LastResort + c.lastResortTurn(b)
	if b.size < 0 {
		patience += c.cfg.LastResort
	}
	return patience
}

// lastResortTurn staggers those that would all lose patience at once, by rank: the first to go serves the others.
func (c *Core) lastResortTurn(b *blob) time.Duration {
	return time.Duration(c.ahead(b)) * 500 * time.Millisecond
}

// ahead counts the neighbours that want the blob and rank before this node, but for one that is said to read it.
func (c *Core) ahead(b *blob) int {
	before := 0
	for _, n := range b.neighbours {
		if n.wants && n.m.ID != b.elsewhere.by && mix(b.key^n.m.key) > mix(b.key^c.me.key) {
			before++
		}
	}
	return before
}

// offered reports whether some neighbour has a piece that is missing here.
func (c *Core) offered(b *blob) bool {
	return b.lacks(inZone) || b.lacks(abroad)
}

// awaitsSeeds reports whether another node still has it in hand to fetch the blob.
func (c *Core) awaitsSeeds(b *blob) bool {
	return slices.ContainsFunc(c.willingSeeds(b), func(m *member) bool { return m != c.me })
}

// giveUp ends a session without the blob.
func (c *Core) giveUp(b *blob, why GiveUpReason) {
	if c.me.Seed && b.relayed && why != GaveUpAbandoned {
		b.refusedUntil = c.now.Add(c.cfg.RefusalMemory)
		c.refuseWants(b, max(b.lastOriginErr, OriginUnreachable))
	}
	c.leave(b)
	b.want, b.relayed, b.phase, b.opened, b.opening = false, false, idle, false, false
	b.readers, b.asked, b.searching = nil, nil, false
	b.clear()
	b.sparse, b.unkept = b.sparse && !b.unkept.on, unkept{}
	c.farewell(b)
	c.emit(GiveUp{Digest: b.digest, Reason: why})
}

// refuseWants tells those who asked this seed that it does not bring the blob in.
func (c *Core) refuseWants(b *blob, kind OriginErrorKind) {
	for _, n := range b.neighbours {
		if n.wants {
			c.send(n.m.ID, Refuse{Digest: b.digest, Kind: kind})
		}
	}
}

// leave stops all that is under way for a blob.
func (c *Core) leave(b *blob) {
	for _, f := range b.fetches {
		if !f.ended {
			c.emit(StopOrigin{Digest: b.digest, Fetch: f.id})
		}
	}
	c.release(b, ScopeOrigin)
	c.release(b, ScopeZone)
	b.fetches = nil
	for len(b.flights) > 0 {
		c.cancelRequests(b, b.flights[0].piece)
	}
	for i := range b.pieces {
		b.carriedBy(PieceIndex(i), 0)
	}
}
