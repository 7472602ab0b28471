package swarm

import (
	"slices"
	"strings"
	"time"
)

// A blob comes into a zone by its import group: the Config.Importers nodes of the zone that rendezvous hashing puts first
// among those that want it. They know those of the other zones, and nobody else exchanges piece state across
// zones but with seeds: few connections stay quick, and what is to be known of other zones is soon known.

// imports is what a node knows of bringing a blob into its zone.
type imports struct {
	mine    bool      // a rendezvous named this node among those that import
	askedAt Time      // it asked to be, for nothing came
	sources []*source // other zones, in the order in which they were met
	most    *source   // the one that has most pieces; nil if that is not one alone
}

// source is another zone out of which pieces come.
type source struct {
	zone   string
	key    uint64
	window float64       // pieces that this node has under way at a time; below 1 it pauses between them
	next   Time          // no import before
	took   time.Duration // EWMA of imports; 0 while there was none

	// Of the last look.
	have   Bitmap // what its nodes have, and its seeds if those are to be asked
	count  int    // of have
	whole  int    // pieces that its nodes and seeds have
	newsAt Time   // count changed, or the zone was met
	wants  bool   // nodes of it lack pieces
	under  int    // imports under way
}

// group is the import group of a zone as a rendezvous sees it, highest weight first.
type group struct {
	zone  string
	nodes []ranked
}

type ranked struct {
	id     PeerID
	weight uint64
}

func compareGroup(g group, zone string) int { return strings.Compare(g.zone, zone) }

// enlist enters a joiner into the import group of its zone if its weight is high enough. Who has to make room is told.
func (c *Core) enlist(b *blob, id PeerID, zone string) {
	if b.enlisted(id, zone) {
		return
	}
	i, ok := slices.BinarySearchFunc(b.groups, zone, compareGroup)
	if !ok {
		b.groups = slices.Insert(b.groups, i, group{zone: zone})
	}
	g := &b.groups[i]
	r := ranked{id: id, weight: mix(b.key ^ hash64(string(id)))}
	at := 0
	for at < len(g.nodes) && g.nodes[at].weight > r.weight {
		at++
	}
	if at >= c.cfg.Importers {
		return
	}
	g.nodes = slices.Insert(g.nodes, at, r)
	if last := len(g.nodes) - 1; last >= c.cfg.Importers {
		c.send(g.nodes[last].id, Members{Digest: b.digest})
		g.nodes = g.nodes[:last]
	}
}

// enlisted reports whether a node is in the import group of its zone.
func (b *blob) enlisted(id PeerID, zone string) bool {
	i, ok := slices.BinarySearchFunc(b.groups, zone, compareGroup)
	return ok && slices.ContainsFunc(b.groups[i].nodes, func(r ranked) bool { return r.id == id })
}

// dismiss takes a node out of the import groups.
func (b *blob) dismiss(id PeerID) {
	for i := range b.groups {
		g := &b.groups[i]
		g.nodes = slices.DeleteFunc(g.nodes, func(r ranked) bool { return r.id == id })
	}
}

// partners returns for a node of an import group itself and those of the other zones, and nothing for others.
func (b *blob) partners(id PeerID, zone string) []MemberRef {
	if !b.enlisted(id, zone) {
		return nil
	}
	refs := []MemberRef{{ID: id, Zone: zone}}
	for _, g := range b.groups {
		if g.zone == zone {
			continue
		}
		for _, r := range g.nodes {
			refs = append(refs, MemberRef{ID: r.id, Zone: g.zone})
		}
	}
	return refs
}

// maxStrangers bounds the nodes of which this one first hears by one answer of a rendezvous.
const maxStrangers = 256

// invited notes whether a rendezvous names this node among those that import. The nodes of other zones that it names with
// it may be strangers.
func (c *Core) invited(b *blob, from PeerID, refs []MemberRef) {
	if !b.want || !slices.Contains(c.arbiters(b, ScopeOrigin), c.member(from)) {
		return
	}
	b.imports.mine = slices.ContainsFunc(refs, func(r MemberRef) bool { return r.ID == c.cfg.Self })
	if !b.imports.mine {
		c.leaveAbroad(b)
		return
	}
	strangers := 0
	for _, r := range refs {
		if r.Zone != c.cfg.Zone && c.member(r.ID) == nil && strangers < maxStrangers {
			strangers++
			c.seeMember(Member{ID: r.ID, Zone: r.Zone})
		}
	}
}

