package swarm

import (
	"slices"
	"strings"
)

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
