package swarm

import (
	"slices"
	"time"
)

// A blob for which the store has no room streams through memory, for the local readers alone: Unkept begins that, at
// OpenBlob or at any time later. What the store has by then stays and is served; of the rest only a window ahead of each
// reader is brought in, and forgotten when the readers have passed it. Others are told of none of it, and nothing is
// claimed: whoever keeps what it brings in goes first, so that the origin and the pipe between zones still carry each
// byte once.

// unkept is the state of such a session.
type unkept struct {
	on      bool
	suspect bool   // what the store has is for local readers alone
	kept    Bitmap // what the store has: the rest of have is in memory
	span    Bitmap // what the readers lack from here on; cover is its part that may come now
	seen    Time   // providers were looked for again at
}

// unkeptLinger is how long such a session lasts without a local reader: the next one may find room.
const unkeptLinger = 2 * time.Second

// WindowBytes returns the memory, in bytes, that the pieces of a blob which is not kept take at most: Config.Window, and
// two pieces at least.
func (c Config) WindowBytes(l Layout) int64 { return max(c.Window, 2*l.PieceSize) }

// shown is the set of pieces that others may have of us.
func (b *blob) shown() Bitmap {
	switch {
	case b.unkept.suspect:
		return NewBitmap(len(b.pieces))
	case b.unkept.on:
		return b.unkept.kept
	}
	return b.have
}

// holds reports whether a piece that has come is held: of a blob that is not kept only one that a reader wants soon.
func (b *blob) holds(i PieceIndex) bool {
	return !b.unkept.on || b.unkept.kept.Has(i) || b.cover.Has(i)
}

// cannotKeep has a session go on without the store: from the start, from a write that failed, or from the end.
func (c *Core) cannotKeep(e Unkept) {
	b := c.blobs[e.Digest]
	switch {
	case b == nil || !b.want:
		return
	case b.unkept.on:
		c.keepsLess(b, e.Have)
		return
	case b.phase == verifying && e.Suspect:
		b.phase, b.news = fetching, nil
		c.disclaim(b)
	case b.phase != fetching:
		return
	}
	if b.size != e.Size {
		c.resize(b, e.Size)
	}
	asked := !b.sparse
	b.opening, b.opened, b.sparse = false, true, true
	b.have = e.Have.Clone()
	b.missing = b.have.Len() - b.have.Count()
	b.unkept = unkept{on: true, suspect: e.Suspect, kept: e.Have.Clone()}
	if len(b.readers) == 0 {
		c.giveUp(b, GaveUpStore)
		return
	}
	if !asked {
		for _, m := range c.willingSeeds(b) {
			c.wantFrom(b, m)
		}
	}
	c.standBack(b)
	c.slide(b)
	c.work(b)
}

// disclaim drops the leases of this node that it keeps as an arbiter: what they brought is for nobody else.
func (c *Core) disclaim(b *blob) {
	for k, l := range b.leases {
		if l.holder == c.cfg.Self {
			c.dropLease(b, k)
		}
	}
}

// keepsLess has what was lost of what is on disk brought in again, as the readers come to it.
func (c *Core) keepsLess(b *blob, have Bitmap) {
	u := &b.unkept
	if !u.suspect || have.Len() != u.kept.Len() {
		return
	}
	for k := range u.kept.words {
		lost := u.kept.words[k] &^ have.words[k]
		u.kept.words[k] &^= lost
		b.have.words[k] &^= lost
	}
	b.progressAt = c.now
	c.slide(b)
	c.work(b)
}

// standBack has this node leave its part in bringing the blob in to others.
func (c *Core) standBack(b *blob) {
	if b.relayed {
		b.relayed, b.refusedUntil = false, c.now.Add(c.cfg.RefusalMemory)
		c.refuseWants(b, OriginUnreachable)
	}
	if c.awaitsOthers(b) {
		c.stopFetches(b)
	}
	c.release(b, ScopeOrigin)
	c.release(b, ScopeZone)
	b.importing = nil
	c.greetAgain(b)
}

// awaitsOthers reports whether somebody else is about to bring the blob in, and keep it.
func (c *Core) awaitsOthers(b *blob) bool {
	return c.awaitsSeeds(b) || slices.ContainsFunc(b.neighbours, func(n *neighbour) bool { return n.wants })
}

// yieldToKeepers leaves the rest to somebody who has come and keeps the blob.
func (c *Core) yieldToKeepers(b *blob) {
	if b.unkept.on && len(b.fetches) > 0 && c.awaitsOthers(b) && !b.unleased() {
		c.stopFetches(b)
	}
}

// slide moves the windows to where the readers are, and forgets what they have passed.
func (c *Core) slide(b *blob) {
	u := &b.unkept
	if !u.on || !b.opened {
		return
	}
	b.measureWindows(int(c.cfg.WindowBytes(b.layout) / b.layout.PieceSize))
	for k := range b.have.words {
		gone := b.have.words[k] &^ (u.kept.words[k] | b.cover.words[k])
		b.have.words[k] &^= gone
	}
	b.missing = b.have.Len() - b.have.Count()
	for _, f := range slices.Clone(b.flights) {
		if !b.cover.Has(f.piece) {
			c.cancelRequests(b, f.piece)
		}
	}
	for _, f := range slices.Clone(b.fetches) {
		if c.shorten(b, f); !b.awaits(f) {
			c.stopFetch(b, f)
		}
	}
	c.emit(Window{Digest: b.digest, Now: b.cover.Clone(), Later: u.span.Clone()})
}

