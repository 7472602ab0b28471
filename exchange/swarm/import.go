package swarm

import (
	"slices"
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
