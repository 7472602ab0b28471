package netsim

import (
	"slices"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// request is a piece asked of a peer.
type request struct {
	xfer  uint64
	to    int32
	blob  int32
	piece swarm.PieceIndex
	at    swarm.Time
	until swarm.Time
}

// upload is a piece that a peer asked for.
type upload struct {
	xfer   uint64
	to     int32
	blob   int32
	piece  swarm.PieceIndex
	active bool
}

// dialTrips is what a first request to a peer waits for: TCP and TLS.
const dialTrips = 2

// request asks a peer for a piece.
func (h *host) request(a swarm.RequestPiece) {
	to := h.w.t.indexOf(a.To)
	if to < 0 {
		return
	}
	h.gen++
	h.counts.requests++
	r := request{
		xfer: uint64(h.id)<<36 | h.gen, to: to, blob: h.blob(a.Digest), piece: a.Piece, at: h.now, until: h.now.Add(a.Timeout),
	}
	h.asked = append(h.asked, r)
	h.stalest = min(h.stalest, r.until)
	h.ship(to, h.dial(to), event{kind: evAsk, blob: r.blob, unit: uint32(a.Piece), xfer: r.xfer})
}

// dial returns how long a request waits for the connection to a peer's data port.
func (h *host) dial(to int32) time.Duration {
	p := h.peers.at(to)
	if p.up == 0 {
		p.up = h.now.Add(dialTrips * h.w.t.rtt(h.id, to))
	}
	return max(p.up.Sub(h.now), 0)
}

// find returns the request of a transfer, -1 if it is over.
func (h *host) find(xfer uint64) int {
	return slices.IndexFunc(h.asked, func(r request) bool { return r.xfer == xfer })
}

func (h *host) forget(i int) request {
	r := h.asked[i]
	h.asked = slices.Delete(h.asked, i, i+1)
	return r
}

// cancel withdraws the request for a piece at a peer.
func (h *host) cancel(to, blob int32, p swarm.PieceIndex) {
	i := slices.IndexFunc(h.asked, func(r request) bool { return r.to == to && r.blob == blob && r.piece == p })
	if i >= 0 {
		h.withdraw(h.forget(i))
	}
}

func (h *host) withdraw(r request) {
	h.ship(r.to, 0, event{kind: evCancel, xfer: r.xfer})
}

// expire ends requests that took too long.
func (h *host) expire() {
	h.stalest = never
	for i := 0; i < len(h.asked); {
		if h.asked[i].until > h.now {
			h.stalest = min(h.stalest, h.asked[i].until)
			i++
			continue
		}
		r := h.forget(i)
		h.withdraw(r)
		h.fail(r, swarm.FailedTimeout, 0, 0)
		i = 0
	}
}

func (h *host) fail(r request, why swarm.Failure, wait time.Duration, load uint8) {
	h.step(swarm.PieceFailed{
		Digest: h.w.layers.list[r.blob].digest, Piece: r.piece, From: h.peer(r.to), Why: why, Wait: wait, Load: load,
	})
}

// refused handles a provider's no.
func (h *host) refused(ev *event) {
	i := h.find(ev.xfer)
	if i < 0 {
		return
	}
	why := swarm.FailedBusy
	if ev.wait == 0 {
		why = swarm.FailedNotFound
	} else {
		h.counts.busy++
	}
	h.fail(h.forget(i), why, time.Duration(ev.wait), ev.load)
}

// reset handles a connection that broke under a request, or an upload whose requester is gone.
func (h *host) reset(ev *event) {
	if i := h.find(ev.xfer); i >= 0 {
		h.fail(h.forget(i), swarm.FailedReset, 0, 0)
		return
	}
	h.served(&event{xfer: ev.xfer})
}

// piece handles the bytes of a piece: they are checked and kept as a driver does.
func (h *host) piece(ev *event) {
	h.counts.in[h.w.source(ev.from, h.id)] += h.size(ev.blob, ev.unit)
	i := h.find(ev.xfer)
	if i < 0 {
		h.counts.dup += h.size(ev.blob, ev.unit) // cancelled too late
		return
	}
	r := h.forget(i)
	p := &h.pulls[r.blob]
	switch {
	case ev.flag&corrupt != 0:
		h.counts.corrupt += h.size(ev.blob, ev.unit)
		h.fail(r, swarm.FailedHash, 0, 0)
		return
	case h.distrust[distrusted{r.blob, ev.by}]:
		h.counts.corrupt += h.size(ev.blob, ev.unit)
		h.fail(r, swarm.FailedDistrusted, 0, 0)
		return
	case p.have.Has(r.piece):
		h.counts.dup += h.size(ev.blob, ev.unit)
	}
	bad := ev.flag&wrong != 0
	h.keep(r.blob, r.piece, ev.by, bad)
	h.step(swarm.PieceArrived{
		Digest: h.w.layers.list[r.blob].digest, Piece: r.piece, From: h.peer(r.to), Hash: hashOf(bad),
		Attester: h.w.attester(ev.by), Took: h.now.Sub(r.at),
	})
	h.read(r.blob)
}

func (h *host) size(blob int32, piece uint32) int64 {
	_, n := h.w.layers.list[blob].layout.Span(swarm.PieceIndex(piece))
	return n
}

// hashOf returns the hash of a piece's right or wrong bytes, which is all that anybody compares.
func hashOf(bad bool) swarm.Hash {
	if bad {
		return swarm.Hash{1}
	}
	return swarm.Hash{}
}

// asks hands the core a peer's request.
func (h *host) asks(ev *event) {
	if h.w.t.nodes[h.id].lie == lieStall {
		return
	}
	h.meet(ev.from)
	h.uploads = append(h.uploads, upload{xfer: ev.xfer, to: ev.from, blob: ev.blob, piece: swarm.PieceIndex(ev.unit)})
	h.step(swarm.PieceRequested{
		From: h.peer(ev.from), Digest: h.w.layers.list[ev.blob].digest, Piece: swarm.PieceIndex(ev.unit), Xfer: ev.xfer,
	})
}

func (h *host) upload(xfer uint64) int {
	return slices.IndexFunc(h.uploads, func(u upload) bool { return u.xfer == xfer })
}

// serve lets an upload go.
func (h *host) serve(xfer uint64) {
	i := h.upload(xfer)
	if i < 0 {
		return
	}
	u := &h.uploads[i]
	u.active = true
	p := &h.pulls[u.blob]
	n := h.size(u.blob, uint32(u.piece))
	f := flow{src: h.id, dst: u.to, part: n, size: n, blob: u.blob, unit: uint32(u.piece), by: p.by[u.piece]}
	switch {
	case h.w.t.nodes[h.id].lie == lieCorrupt:
		f.flag |= corrupt
	case p.wrongs > 0 && p.wrong.Has(u.piece):
		f.flag |= wrong
	}
	rtt := h.w.t.rtt(h.id, u.to)
	f.cap = h.w.t.flowCap(rtt)
	rate := min(h.w.t.nodes[h.id].up/float64(h.sending()), h.w.t.nodes[u.to].down)
	extra := h.peers.at(u.to).ramp(h.w.t, h.now, n, rtt, rate)
	h.out.net = append(h.out.net, command{at: h.now.Add(time.Duration(h.w.width) + extra), op: opStart, key: xfer, flow: f})
}

// sending counts the uploads under way.
func (h *host) sending() int {
	n := 0
	for i := range h.uploads {
		if h.uploads[i].active {
			n++
		}
	}
	return n
}

func (h *host) refuse(a swarm.RefusePiece) {
	i := h.upload(a.Xfer)
	if i < 0 {
		return
	}
	u := h.uploads[i]
	h.uploads = slices.Delete(h.uploads, i, i+1)
	h.ship(u.to, 0, event{kind: evRefused, xfer: a.Xfer, wait: int64(a.Wait), load: a.Load})
}

// withdrawn handles a requester that no longer wants its piece.
func (h *host) withdrawn(xfer uint64) {
	i := h.upload(xfer)
	if i < 0 {
		return
	}
	if h.uploads[i].active {
		h.out.net = append(h.out.net, command{at: h.now.Add(time.Duration(h.w.width)), op: opStop, key: xfer, flow: flow{src: h.id}})
	}
	h.served(&event{xfer: xfer})
}

// served ends an upload.
func (h *host) served(ev *event) {
	i := h.upload(ev.xfer)
	if i < 0 {
		return
	}
	h.uploads = slices.Delete(h.uploads, i, i+1)
	h.step(swarm.PieceServed{Xfer: ev.xfer, OK: ev.flag&okay != 0})
}
