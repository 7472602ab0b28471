package swarm

import (
	"slices"
	"strings"
	"time"
)

// neighbour is a peer with which the state of a blob's pieces is exchanged.
type neighbour struct {
	m       *member
	near    bool // of our zone
	greeted Time // Hello sent at; its answer is awaited until answered
	replied bool
	probed  Time // asked for a sign of life at; 0: not asked
	heard   Time // last message about the blob
	wants   bool
	have    Bitmap // of length 0 until it told the blob's size
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

func (b *blob) neighbour(id PeerID) *neighbour {
	i, ok := slices.BinarySearchFunc(b.neighbours, id, compareNeighbour)
	if !ok {
		return nil
	}
	return b.neighbours[i]
}

func compareNeighbour(n *neighbour, id PeerID) int {
	return strings.Compare(string(n.m.ID), string(id))
}

// addNeighbour returns the neighbour with this id, making it one if there is room; nil if not.
func (c *Core) addNeighbour(b *blob, id PeerID) *neighbour {
	i, ok := slices.BinarySearchFunc(b.neighbours, id, compareNeighbour)
	if ok {
		return b.neighbours[i]
	}
	m := c.member(id)
	if m == nil || m == c.me || c.isolated(m) || !c.roomFor(b, m) {
		return nil
	}
	n := &neighbour{m: m, near: m.Zone == c.cfg.Zone}
	b.neighbours = slices.Insert(b.neighbours, i, n)
	return n
}

// roomFor reports whether one more neighbour fits. Seeds always do.
func (c *Core) roomFor(b *blob, m *member) bool {
	near, far := 0, 0
	for _, n := range b.neighbours {
		switch {
		case n.near:
			near++
		case !n.m.Seed:
			far++
		}
	}
	if m.Zone == c.cfg.Zone {
		return near < 2*c.cfg.Neighbours // half of them chosen, half those that chose us
	}
	return m.Seed || far < 2*c.cfg.FarNeighbours
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
	for p := range b.pieces {
		if c.endRequest(b, PieceIndex(p), id) {
			c.emit(CancelPiece{To: id, Digest: b.digest, Piece: PieceIndex(p)})
		}
	}
}

// count adds or removes a neighbour's pieces to the availability of each.
func (b *blob) count(n *neighbour, by int) {
	for i := range min(n.have.Len(), len(b.pieces)) {
		if n.have.Has(PieceIndex(i)) {
			b.avail.add(PieceIndex(i), n.near, by)
		}
	}
}

// greet tells a peer what we hold and asks for the same, once.
func (c *Core) greet(b *blob, id PeerID) {
	if n := c.addNeighbour(b, id); n != nil && n.greeted == 0 && !n.replied {
		n.greeted = max(c.now, 1)
		c.send(id, c.hello(b, false))
	}
}

func (c *Core) hello(b *blob, reply bool) Hello {
	h := Hello{Digest: b.digest, Size: b.size, NoRange: b.noRange, Want: b.want, Reply: reply, Load: c.uploads.load()}
	if b.opened {
		h.Have = b.have.Clone()
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
	n := c.addNeighbour(b, from)
	if n == nil {
		return
	}
	b.active = c.now
	n.replied, n.heard, n.wants, n.m.load = true, c.now, h.Want, h.Load
	b.answered(from)
	if h.Size >= 0 && b.size < 0 && b.want && (!b.relayed || n.m.Seed || h.Have.Count() > 0) {
		c.sized(b, h.Size, from)
	}
	b.noRange = b.noRange || h.NoRange
	c.setHave(b, n, h)
	if !h.Reply {
		c.send(from, c.hello(b, true))
	}
	c.work(b)
}

// setHave replaces what a neighbour holds. A peer of another mind about the blob's size holds nothing for us.
func (c *Core) setHave(b *blob, n *neighbour, h Hello) {
	b.count(n, -1)
	n.have = NewBitmap(len(b.pieces))
	if h.Size == b.size && h.Have.Len() == len(b.pieces) {
		n.have = h.Have.Clone()
	}
	b.count(n, 1)
}

// told handles a Have.
func (c *Core) told(b *blob, from PeerID, h Have) {
	n := b.neighbour(from)
	if n == nil {
		return
	}
	n.m.load, n.heard = h.Load, c.now
	if int(h.Load) < c.cfg.UploadSlots {
		n.m.backoff = 0
	}
	if n.have.Len() != len(b.pieces) {
		b.count(n, -1)
		n.have = NewBitmap(len(b.pieces))
	}
	each(h.Pieces, func(u uint32) {
		if i := PieceIndex(u); int(u) < len(b.pieces) && !n.have.Has(i) {
			n.have.Set(i)
			b.avail.add(i, n.near, 1)
		}
	})
	if b.requests < c.share() { // else the next piece that comes looks at all that changed
		c.work(b)
	}
}

// left handles a Bye.
func (c *Core) left(b *blob, from PeerID) {
	c.dropNeighbour(b, from)
	b.answered(from)
	b.joiners = slices.DeleteFunc(b.joiners, func(j joiner) bool { return j.ID == from })
	c.work(b)
}

// flush tells the neighbours of new pieces once Config.HaveBatch has passed since the first.
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
		if n.have.Len() == 0 || !n.have.Full() {
			c.send(n.m.ID, msg)
		}
	}
}

// joined handles a Join: the asker becomes a member and is told of others, those of its zone first.
func (c *Core) joined(b *blob, from PeerID, j Join) {
	b.active = c.now
	zone := c.zoneOf(from)
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

// membersFor draws members of the swarm for an asker: Config.Neighbours of its zone, Config.FarNeighbours others.
func (c *Core) membersFor(b *blob, asker PeerID, zone string) []MemberRef {
	near, far := c.cfg.Neighbours, c.cfg.FarNeighbours
	var refs []MemberRef
	add := func(id PeerID, z string) {
		room := &far
		if z == zone {
			room = &near
		}
		if id != asker && *room > 0 {
			*room--
			refs = append(refs, MemberRef{ID: id, Zone: z})
		}
	}
	if b.want || b.phase == held {
		add(c.cfg.Self, c.cfg.Zone)
	}
	for _, i := range c.rng.Perm(len(b.joiners)) {
		if j := b.joiners[i]; j.ID != c.cfg.Self {
			add(j.ID, j.zone)
		}
	}
	return refs
}

// introduce greets the members that a rendezvous or a search named.
func (c *Core) introduce(b *blob, refs []MemberRef) {
	if !b.want {
		return
	}
	for _, r := range refs {
		c.greet(b, r.ID)
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
			b.silent = append(b.silent, a.id)
			b.renewAt = c.now
		}
	}
}

func (c *Core) patience(a asking) time.Duration {
	if a.seed {
		return c.cfg.SeedSilence
	}
	return c.cfg.ClaimTimeout
}
