package swarm

import (
	"slices"
	"time"
)

// upload is a piece request of a peer.
type upload struct {
	xfer  uint64
	to    *member
	b     *blob
	piece PieceIndex
	bytes int64
	far   bool // the requester imports into another zone
}

// uploads are the requests under way and waiting, over all blobs.
//
// One upload at a time makes copies fastest: a piece is with somebody who can pass it on after the time of one piece. But
// one upload leaves the uplink idle where its receiver has other sources. So uploads start no faster than the uplink
// carries them, as far as it was ever seen to carry: where receivers are quick few run at a time, where they
// are busy many do, up to Config.UploadSlots.
type uploads struct {
	active []upload
	queue  []upload
	next   Time // no further upload is started before, if two are under way
	wake   Time // when one that waits for that is to be started; 0: none

	rate  float64 // bytes per nanosecond that the uplink was seen to carry; 0 while unknown
	block Time    // a measurement began at; what has gone out since then:
	sent  int64
	ended int
}

// busyAtLeast is the number of uploads that are always let go.
const busyAtLeast = 2

// unknownRate is the time between uploads as long as the rate of the uplink is unknown.
const unknownRate = 100 * time.Millisecond

// blockUploads is the number of uploads over which the rate of the uplink is taken.
const blockUploads = 6

// load is what is told to peers: uploads under way and waiting.
func (u *uploads) load() uint8 { return uint8(min(len(u.active)+len(u.queue), 255)) }

// refuseAll refuses the waiting requests of a peer; those under way end by PieceServed.
func (c *Core) refuseAll(id PeerID) {
	u := &c.uploads
	u.queue = slices.DeleteFunc(u.queue, func(q upload) bool {
		if q.to.ID != id {
			return false
		}
		c.emit(RefusePiece{Xfer: q.xfer, Load: u.load()})
		return true
	})
}

// of reports whether pieces of a blob are under way or waited for.
func (u *uploads) of(b *blob) bool {
	of := func(q upload) bool { return q.b == b }
	return slices.ContainsFunc(u.active, of) || slices.ContainsFunc(u.queue, of)
}

// count returns the uploads of a list for the own or for other zones.
func count(list []upload, far bool) int {
	n := 0
	for i := range list {
		if list[i].far == far {
			n++
		}
	}
	return n
}

// asked handles a piece request: serve it, queue it, or refuse it, or one of those that wait in its place.
func (c *Core) asked(e PieceRequested) {
	b := c.blobs[e.Digest]
	m := c.member(e.From)
	if b == nil || !b.opened || !b.shown().Has(e.Piece) || m == nil || c.isolated(m) {
		c.emit(RefusePiece{Xfer: e.Xfer, Load: c.uploads.load()})
		return
	}
	b.active = c.now
	_, n := b.layout.Span(e.Piece)
	u := &c.uploads
	u.queue = append(u.queue, upload{xfer: e.Xfer, to: m, b: b, piece: e.Piece, bytes: n, far: m.Zone != c.cfg.Zone})
	c.serve()
	if count(u.queue, false) > c.cfg.UploadQueue {
		c.bounce(false)
	}
	if count(u.queue, true) > c.cfg.ImportQueue {
		c.bounce(true)
	}
}

// bounce refuses the waiting request that would be served last, the latest of those.
func (c *Core) bounce(far bool) {
	u := &c.uploads
	worst, last := -1, -1
	for i, q := range u.queue {
		if q.far == far {
			if n := c.turn(q); n >= last {
				worst, last = i, n
			}
		}
	}
	c.emit(RefusePiece{Xfer: u.queue[worst].xfer, Wait: c.busyWait(), Load: u.load()})
	u.queue = slices.Delete(u.queue, worst, worst+1)
}

// Turns of waiting requests: a piece that nobody else of the own zone has, then imports, then the rest.
const (
	turnImport = 1 << 18
	turnCopied = 1 << 20
)

// turn ranks a waiting request; the least is served first, the oldest of equals. Among imports the piece that fewest have
// there goes first.
func (c *Core) turn(q upload) int {
	n := c.copies(q)
	switch {
	case q.far:
		return turnImport + n
	case n == 0:
		return 0
	}
	return turnCopied
}

// copies counts the neighbours of the requester's side that have its piece, and the uploads of it under way to there.
func (c *Core) copies(q upload) int {
	n := 0
	if a := &q.b.avail; int(q.piece) < len(q.b.pieces) {
		n = int(a.nearCount[q.piece])
		if q.far {
			n = int(a.farCount[q.piece])
		}
	}
	for _, a := range c.uploads.active {
		if a.piece == q.piece && a.far == q.far && a.b == q.b {
			n++
		}
	}
	return n
}