// measureWindows shares room for a number of pieces between the readers.
func (b *blob) measureWindows(room int) {
	b.cover, b.unkept.span = NewBitmap(len(b.pieces)), NewBitmap(len(b.pieces))
	each := max(room/max(len(b.readers), 1), 1)
	for _, r := range b.readers {
		end := b.size
		if r.end >= 0 {
			end = min(r.end, b.size)
		}
		left := each
		for off := max(r.off, 0); off < end; off += b.layout.PieceSize {
			off -= off % b.layout.PieceSize
			i := b.layout.Piece(off)
			if b.unkept.kept.Has(i) {
				continue
			}
			b.unkept.span.Set(i)
			if left == 0 || room == 0 || b.cover.Has(i) {
				continue
			}
			b.cover.Set(i)
			left, room = left-1, room-1
		}
	}
}

func (c *Core) stopFetches(b *blob) {
	for _, f := range slices.Clone(b.fetches) {
		c.stopFetch(b, f)
	}
}

func (c *Core) stopFetch(b *blob, f *fetch) {
	if !f.ended {
		c.emit(StopOrigin{Digest: b.digest, Fetch: f.id})
	}
	c.endFetch(b, f)
}

// shorten has a fetch end before what another reader waits for: it would come to that only after its own reader.
func (c *Core) shorten(b *blob, f *fetch) {
	gap := false
	for i := range f.count {
		switch p := f.first + PieceIndex(i); {
		case b.noRange || b.have.Has(p):
		case !b.cover.Has(p):
			gap = gap || b.unkept.span.Has(p)
		case gap:
			for ; i < f.count; i++ {
				if p := f.first + PieceIndex(i); b.pieces[p].fetch == uint32(f.id) {
					b.carriedBy(p, 0)
				}
			}
			f.count = int(p - f.first)
			return
		}
	}
}

// awaits reports whether a reader is still to come to a piece of a fetch.
func (b *blob) awaits(f *fetch) bool {
	for i := range f.count {
		if p := f.first + PieceIndex(i); b.unkept.span.Has(p) && !b.have.Has(p) {
			return true
		}
	}
	return f.count == 0
}

// unkeptFromOrigin reads, without a lease, what the readers come to next and nobody else has or brings in: far ahead, for
// the driver takes of it what the window has room for.
func (c *Core) unkeptFromOrigin(b *blob) {
	if c.awaitsOthers(b) && !b.unleased() {
		return
	}
	for p := range b.cursors {
		limit := max(c.cfg.Fetches, len(b.readers))
		if b.noRange {
			limit = 1
		}
		switch {
		case !b.needsOrigin(p) || len(b.fetches) >= limit && !c.stopAhead(b):
		case b.noRange:
			f := c.newFetch(b, 0, len(b.pieces))
			c.emit(FetchOrigin{Digest: b.digest, Fetch: f.id, Origin: b.origin})
			c.carry(b, f)
		default:
			c.startFetch(b, p, b.unkeptRun(p, c.cfg.RunBytes))
		}
	}
}

// stopAhead stops a fetch that brings nothing that may come now: it waits for the readers, and a reader that waits for it
// to make room would wait for ever.
func (c *Core) stopAhead(b *blob) bool {
	i := slices.IndexFunc(b.fetches, func(f *fetch) bool { return f.count > 0 && !b.bringsNow(f) })
	if i >= 0 {
		c.stopFetch(b, b.fetches[i])
	}
	return i >= 0
}

// bringsNow reports whether a fetch still brings a piece that may come now.
func (b *blob) bringsNow(f *fetch) bool {
	for i := range f.count {
		if p := f.first + PieceIndex(i); b.pieces[p].fetch == uint32(f.id) && b.cover.Has(p) {
			return true
		}
	}
	return false
}

// unkeptRun returns the number of pieces from first on that a reader is to come to and nobody else has, up to the window of
// another reader.
func (b *blob) unkeptRun(first PieceIndex, bytes int64) int {
	a, n := &b.avail, 0
	for limit := max(int(bytes/b.layout.PieceSize), 1); n < limit; n++ {
		i := first + PieceIndex(n)
		other := n > 0 && b.cover.Has(i) && !b.cover.Has(i-1)
		if other || !b.unkept.span.Has(i) || b.have.Has(i) || a.busy.Has(i) || a.near.Has(i) || a.far.Has(i) {
			break
		}
	}
	return n
}

// importUnkept asks other zones for pieces that nobody of this one has, nor is about to bring in.
func (c *Core) importUnkept(b *blob) {
	still := c.now.Sub(b.progressAt)
	if still >= c.cfg.ImportIdle && c.now.Sub(b.unkept.seen) >= c.cfg.ClaimTimeout && len(c.members) > 1 {
		b.unkept.seen, b.searching = c.now, true
		c.emit(FindProviders{Digest: b.digest})
	}
	wanted := slices.ContainsFunc(b.neighbours, func(n *neighbour) bool { return n.near && n.wants })
	if !b.lacks(abroad) || wanted && still < c.cfg.ImportIdle || !c.mayImport(b) {
		return
	}
	c.lookAbroad(b)
	room := c.cfg.Imports
	for _, s := range b.imports.sources {
		room -= s.under
	}
	for k := range b.have.words {
		bitsOf(k, b.lacking(abroad, k), func(p PieceIndex) bool {
			if n := c.exporter(b, p); n != nil && room > 0 {
				c.request(b, p, n)
				room--
			}
			return room > 0
		})
	}
}
