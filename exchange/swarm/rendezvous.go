package swarm

import "slices"

// hash64 is FNV-1a with a final mix, so that ids that differ in one bit rank independently.
func hash64(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// unitKey turns a unit of a scope into a key that differs from every blob key.
func unitKey(s Scope, unit uint32) uint64 { return mix(uint64(s)<<32 | uint64(unit) + 1) }

// outranks reports whether a comes before b for a key: the order of highest random weight (Thaler and Ravishankar 1998).
// Every node that knows the same members computes the same order, and one member more or less moves only its own share.
func outranks(key uint64, a, b *member) bool {
	wa, wb := mix(key^a.key), mix(key^b.key)
	return wa > wb || wa == wb && a.ID < b.ID
}

// top returns the member of highest weight for a key, nil if there is none.
func top(key uint64, ms []*member) *member {
	var best *member
	var high uint64
	for _, m := range ms {
		if w := mix(key ^ m.key); best == nil || w > high || w == high && m.ID < best.ID {
			best, high = m, w
		}
	}
	return best
}

// maxSeedArbiters bounds the seeds that keep a blob's origin leases.
const maxSeedArbiters = 8

// arbiters returns the nodes that keep a blob's members and leases in a scope, this node among them if it is
// one. For a zone they are the Config.Arbiters nodes of the zone with the highest weight for the digest; for
// the origin they are the seeds; without seeds as many of everybody in a small mesh, of the relays in a large one.
func (c *Core) arbiters(b *blob, s Scope) []*member {
	cache := &b.arbiters[s-1]
	if cache.epoch == c.epoch && cache.silent == len(b.silent) {
		return cache.set
	}
	var set []*member
	if s == ScopeZone {
		set = c.pick(b, c.cfg.Arbiters, func(m *member) bool { return m.Zone == c.cfg.Zone })
	} else if set = c.pick(b, maxSeedArbiters, func(m *member) bool { return m.Seed }); len(set) == 0 {
		set = c.pick(b, c.cfg.Arbiters, func(m *member) bool { return m.Relay })
		if len(set) == 0 || len(c.members) <= c.cfg.Small {
			set = c.pick(b, c.cfg.Arbiters, func(*member) bool { return true })
		}
	}
	*cache = arbiterSet{epoch: c.epoch, silent: len(b.silent), set: set}
	return set
}

// pick returns the first n in rank for a blob of the members that satisfy ok, are not isolated and answered when they were
// asked about it.
func (c *Core) pick(b *blob, n int, ok func(*member) bool) []*member {
	set := make([]*member, 0, n+1)
	for _, m := range c.members {
		if !ok(m) || len(set) == n && outranks(b.key, set[n-1], m) || c.isolated(m) || slices.Contains(b.silent, m.ID) {
			continue
		}
		i := len(set)
		for i > 0 && outranks(b.key, m, set[i-1]) {
			i--
		}
		set = slices.Insert(set, i, m)
		set = set[:min(n, len(set))]
	}
	return set
}

// arbiter returns the node that decides over a unit.
func (c *Core) arbiter(b *blob, s Scope, unit uint32) PeerID {
	if m := top(b.key^unitKey(s, unit), c.arbiters(b, s)); m != nil {
		return m.ID
	}
	return c.cfg.Self
}

// fetchGroup returns the nodes that share a blob at the origin, and whether this node is one: the seeds that
// take it, or else those that want it.
func (c *Core) fetchGroup(b *blob) (group []*member, in bool) {
	if b.sparse {
		return append(group, c.me), true // nobody else brings in just what this node's readers want
	}
	if seeds := c.willingSeeds(b); len(seeds) > 0 {
		return seeds, slices.Contains(seeds, c.me)
	}
	group = append(group, c.me)
	for _, n := range b.neighbours {
		if n.wants {
			group = append(group, n.m)
		}
	}
	return group, true
}

// willingSeeds returns the live seeds that have not refused the blob. There is none for a private blob.
func (c *Core) willingSeeds(b *blob) []*member {
	if b.private {
		return nil
	}
	if c.seedsAt != c.epoch+1 {
		c.seedsAt, c.seeds = c.epoch+1, nil
		for _, m := range c.members {
			if m.Seed {
				c.seeds = append(c.seeds, m)
			}
		}
	}
	var out []*member
	for _, m := range c.seeds {
		ok := !slices.Contains(b.refused, m.ID) && !slices.Contains(b.silent, m.ID) && !c.useless(m)
		if ok && (m != c.me || !b.originDead) {
			out = append(out, m)
		}
	}
	return out
}