// leastWait is the least time after which who was refused is to come back: some round trips of a zone.
const leastWait = 5 * time.Millisecond

// busyWait estimates when what is under way and waits now will be gone.
func (c *Core) busyWait() time.Duration {
	u := &c.uploads
	if u.rate == 0 {
		return leastWait
	}
	var bytes int64
	for _, q := range u.queue {
		bytes += q.bytes
	}
	return min(max(time.Duration(float64(bytes)/u.rate), leastWait), time.Second)
}

// serve lets waiting requests go.
func (c *Core) serve() {
	u := &c.uploads
	u.wake = 0
	u.queue = slices.DeleteFunc(u.queue, func(q upload) bool {
		gone := !q.b.shown().Has(q.piece) // the proof of its blob failed meanwhile
		if gone {
			c.emit(RefusePiece{Xfer: q.xfer, Load: u.load()})
		}
		return gone
	})
	for len(u.queue) > 0 {
		i := c.nextUpload()
		if i < 0 {
			return
		}
		if len(u.active) >= busyAtLeast && c.now < u.next {
			u.wake = u.next
			return
		}
		up := u.queue[i]
		u.queue = slices.Delete(u.queue, i, i+1)
		if len(u.active) == 0 {
			u.block, u.sent, u.ended = c.now, 0, 0
		}
		u.active = append(u.active, up)
		u.next = c.now.Add(unknownRate)
		if u.rate > 0 {
			u.next = c.now.Add(time.Duration(float64(up.bytes) / (u.rate * 1.25)))
		}
		c.emit(ServePiece{Xfer: up.xfer})
	}
}

// nextUpload returns the waiting request whose turn it is, -1 if none may go. A piece that nobody else nearby has is not
// sent to two at a time: the first can pass it on sooner alone.
func (c *Core) nextUpload() int {
	u := &c.uploads
	room := [2]bool{count(u.active, false) < c.cfg.UploadSlots, count(u.active, true) < c.cfg.FarSlots}
	best, first := -1, 0
	for i, q := range u.queue {
		if q.far && !room[1] || !q.far && (!room[0] || c.alone(q)) {
			continue
		}
		if n := c.turn(q); best < 0 || n < first {
			best, first = i, n
		}
	}
	return best
}

// alone reports whether the piece of a request is on its way to its first other holder.
func (c *Core) alone(q upload) bool {
	if int(q.piece) >= len(q.b.pieces) || q.b.avail.nearCount[q.piece] > 0 {
		return false
	}
	return slices.ContainsFunc(c.uploads.active, func(a upload) bool {
		return a.piece == q.piece && !a.far && a.b == q.b
	})
}

// served ends an upload and lets the next go.
func (c *Core) served(e PieceServed) {
	u := &c.uploads
	is := func(q upload) bool { return q.xfer == e.Xfer }
	if i := slices.IndexFunc(u.active, is); i >= 0 {
		up := u.active[i]
		u.active = slices.Delete(u.active, i, i+1)
		if e.OK {
			c.measure(up.bytes)
			c.pointOn(up)
		}
	} else {
		u.queue = slices.DeleteFunc(u.queue, is)
	}
	c.serve()
}

// pointOn refuses those who waited for the first other holder of a piece: it has the piece now and they ask it, while this
// node sends what only it has.
func (c *Core) pointOn(first upload) {
	u := &c.uploads
	if first.far || int(first.piece) >= len(first.b.pieces) || first.b.avail.nearCount[first.piece] > 0 {
		return
	}
	u.queue = slices.DeleteFunc(u.queue, func(q upload) bool {
		if q.far || q.b != first.b || q.piece != first.piece {
			return false
		}
		c.emit(RefusePiece{Xfer: q.xfer, Wait: leastWait, Load: u.load()})
		return true
	})
}

// measure learns the rate of the uplink from what goes out without a pause.
func (c *Core) measure(bytes int64) {
	u := &c.uploads
	u.sent += bytes
	if u.ended++; u.ended < blockUploads && u.rate > 0 || u.ended < 2 {
		return
	}
	if took := c.now.Sub(u.block); took > 0 {
		u.rate = max(u.rate*0.98, float64(u.sent)/float64(took))
	}
	u.block, u.sent, u.ended = c.now, 0, 0
}
