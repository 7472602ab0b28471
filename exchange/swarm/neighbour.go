package swarm

import (
	"slices"
	"strings"
	"time"
)

// neighbour is a peer with which the state of a blob's pieces is exchanged.
type neighbour struct {
	m       *member
	b       *blob
	next    *neighbour // the same peer's neighbourhood for another blob
	near    bool       // of our zone
	greeted Time       // Hello sent at; its answer is awaited until answered
	replied bool
	probed  Time // asked for a sign of life at; 0: not asked
	heard   Time // last message about the blob
	fed     Time // of another zone: its last piece came
	doubted bool // it had not what it said, and was asked again
	sworn   Time // it answered that at; 0: never doubted
	wants   bool
	have    Bitmap // of length 0 until it told the blob's size
	count   int    // of have
	odd     bool   // it is of another mind about the size: its pieces are not ours
}

// joiner is a member of the swarm that this node names to others, as rendezvous.
type joiner struct {
	ID   PeerID
	zone string
	want bool
	seen Time
}

// maxJoiners bounds the members that a rendezvous remembers of a blob.
const maxJoiners = 1024

// in returns a peer's neighbourhood for a blob, nil if it is none or unknown.
func (m *member) in(b *blob) *neighbour {
	if m == nil {
		return nil
	}
	n := m.near
	for n != nil && n.b != b {
		n = n.next
	}
	return n
}

func compareNeighbour(n *neighbour, id PeerID) int {
	return strings.Compare(string(n.m.ID), string(id))
}

// bond says why a peer becomes a neighbour.
type bond uint8

const (
	found   bond = iota // a search named it: it names the same few to all
	chosen              // a rendezvous drew it for us
	offered             // it greeted us, or asked a seed to bring the blob in
	needed              // it holds what this node was denied to bring in itself
)

// addNeighbour returns the neighbour with this id, making it one if there is room; nil if not.
func (c *Core) addNeighbour(b *blob, id PeerID, why bond) *neighbour {
	m := c.member(id)
	if n := m.in(b); n != nil {
		return n
	}
	if m == nil || m == c.me || c.isolated(m) || !c.roomFor(b, m, why) {
		return nil
	}
	i, _ := slices.BinarySearchFunc(b.neighbours, id, compareNeighbour)
	n := &neighbour{m: m, b: b, next: m.near, near: m.Zone == c.cfg.Zone}
	m.near = n
	if !n.near {
		if c.marooned(b) { // no longer: there is one to ask for what was to be had of the origin as the last resort
			b.bypass, b.progressAt = false, c.now
		}
		b.metFar = true
	}
	b.neighbours = slices.Insert(b.neighbours, i, n)
	return n
}

// roomFor reports whether one more neighbour fits: half of Config.Neighbours are chosen, so that with those that choose
// us there are that many in the mean; who has been there for long is chosen more often. Seeds always fit.
func (c *Core) roomFor(b *blob, m *member, why bond) bool {
	n := 0
	for _, o := range b.neighbours {
		if o.m.Zone == m.Zone {
			n++
		}
	}
	switch {
	case m.Seed:
		return true
	case m.Zone == c.cfg.Zone:
		return n < c.cfg.Neighbours/4*[...]int{found: 1, chosen: 2, offered: 12, needed: 16}[why]
	case c.me.Seed && !b.enlisted(m.ID, m.Zone):
		return false
	}
	return n < 4*c.cfg.Importers // those of a zone change as nodes join
}

// dropNeighbour removes a peer from the neighbourhood: its pieces no longer count.
func (c *Core) dropNeighbour(b *blob, id PeerID) {
	i, ok := slices.BinarySearchFunc(b.neighbours, id, compareNeighbour)
	if !ok {
		return
	}
	n := b.neighbours[i]
	b.count(n, -1)
	b.neighbours = slices.Delete(b.neighbours, i, i+1)
	for at := &n.m.near; *at != nil; at = &(*at).next {
		if *at == n {
			*at = n.next
			break
		}
	}
	if n.near && b.nearby() < c.cfg.Neighbours/4 && b.lonelyAt == 0 {
		b.lonelyAt = c.now.Add(lonely)
	}
	c.cancelAt(b, n.m)
}

// forgetHave lets nothing count that a neighbour said it has.
func (b *blob) forgetHave(n *neighbour) {
	b.count(n, -1)
	n.have, n.count = NewBitmap(len(b.pieces)), 0
}