// leaveAbroad ends the exchange of piece state with nodes of other zones of which nothing is on its way.
func (c *Core) leaveAbroad(b *blob) {
	for _, n := range slices.Clone(b.neighbours) {
		busy := slices.ContainsFunc(b.flights, func(f flight) bool { return f.to == n.m })
		if !n.near && !n.m.Seed && !busy {
			c.dropNeighbour(b, n.m.ID)
			c.send(n.m.ID, Bye{Digest: b.digest, Full: true})
		}
	}
}

// mayImport reports whether this node is to bring pieces into its zone: it was named, or is a rendezvous, or nothing comes.
func (c *Core) mayImport(b *blob) bool {
	if b.imports.mine || slices.Contains(c.arbiters(b, ScopeOrigin), c.me) {
		return true
	}
	if c.now.Sub(b.progressAt) < c.cfg.ImportIdle {
		return false
	}
	if c.now.Sub(b.imports.askedAt) >= c.cfg.ClaimTimeout {
		b.imports.askedAt = c.now
		for _, m := range c.arbiters(b, ScopeOrigin) {
			c.join(b, m)
		}
	}
	return true
}

// importPieces claims pieces that no neighbour of the zone has but another zone has, and fetches those granted: first where a
// local reader is blocked, then over connections that are quick, then any.
//
// The pipes between zones may be all that counts. So a piece leaves a zone once where it can: see mayLeave. And
// a window for each zone keeps no more imports under way than its pipe brings in a short time: a piece that is through soon is
// soon passed on, and many at a time would all be through late.
func (c *Core) importPieces(b *blob) {
	room := c.cfg.Imports - c.goOnImporting(b)
	if room <= 0 || !b.lacks(abroad) || !c.mayImport(b) {
		return
	}
	c.lookAbroad(b)
	if b.bypass {
		c.seizeImports(b, room)
		return
	}
	var list []uint32
	take := func(p PieceIndex, s *source) bool {
		if s == nil || room == 0 || slices.Contains(list, uint32(p)) {
			return false
		}
		s.under++
		room--
		list = append(list, uint32(p))
		return true
	}
	for p := range b.cursors {
		if b.lacking(abroad, int(p/64))&(1<<(p%64)) != 0 {
			take(p, c.sourceOf(b, p))
		}
	}
	words := len(b.have.words)
	first := c.rng.IntN(words) // spread: all would take the same
	for _, n := range b.neighbours {
		if n.near || !c.warm(n) || !c.usable(n) {
			continue
		}
		s := c.source(b, n.m)
		if n.m.Seed && c.spared(s) || !s.room(c.now) {
			continue
		}
		around(first, words, func(k int) bool {
			return bitsOf(k, n.have.words[k]&b.lacking(abroad, k), func(p PieceIndex) bool {
				return !b.pieces[p].zone.open(c.now) || !c.mayLeave(b, p, s) || !take(p, s)
			})
		})
	}
	around(first, words, func(k int) bool {
		return bitsOf(k, b.lacking(abroad, k), func(p PieceIndex) bool {
			take(p, c.sourceOf(b, p))
			return room > 0 && b.imports.room(c.now)
		})
	})
	if len(list) > 0 {
		c.claim(b, ScopeZone, list)
		c.goOnImporting(b)
	}
}

// seizeImports brings pieces in without asking: the last resort.
func (c *Core) seizeImports(b *blob, room int) {
	var list []uint32
	around(0, len(b.have.words), func(k int) bool {
		return bitsOf(k, b.lacking(abroad, k), func(p PieceIndex) bool {
			if b.pieces[p].zone.state != granted {
				b.pieces[p].zone = claim{state: granted, at: c.now}
				b.importing = append(b.importing, p)
				list = append(list, uint32(p))
			}
			return len(list) < room
		})
	})
	c.tell(b, ScopeZone, ClaimHeld, list)
	c.goOnImporting(b)
}

