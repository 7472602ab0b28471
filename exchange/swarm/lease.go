package swarm

import "slices"

// A lease says that one node, and no other, brings a unit out of the origin or into a zone. It is soft state of
// the unit's arbiter: it ends by release, by the loss of its holder, or when it is not renewed.
type lease struct {
	holder PeerID
	done   bool
	until  Time
}

// leaseKey names a unit; pieces of different zones are different units.
type leaseKey struct {
	zone string // with ScopeZone
	unit uint32
	s    Scope
}

// leases are those that this node keeps as arbiter for one blob. The map is for look-up only.
type leases map[leaseKey]lease

// roomyLeases is the number of leases whose room is kept once they are gone: a map does not shrink by itself, and
// a peer may claim and release without end.
const roomyLeases = 64

// arbitrate answers a claim on the units that this node is arbiter of, for whoever makes it, itself included.
// The verdict is meaningful for ClaimWant only.
func (c *Core) arbitrate(b *blob, from PeerID, cl Claim) Verdict {
	v := Verdict{Digest: cl.Digest, Scope: cl.Scope}
	zone := ""
	if cl.Scope == ScopeZone {
		zone = c.zoneOf(from)
	}
	if cl.Scope != ScopeOrigin && cl.Scope != ScopeZone {
		return v
	}
	if b.leases == nil {
		b.leases = make(leases)
	}
	c.sweepLeases()
	var granted []uint32
	n := 0
	each(cl.Units, func(u uint32) {
		if n++; n > maxClaim && from != c.cfg.Self {
			return
		}
		k := leaseKey{zone: zone, unit: u, s: cl.Scope}
		if cl.State != ClaimWant {
			c.noteLease(b, k, from, cl.State)
			return
		}
		if holder, done, ok := c.leaseOf(b, k, from); ok {
			v.deny(u, holder, done)
			return
		}
		if c.setLease(b, k, lease{holder: from, until: c.now.Add(c.cfg.Lease)}) {
			granted = append(granted, u)
		}
	})
	v.Granted = runs(granted)
	return v
}

// deny adds a unit to those denied, in one run with its neighbours of the same holder.
func (v *Verdict) deny(u uint32, holder PeerID, done bool) {
	if n := len(v.Denied); n > 0 {
		if d := &v.Denied[n-1]; d.Holder == holder && d.Done == done && d.Units.First+d.Units.Count == u {
			d.Units.Count++
			return
		}
	}
	v.Denied = append(v.Denied, Denial{Units: Units{First: u, Count: 1}, Holder: holder, Done: done})
}

// noteLease records what a holder says of its unit. A word from another than the live holder changes nothing, but that
// a unit is of no use from whoever brought it in: it may then be brought in once more.
func (c *Core) noteLease(b *blob, k leaseKey, from PeerID, s ClaimState) {
	old, ok := b.leases[k]
	if c.hopeless(from) && s != ClaimRelease || ok && old.holder != from && old.until > c.now && !old.done {
		return
	}
	switch s {
	case ClaimHeld:
		c.setLease(b, k, lease{holder: from, until: c.now.Add(c.cfg.Lease)})
	case ClaimDone:
		c.setLease(b, k, lease{holder: from, done: true, until: c.now.Add(c.cfg.Done)})
	case ClaimRelease:
		if ok && (old.holder == from || old.done) {
			c.dropLease(b, k)
		}
	}
}

// maxClaim bounds the units of one claim that are looked at.
const maxClaim = 1 << 14

// maxLeases bounds the leases that this node keeps for one peer, over all blobs: more than the units of some ten
// blobs of 10 GiB. A peer that makes units up is told nothing beyond.
const maxLeases = 1 << 15

// setLease enters a lease and reports whether there was room for it.
func (c *Core) setLease(b *blob, k leaseKey, l lease) bool {
	if old, ok := b.leases[k]; !ok || old.holder != l.holder {
		m := c.member(l.holder)
		if m == nil || m != c.me && m.leases >= maxLeases {
			return false
		}
		c.dropLease(b, k)
		m.leases++
	}
	b.leases[k] = l
	b.leased = max(b.leased, len(b.leases))
	return true
}

func (c *Core) dropLease(b *blob, k leaseKey) {
	l, ok := b.leases[k]
	if !ok {
		return
	}
	delete(b.leases, k)
	if m := c.member(l.holder); m != nil {
		m.leases--
	}
	left := len(b.leases)
	if b.leased > roomyLeases && left < b.leased/4 {
		few := make(leases, left)
		for k, l := range b.leases {
			few[k] = l
		}
		b.leases, b.leased = few, left
	}
}

// sweepLeases drops leases that have ended, now and then.
func (c *Core) sweepLeases() {
	if c.now.Sub(c.sweptAt) < c.cfg.Lease {
		return
	}
	c.sweptAt = c.now
	for _, b := range c.order {
		for k, l := range b.leases {
			if l.until <= c.now {
				c.dropLease(b, k)
			}
		}
	}
}

