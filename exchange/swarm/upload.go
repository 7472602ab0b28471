package swarm

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// upload is a piece request of a peer.
type upload struct {
	xfer   uint64
	to     PeerID
	digest digest.Digest
	far    bool // the requester imports into another zone
}

// uploads are the requests under way and waiting, over all blobs.
type uploads struct {
	active []upload
	queue  []upload
}

// load is what is told to peers: uploads under way and waiting.
func (u *uploads) load() uint8 { return uint8(min(len(u.active)+len(u.queue), 255)) }

// drop forgets the queued requests of a peer; those under way end by PieceServed.
func (u *uploads) drop(id PeerID) {
	u.queue = slices.DeleteFunc(u.queue, func(q upload) bool { return q.to == id })
}

// asked handles a piece request: serve it, queue it, or refuse it.
func (c *Core) asked(e PieceRequested) {
	b := c.blobs[e.Digest]
	m := c.member(e.From)
	if b == nil || !b.opened || !b.have.Has(e.Piece) || m == nil || c.isolated(m) {
		c.emit(RefusePiece{Xfer: e.Xfer, Load: c.uploads.load()})
		return
	}
	b.active = c.now
	up := upload{xfer: e.Xfer, to: e.From, digest: e.Digest, far: m.Zone != c.cfg.Zone}
	room := c.cfg.UploadQueue
	if up.far {
		room = c.cfg.ImportQueue
	}
	u := &c.uploads
	switch {
	case len(u.active) < c.cfg.UploadSlots:
		u.active = append(u.active, up)
		c.emit(ServePiece{Xfer: e.Xfer})
	case len(u.queue) < room:
		u.queue = append(u.queue, up)
	default:
		c.emit(RefusePiece{Xfer: e.Xfer, Wait: c.busyWait(), Load: u.load()})
	}
}

// busyWait estimates when an upload slot will be free.
func (c *Core) busyWait() time.Duration {
	n := time.Duration(len(c.uploads.queue) + 1)
	return min(max(n*c.pieceTime/2, 5*time.Millisecond), time.Second)
}

// served ends an upload and lets the next go: imports before requests of the own zone, else the oldest.
func (c *Core) served(e PieceServed) {
	u := &c.uploads
	is := func(q upload) bool { return q.xfer == e.Xfer }
	u.active = slices.DeleteFunc(u.active, is)
	u.queue = slices.DeleteFunc(u.queue, is)
	for len(u.active) < c.cfg.UploadSlots && len(u.queue) > 0 {
		i := max(slices.IndexFunc(u.queue, func(q upload) bool { return q.far }), 0)
		next := u.queue[i]
		u.queue = slices.Delete(u.queue, i, i+1)
		u.active = append(u.active, next)
		c.emit(ServePiece{Xfer: next.xfer})
	}
}