// around calls f for the numbers below n, from one on and around, until it says no.
func around(from, n int, f func(int) bool) {
	for i := range n {
		if !f((from + i) % n) {
			return
		}
	}
}

// importOffered claims pieces that a neighbour of another zone has from now on.
func (c *Core) importOffered(b *blob, n *neighbour, list []Units) {
	s := c.source(b, n.m)
	if !b.want || b.phase != fetching || !b.opened || !b.imports.mine || n.m.Seed && c.spared(s) {
		return
	}
	c.countImports(b)
	room := c.cfg.Imports - len(b.importing)
	var take []uint32
	each(list, func(u uint32) {
		p := PieceIndex(u)
		if int(u) >= len(b.pieces) {
			return
		}
		if !s.have.Has(p) {
			s.have.Set(p)
			s.newsAt = c.now
		}
		free := b.lacking(abroad, int(p/64))&(1<<(p%64)) != 0 && b.pieces[p].zone.open(c.now)
		if free && room > 0 && s.room(c.now) && c.mayLeave(b, p, s) {
			room--
			s.under++
			take = append(take, u)
		}
	})
	if len(take) > 0 {
		c.claim(b, ScopeZone, take)
		c.goOnImporting(b)
	}
}

// source returns the zone of a member of another zone.
func (c *Core) source(b *blob, m *member) *source {
	for _, s := range b.imports.sources {
		if s.zone == m.Zone {
			return s
		}
	}
	s := &source{zone: m.Zone, key: hash64(m.Zone), window: float64(c.cfg.ImportWindow), have: NewBitmap(len(b.pieces)), newsAt: c.now}
	b.imports.sources = append(b.imports.sources, s)
	return s
}

// lookAbroad brings up to date what other zones have and what is under way from there.
func (c *Core) lookAbroad(b *blob) {
	im := &b.imports
	for _, s := range im.sources {
		s.wants, s.whole = false, 0
		clear(s.have.words)
	}
	for _, n := range b.neighbours {
		if s := c.sourceOfNode(b, n); s != nil {
			s.wants = s.wants || n.wants
			s.add(n)
		}
	}
	for _, s := range im.sources {
		if n := s.have.Count(); n != s.count {
			s.count, s.newsAt = n, c.now
		}
	}
	for _, n := range b.neighbours {
		if n.near || !n.m.Seed {
			continue
		}
		s := c.source(b, n.m)
		s.whole = max(s.whole, n.count)
		if !c.spared(s) {
			s.add(n)
		}
	}
	im.most = nil
	most := -1
	for _, s := range im.sources {
		switch s.whole = max(s.whole, s.count); {
		case s.whole > most:
			im.most, most = s, s.whole
		case s.whole == most:
			im.most = nil
		}
	}
	c.countImports(b)
}

// sourceOfNode returns the zone of a neighbour of another zone that is no seed, nil for others.
func (c *Core) sourceOfNode(b *blob, n *neighbour) *source {
	if n.near || n.m.Seed {
		return nil
	}
	return c.source(b, n.m)
}

func (s *source) add(n *neighbour) {
	for k, w := range n.have.words {
		s.have.words[k] |= w
	}
}

// countImports counts what is under way from each zone.
func (c *Core) countImports(b *blob) {
	for _, s := range b.imports.sources {
		s.under = 0
	}
	for _, f := range b.flights {
		if f.to.Zone != c.cfg.Zone {
			c.source(b, f.to).under++
		}
	}
}

// spared reports whether the seeds of a zone are left to its own nodes: those want the blob and get on with it, and
// then are who to ask.
func (c *Core) spared(s *source) bool { return s.wants && c.now.Sub(s.newsAt) < c.cfg.Hold }

// room reports whether one more import out of a zone may begin.
func (s *source) room(now Time) bool {
	if s.window < 1 {
		return s.under == 0 && now >= s.next
	}
	return s.under < int(s.window)
}

// room reports whether one more import may begin out of any zone.
func (im *imports) room(now Time) bool {
	return slices.ContainsFunc(im.sources, func(s *source) bool { return s.room(now) })
}