// leaseOf returns who else holds a unit, if anybody does. A unit whose bytes this node has is done by it.
func (c *Core) leaseOf(b *blob, k leaseKey, asker PeerID) (holder PeerID, done, ok bool) {
	if c.hopeless(asker) {
		return c.cfg.Self, false, true // what it brings in is of no use to us
	}
	l, found := b.leases[k]
	if found && l.until > c.now && l.holder != asker && !c.hopeless(l.holder) {
		return l.holder, l.done, true
	}
	if asker != c.cfg.Self && b.opened && c.holdsUnit(b, k) {
		return c.cfg.Self, true, true
	}
	return "", false, false
}

// holdsUnit reports whether this node has all the bytes of a unit.
func (c *Core) holdsUnit(b *blob, k leaseKey) bool {
	if k.s == ScopeZone {
		return k.zone == c.cfg.Zone && b.shown().Has(PieceIndex(k.unit))
	}
	first, n := b.stripe(k.unit)
	for i := range n {
		if !b.shown().Has(first + PieceIndex(i)) {
			return false
		}
	}
	return n > 0
}

func (c *Core) zoneOf(id PeerID) string {
	if m := c.member(id); m != nil {
		return m.Zone
	}
	return ""
}

// claimed handles a Claim from a peer.
func (c *Core) claimed(b *blob, from PeerID, cl Claim) {
	b.active = c.now
	v := c.arbitrate(b, from, cl)
	if cl.State == ClaimWant {
		c.send(from, v)
	}
}

// A claim is this node's own view of one unit: what it asked of the arbiter and what it was told.
type claim struct {
	state      claimState
	complained bool   // asked again: the holder is of no use
	at         Time   // asked or granted at; when denied: to be claimed again after this
	node       PeerID // pending: the arbiter asked; denied: the holder
}

type claimState uint8

const (
	unclaimed claimState = iota
	pending
	granted
	denied
)

// open reports whether the unit may be claimed now.
func (cl claim) open(now Time) bool {
	return cl.state == unclaimed || cl.state == denied && now >= cl.at
}

// forget drops what a lost peer was to decide, or the reason to wait for it.
func (cl *claim) forget(id PeerID) {
	if cl.node == id && (cl.state == pending || cl.state == denied) {
		*cl = claim{}
	}
}

// unitOf names a unit of a blob.
type unitOf struct {
	s    Scope
	unit uint32
}

// claimOf returns our claim on a unit, nil if the blob has no such unit.
func (b *blob) claimOf(s Scope, unit uint32) *claim {
	switch {
	case s == ScopeOrigin && int(unit) < len(b.stripes):
		return &b.stripes[unit]
	case s == ScopeZone && int(unit) < len(b.pieces):
		return &b.pieces[unit].zone
	}
	return nil
}

// claim asks the arbiters for units. Where this node is the arbiter the answer is there on return.
func (c *Core) claim(b *blob, s Scope, list []uint32) {
	for _, u := range list {
		if cl := b.claimOf(s, u); cl != nil {
			*cl = claim{state: pending, at: c.now, node: c.arbiter(b, s, u)}
			b.pending = append(b.pending, unitOf{s, u})
			if s == ScopeZone {
				b.importing = append(b.importing, PieceIndex(u))
			}
		}
	}
	c.tell(b, s, ClaimWant, list)
}

// tell says something of units to their arbiters, one message each.
func (c *Core) tell(b *blob, s Scope, state ClaimState, list []uint32) {
	if b.unkept.on && state != ClaimRelease {
		return
	}
	var order []PeerID
	var parts [][]uint32
	for _, u := range list {
		to := c.arbiter(b, s, u)
		i := indexOf(order, to)
		if i < 0 {
			i = len(order)
			order, parts = append(order, to), append(parts, nil)
		}
		parts[i] = append(parts[i], u)
	}
	for i, to := range order {
		msg := Claim{Digest: b.digest, Scope: s, State: state, Units: runs(parts[i])}
		if to != c.cfg.Self {
			c.send(to, msg)
		} else if v := c.arbitrate(b, to, msg); state == ClaimWant {
			c.judged(b, to, v)
		}
	}
}

func indexOf(list []PeerID, id PeerID) int {
	for i, p := range list {
		if p == id {
			return i
		}
	}
	return -1
}