// lonely is how long a node that lost most of its neighbours waits for others to greet it before it asks for more.
const lonely = 500 * time.Millisecond

// nearby counts the neighbours of the zone.
func (b *blob) nearby() int {
	k := 0
	for _, n := range b.neighbours {
		if n.near {
			k++
		}
	}
	return k
}

// seekNeighbours asks for members of the swarm again after most neighbours were lost or had no room.
func (c *Core) seekNeighbours(b *blob) {
	if b.lonelyAt == 0 || c.now < b.lonelyAt {
		return
	}
	b.lonelyAt = 0
	if b.nearby() < c.cfg.Neighbours/4 {
		for _, m := range c.arbiters(b, ScopeZone) {
			c.join(b, m)
		}
	}
}

// count adds or removes a neighbour's pieces to the availability of each.
func (b *blob) count(n *neighbour, by int) {
	n.count = 0
	for k, w := range n.have.words {
		bitsOf(k, w, func(i PieceIndex) bool {
			if int(i) < len(b.pieces) {
				n.count++
				b.avail.add(i, n.near, by)
			}
			return true
		})
	}
}

// greet tells a peer what we hold and asks for the same, once.
func (c *Core) greet(b *blob, id PeerID, why bond) {
	if n := c.addNeighbour(b, id, why); n != nil && n.greeted == 0 && !n.replied {
		n.greeted = max(c.now, 1)
		c.send(id, c.hello(b, false))
	}
}

// greetAgain asks all neighbours what they hold: they did not say it of pieces that this node had and has no more.
func (c *Core) greetAgain(b *blob) {
	for _, n := range b.neighbours {
		c.send(n.m.ID, c.hello(b, false))
	}
}

func (c *Core) hello(b *blob, reply bool) Hello {
	h := Hello{Digest: b.digest, Size: b.size, NoRange: b.noRange, Want: b.want && !b.unkept.on, Reply: reply, Load: c.uploads.load()}
	if b.opened {
		h.Have = b.shown().Clone()
	}
	return h
}

// helloed handles a Hello.
func (c *Core) helloed(b *blob, from PeerID, h Hello) {
	if !b.want && b.phase != held && !b.opened {
		if !h.Reply {
			c.send(from, Bye{Digest: b.digest})
		}
		return
	}
	n := c.addNeighbour(b, from, offered)
	if n == nil {
		if !h.Reply {
			c.send(from, Bye{Digest: b.digest, Full: true})
		}
		return
	}
	b.active = c.now
	c.heardFrom(b, from)
	b.parted = slices.DeleteFunc(b.parted, func(p PeerID) bool { return p == from })
	n.replied, n.heard, n.m.load = true, c.now, h.Load
	n.wants = h.Want
	b.answered(from)
	if h.Size >= 0 && b.size < 0 && b.want && (!b.relayed || n.m.Seed || h.Have.Count() > 0) {
		c.sized(b, h.Size, from)
	}
	b.noRange = b.noRange || h.NoRange
	c.setHave(b, n, h)
	if n.doubted {
		n.doubted, n.sworn = false, max(c.now, 1)
	}
	if !h.Reply {
		c.send(from, c.hello(b, true))
	}
	c.work(b)
}

// setHave replaces what a neighbour holds. A peer of another mind about the blob's size holds nothing for us.
func (c *Core) setHave(b *blob, n *neighbour, h Hello) {
	b.count(n, -1)
	n.have, n.odd = NewBitmap(len(b.pieces)), h.Size >= 0 && h.Size != b.size
	if h.Size == b.size && h.Have.Len() == len(b.pieces) && !c.useless(n.m) && !b.alone {
		n.have = h.Have.Clone()
		b.begun = b.begun || n.have.Count() > 0
	}
	b.count(n, 1)
}

// told handles a Have.
func (c *Core) told(b *blob, from *member, h Have) {
	n := from.in(b)
	if n == nil {
		return
	}
	from.load, n.heard = h.Load, c.now
	if int(h.Load) < c.cfg.UploadSlots && from.mute == 0 {
		from.backoff = 0
	}
	if b.size < 0 {
		c.askSize(b, n)
	}
	if c.useless(from) || n.odd || b.alone {
		return
	}
	if n.have.Len() != len(b.pieces) {
		b.forgetHave(n)
	}
	offers := false
	b.begun = true
	each(h.Pieces, func(u uint32) {
		if i := PieceIndex(u); int(u) < len(b.pieces) && !n.have.Has(i) {
			n.have.Set(i)
			n.count++
			b.avail.add(i, n.near, 1)
			offers = offers || !b.have.Has(i) && !b.avail.busy.Has(i)
		}
	})
	if len(c.uploads.queue) > 0 {
		c.serve() // what nobody else had may go to the next now
	}
	switch {
	case !offers:
	case !n.near:
		c.importOffered(b, n, h.Pieces)
	case c.mayAsk(b) && c.usable(n):
		c.ask(b)
	}
}

