package swarm

import (
	"slices"
	"time"
)

// A blob whose size the origin does not tell has one at its last byte only. One node reads all of it into a file of its own
// before anybody gets a piece, for as long as the origin takes; the lease on the first stripe, which it renews, stands for the
// whole. Others wait while an arbiter says that somebody else holds that lease: it ends by itself when its holder stops,
// dies or gives up, and then the next to ask takes over.
//
// Pieces cannot go out before: how large they are follows from the size of the blob (LayoutOf), and so do the frames that
// tell of them, what is signed for them, and the room that the store makes. A cut that does not depend on the size
// would be another cut for the same digest, of which peers that learn the size from elsewhere know nothing.
//
// That bytes come to the holder nobody else can see, whatever it said of them. So it is believed for Config.Unsized; after
// that those that wait go to the origin as well, one by one in their rank.

// maxReadings bounds the nodes that are waited for one after the other: an origin that fails them all fails this one too.
const maxReadings = 4

// elsewhere is who reads a blob of unknown size while this node waits.
type elsewhere struct {
	by   PeerID
	seen int // nodes that were named so far
}

// readElsewhere handles an arbiter's word that another node reads a blob of unknown size: this one has patience with it.
func (c *Core) readElsewhere(b *blob, by PeerID) {
	if b.size >= 0 || !b.want || b.phase != fetching || !c.mayRead(b, by) {
		return
	}
	if b.elsewhere.by != by {
		b.elsewhere = elsewhere{by: by, seen: b.elsewhere.seen + 1}
	}
	waited := c.now.Sub(b.wantedAt)
	if b.elsewhere.seen > maxReadings || waited > c.cfg.Unsized+time.Duration(c.ahead(b))*c.cfg.Unsized/4 {
		return
	}
	b.progressAt = c.now
	c.emit(Await{Digest: b.digest, Reader: by})
}

// mayRead reports whether a node may be reading the blob: one that says itself that it does not want it does not.
func (c *Core) mayRead(b *blob, id PeerID) bool {
	m := c.member(id)
	if m == nil || m == c.me || c.useless(m) || indexOf(b.silent, id) >= 0 {
		return false
	}
	if n := m.in(b); n != nil {
		return n.wants
	}
	return indexOf(b.parted, id) < 0
}

// takesOver reports whether a node that left the reading to seeds asks for the lease itself, and so learns who reads: nothing
// has come for long.
func (c *Core) takesOver(b *blob) bool {
	return b.size < 0 && c.now.Sub(b.progressAt) > c.cfg.LastResort
}

// awaited reports whether others wait for what this node reads of a blob of unknown size.
func (b *blob) awaited() bool {
	return b.size < 0 && len(b.fetches) > 0 && slices.ContainsFunc(b.neighbours, func(n *neighbour) bool { return n.wants })
}

// askSize asks a neighbour that tells of pieces for the size: a seed did not believe it while it had none.
func (c *Core) askSize(b *blob, n *neighbour) {
	if b.want && !c.useless(n.m) && (n.probed == 0 || c.now.Sub(n.probed) >= c.cfg.ClaimTimeout) {
		n.probed = c.now
		c.send(n.m.ID, c.hello(b, false))
	}
}

// stopBlind ends a request that was made before the size was known and is not answered yet, once others have all that it is to
// bring: an origin that does not tell the size may take long.
func (c *Core) stopBlind(b *blob) {
	i := slices.IndexFunc(b.fetches, func(f *fetch) bool { return f.blind && b.elsewhereAll(f) })
	if i < 0 {
		return
	}
	c.stopFetch(b, b.fetches[i])
	if len(b.fetches) == 0 {
		c.release(b, ScopeOrigin)
	}
}

// elsewhereAll reports whether neighbours have all pieces of a fetch that are missing here.
func (b *blob) elsewhereAll(f *fetch) bool {
	for i := range f.count {
		if p := f.first + PieceIndex(i); !b.have.Has(p) && !b.avail.near.Has(p) && !b.avail.far.Has(p) {
			return false
		}
	}
	return f.count > 0
}