// load is the share of the window that one more import would fill.
func (s *source) load() float64 { return float64(s.under+1) / s.window }

// sourceOf returns the zone out of which to import a piece now, nil if it is not to be.
func (c *Core) sourceOf(b *blob, p PieceIndex) *source {
	if !b.pieces[p].zone.open(c.now) {
		return nil
	}
	var best *source
	for _, s := range b.imports.sources {
		if s.have.Has(p) && s.room(c.now) && (best == nil || s.load() < best.load()) && c.mayLeave(b, p, s) {
			best = s
		}
	}
	return best
}

// mayLeave reports whether this zone may take a piece from another. What several zones have is not taken from the one that
// has most: its pipe out is the one that all wait for, unless it is twice as quick. What one alone has is for the
// zone that rendezvous hashing puts first among those that lack it; the others take it from there. A zone
// that makes no progress for Config.Hold, or is far behind this one, holds nobody up.
func (c *Core) mayLeave(b *blob, p PieceIndex, from *source) bool {
	im := &b.imports
	alone := true
	for _, s := range im.sources {
		if s == from || !s.have.Has(p) {
			continue
		}
		if alone = false; from == im.most && s.took <= 2*from.took {
			return false
		}
	}
	if !alone {
		return true
	}
	key := b.key ^ unitKey(ScopeZone, uint32(p))
	mine, here := mix(key^hash64(c.cfg.Zone)), b.have.Len()-b.missing
	return !slices.ContainsFunc(im.sources, func(s *source) bool {
		return s != from && s.wants && c.now.Sub(s.newsAt) < c.cfg.Hold && 2*(s.count+behind) > here && mix(key^s.key) > mine
	})
}

// behind is the number of pieces by which a zone may always be behind another.
const behind = 16

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
		case b.have.Has(i) || b.avail.near.Has(i) || !b.avail.far.Has(i):
			back = append(back, uint32(i))
			p.zone = claim{}
			return true
		}
		if n := c.exporter(b, i); n != nil {
			c.request(b, i, n)
		}
		return false
	})
	c.tell(b, ScopeZone, ClaimRelease, back)
	return len(b.importing)
}

// exporter returns the neighbour of another zone to ask for a piece: where it may leave, over a quick connection, of least
// cost.
func (c *Core) exporter(b *blob, p PieceIndex) *neighbour {
	var best *neighbour
	least := float32(0)
	for _, n := range b.neighbours {
		if n.near || !n.have.Has(p) || !c.usable(n) {
			continue
		}
		s := c.source(b, n.m)
		x := cost(n) / float32(s.window)
		if c.warm(n) {
			x /= 8 // a cold connection takes some eight round trips more
		}
		if n.m.Seed && c.spared(s) {
			x *= 64
		}
		if !c.mayLeave(b, p, s) {
			x += 1e6
		}
		if best == nil || x < least {
			best, least = n, x
		}
	}
	return best
}

// warmth is how long a connection over which pieces came stays quick: TCP begins slowly again after a pause.
const warmth = time.Second

// warm reports whether the connection to a neighbour of another zone is quick.
func (c *Core) warm(n *neighbour) bool { return n.fed != 0 && c.now.Sub(n.fed) < warmth }

// imported adapts the window of a zone to how long an import out of it took.
func (c *Core) imported(b *blob, m *member, took time.Duration) {
	if n := m.in(b); n != nil {
		n.fed = c.now
	}
	s := c.source(b, m)
	if s.took == 0 {
		s.took = took
	}
	s.took += (took - s.took) * 3 / 10
	good := max(c.cfg.ImportTime, time.Duration(c.cfg.ImportTrips)*m.RTT)
	switch {
	case took <= good:
		s.window = min(s.window+0.5/max(s.window, 0.5), float64(c.cfg.Imports))
	case took > 2*good:
		s.window = max(s.window*0.75, leastWindow)
	}
	if s.window < 1 {
		s.next = c.now.Add(time.Duration(float64(took) * (1/s.window - 1)))
	}
}

// leastWindow is the least that congestion leaves of a window.
const leastWindow = 1.0 / 16