// left handles a Bye. Who has no room for us is in the swarm all the same.
func (c *Core) left(b *blob, from PeerID, full bool) {
	c.dropNeighbour(b, from)
	b.answered(from)
	if !full {
		if b.want && indexOf(b.parted, from) < 0 {
			b.parted = append(b.parted, from)
		}
		b.joiners = slices.DeleteFunc(b.joiners, func(j joiner) bool { return j.ID == from })
		b.dismiss(from)
	}
	c.work(b)
}

// flush tells the neighbours of new pieces, Config.HaveBatch after the last time or later. Who has them all is not told:
// it would ask for none.
func (c *Core) flush(b *blob) {
	if b.flushAt == 0 || c.now < b.flushAt {
		return
	}
	b.flushAt, b.flushed = 0, c.now
	list := make([]uint32, len(b.news))
	for i, p := range b.news {
		list[i] = uint32(p)
	}
	b.news = b.news[:0]
	msg := Have{Digest: b.digest, Load: c.uploads.load(), Pieces: runs(list)}
	for _, n := range b.neighbours {
		if n.have.Len() == 0 || slices.ContainsFunc(list, func(p uint32) bool { return !n.have.Has(PieceIndex(p)) }) {
			c.send(n.m.ID, msg)
		}
	}
}

// joined handles a Join: the asker becomes a member and is told of others, those of its zone first.
func (c *Core) joined(b *blob, from PeerID, j Join) {
	b.active = c.now
	zone := c.zoneOf(from)
	c.enlist(b, from, zone)
	msg := Members{Digest: b.digest, Peers: c.membersFor(b, from, zone)}
	c.addJoiner(b, joiner{ID: from, zone: zone, want: j.Want, seen: c.now})
	c.send(from, msg)
}

func (c *Core) addJoiner(b *blob, j joiner) {
	b.joiners = slices.DeleteFunc(b.joiners, func(o joiner) bool { return o.ID == j.ID })
	if len(b.joiners) >= maxJoiners {
		b.joiners = slices.Delete(b.joiners, 0, 1)
	}
	b.joiners = append(b.joiners, j)
}

// membersFor draws members of the swarm for an asker: Config.Neighbours of its zone, and for one that is to import the
// blob into it, itself and those that do for the other zones.
func (c *Core) membersFor(b *blob, asker PeerID, zone string) []MemberRef {
	refs := b.partners(asker, zone)
	room := c.cfg.Neighbours
	if (b.want || b.phase == held) && (zone == c.cfg.Zone || len(refs) > 0) {
		room--
		refs = append(refs, MemberRef{ID: c.cfg.Self, Zone: c.cfg.Zone})
	}
	add := func(id PeerID, z string) {
		if id != asker && z == zone && room > 0 {
			room--
			refs = append(refs, MemberRef{ID: id, Zone: z})
		}
	}
	for _, i := range c.rng.Perm(len(b.joiners)) {
		if j := b.joiners[i]; j.ID != c.cfg.Self {
			add(j.ID, j.zone)
		}
	}
	return refs
}

// introduce greets members that a rendezvous or a search named, in an order of its own.
func (c *Core) introduce(b *blob, refs []MemberRef, why bond) {
	if !b.want {
		return
	}
	for _, i := range c.rng.Perm(len(refs)) {
		c.greet(b, refs[i].ID, why)
	}
}

// answered says that an asked peer answered.
func (b *blob) answered(id PeerID) {
	b.asked = slices.DeleteFunc(b.asked, func(a asking) bool { return a.id == id })
}

// expireAsked takes peers that left a Join or a Want unanswered out of the blob's rankings.
func (c *Core) expireAsked(b *blob) {
	for _, a := range slices.Clone(b.asked) {
		if c.now.Sub(a.at) >= c.patience(a) {
			b.answered(a.id)
			c.ignore(b, a.id)
		}
	}
}

func (c *Core) patience(a asking) time.Duration {
	if a.seed {
		return c.cfg.SeedSilence
	}
	return c.cfg.ClaimTimeout
}