// judged handles a Verdict. A grant that is no longer wanted goes back.
func (c *Core) judged(b *blob, from PeerID, v Verdict) {
	var back []uint32
	each(v.Granted, func(u uint32) {
		cl := b.claimOf(v.Scope, u)
		if cl == nil || !b.want || cl.state != pending || cl.node != from {
			if cl == nil || cl.state != granted {
				back = append(back, u)
			}
			return
		}
		*cl = claim{state: granted, at: c.now}
	})
	if len(back) > 0 && from != c.cfg.Self {
		c.send(from, Claim{Digest: b.digest, Scope: v.Scope, State: ClaimRelease, Units: runs(back)})
	}
	var useless []uint32
	for _, d := range v.Denied {
		each([]Units{d.Units}, func(u uint32) {
			if cl := b.claimOf(v.Scope, u); cl != nil && cl.state == pending && cl.node == from {
				again := d.Done && !cl.complained && c.hopeless(d.Holder)
				*cl = claim{state: denied, at: c.now.Add(c.cfg.ClaimRetry), node: d.Holder, complained: again}
				if v.Scope == ScopeOrigin && !d.Done {
					c.readElsewhere(b, d.Holder)
				}
				if again && b.want {
					useless = append(useless, u)
				}
			}
		})
		if b.want && d.Holder != c.cfg.Self {
			c.greet(b, d.Holder, needed)
		}
	}
	for _, u := range useless {
		c.complain(b, v.Scope, from, u)
	}
}

// complain tells an arbiter that whoever brought a unit in is of no use, and claims it: one of those that say so brings it in
// again. Of what a useless arbiter says it has itself the next in rank decides.
func (c *Core) complain(b *blob, s Scope, to PeerID, u uint32) {
	if c.hopeless(to) {
		set := slices.DeleteFunc(slices.Clone(c.arbiters(b, s)), c.useless)
		to = c.cfg.Self
		if m := top(b.key^unitKey(s, u), set); m != nil {
			to = m.ID
		}
	}
	*b.claimOf(s, u) = claim{state: pending, complained: true, at: c.now, node: to}
	b.pending = append(b.pending, unitOf{s, u})
	if s == ScopeZone {
		b.importing = append(b.importing, PieceIndex(u))
	}
	for _, state := range []ClaimState{ClaimRelease, ClaimWant} {
		msg := Claim{Digest: b.digest, Scope: s, State: state, Units: []Units{{First: u, Count: 1}}}
		if to != c.cfg.Self {
			c.send(to, msg)
		} else if v := c.arbitrate(b, to, msg); state == ClaimWant {
			c.judged(b, to, v)
		}
	}
}

// expireClaims takes arbiters that do not answer out of the blob's ranking, so that the next in rank is asked.
func (c *Core) expireClaims(b *blob) {
	late := func(u unitOf) bool {
		cl := b.claimOf(u.s, u.unit)
		if cl == nil || cl.state != pending {
			return true
		}
		if c.now.Sub(cl.at) < c.cfg.ClaimTimeout {
			return false
		}
		if cl.node != c.cfg.Self {
			c.ignore(b, cl.node)
		}
		*cl = claim{}
		return true
	}
	b.pending = slices.DeleteFunc(b.pending, late)
}

// handOver leaves the next in rank time to hear who brings in what an arbiter of the origin that is gone had granted.
func (c *Core) handOver(b *blob, gone PeerID) {
	for u := range b.stripes {
		if cl := &b.stripes[u]; cl.state != granted && c.arbiter(b, ScopeOrigin, uint32(u)) == gone {
			*cl = claim{state: denied, at: c.now.Add(c.cfg.Handover)}
		}
	}
}

// renew tells the arbiters of all that this node is on.
func (c *Core) renew(b *blob) {
	if c.now < b.renewAt || b.unkept.on {
		return
	}
	b.renewAt = c.now.Add(c.cfg.Lease / 3)
	var stripes, pieces []uint32
	for i, cl := range b.stripes {
		if cl.state == granted && !c.holdsUnit(b, leaseKey{unit: uint32(i), s: ScopeOrigin}) {
			stripes = append(stripes, uint32(i))
		}
	}
	for i := range b.pieces {
		p := &b.pieces[i]
		if !b.have.Has(PieceIndex(i)) && (p.zone.state == granted || p.fetch != 0) {
			pieces = append(pieces, uint32(i))
		}
	}
	c.tell(b, ScopeOrigin, ClaimHeld, stripes)
	c.tell(b, ScopeZone, ClaimHeld, pieces)
}

// release gives all leases of a scope back.
func (c *Core) release(b *blob, s Scope) {
	var list []uint32
	n := len(b.stripes)
	if s == ScopeZone {
		n = len(b.pieces)
	}
	for u := range n {
		cl := b.claimOf(s, uint32(u))
		if cl.state == granted || cl.state == pending || s == ScopeZone && b.pieces[u].fetch != 0 {
			list = append(list, uint32(u))
		}
		*cl = claim{}
	}
	c.tell(b, s, ClaimRelease, list)
}

// zoneDone tells the zone's arbiters that a piece which this node brought in is here.
func (c *Core) zoneDone(b *blob, list []uint32) {
	for _, u := range list {
		b.pieces[u].zone = claim{}
	}
	c.tell(b, ScopeZone, ClaimDone, list)
}
