package netsim

import (
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// fetch is a request to the origin under way.
type fetch struct {
	id   uint64 // the core's
	key  uint64 // the network's
	blob int32
	conn *conn
}

// registry is what a node has of connections to the registry: one for each request at a time, kept for later ones.
type registry struct {
	token swarm.Time // known from then on; 0: nobody asked for it yet
	idle  []*conn
}

// Round trips to the registry: TCP and TLS of a connection, the challenge and the token before the first request of
// all, and each request's own.
const (
	registryDialTrips  = 2
	registryTokenTrips = 1
)

// connect returns a connection to the registry and how long it is until the answer to a request on it begins.
func (h *host) connect() (*conn, time.Duration) {
	r, rtt := &h.registry, 2*h.w.t.origin
	var c *conn
	var ready swarm.Time
	if n := len(r.idle); n > 0 {
		c, r.idle = r.idle[n-1], r.idle[:n-1]
		ready = h.now
	} else {
		c, ready = &conn{}, h.now.Add(registryDialTrips*rtt)
	}
	if r.token == 0 {
		r.token = ready.Add(registryTokenTrips * rtt)
	}
	return c, max(ready, r.token).Add(rtt).Sub(h.now)
}

// fetch asks the origin for a run of pieces.
func (h *host) fetch(a swarm.FetchOrigin) {
	b := h.blob(a.Digest)
	l := h.w.layers.list[b].layout
	h.gen++
	h.counts.fetches++
	f := &fetch{id: a.Fetch, key: uint64(h.id)<<36 | h.gen, blob: b}
	if h.fetches == nil {
		h.fetches = map[uint64]*fetch{}
	}
	h.fetches[f.key] = f
	c, head := h.connect()
	f.conn = c
	if fail := h.w.originFails(h.id, h.now); fail != 0 {
		h.local(head, event{kind: evOriginFail, xfer: f.key, load: uint8(fail)})
		return
	}
	noRange := h.w.t.s.Origin.NoRange
	if noRange && a.First > 0 {
		h.local(head, event{kind: evOriginFail, xfer: f.key, load: uint8(swarm.OriginNoRange)})
		return
	}
	off, size := h.span(l, a, noRange)
	h.local(head, event{kind: evOriginHead, xfer: f.key})
	fl := flow{src: atOrigin, dst: h.id, part: l.PieceSize, size: size, blob: b, unit: uint32(off / max(l.PieceSize, 1))}
	fl.cap = h.w.t.flowCap(2 * h.w.t.origin)
	if per := float64(h.w.t.s.Origin.PerConnection); per > 0 {
		fl.cap = min(fl.cap, per)
	}
	if h.w.t.nodes[h.id].lie == lieForge {
		fl.flag |= wrong
	}
	rate := min(h.w.t.nodes[h.id].down/float64(len(h.fetches)), float64(h.w.t.s.Origin.Egress), fl.cap)
	begin := head - h.w.t.origin + c.ramp(h.w.t, h.now, size, 2*h.w.t.origin, rate)
	h.out.net = append(h.out.net, command{at: h.now.Add(max(begin, time.Duration(h.w.width))), op: opStart, key: f.key, flow: fl})
}

// span returns the first byte of a fetch and the number of bytes that it brings.
func (h *host) span(l swarm.Layout, a swarm.FetchOrigin, noRange bool) (off, size int64) {
	off, _ = l.Span(a.First)
	end := l.Size
	if a.Count > 0 && !noRange {
		end = min(end, off+int64(a.Count)*l.PieceSize)
	}
	if a.Bytes > 0 && !noRange {
		end = min(end, a.Bytes)
	}
	return off, end - off
}

// origin hands the core what became of a fetch.
func (h *host) origin(ev *event) {
	f := h.fetches[ev.xfer]
	if f == nil {
		return
	}
	p, l := &h.pulls[f.blob], &h.w.layers.list[f.blob]
	switch ev.kind {
	case evOriginHead:
		h.step(swarm.OriginSized{Digest: l.digest, Fetch: f.id, Size: l.layout.Size, Ranges: !h.w.t.s.Origin.NoRange})
		return
	case evOriginFail:
		delete(h.fetches, ev.xfer)
		h.step(swarm.OriginFailed{Digest: l.digest, Fetch: f.id, Kind: swarm.OriginErrorKind(ev.load)})
		return
	}
	if !p.opened {
		p.early = append(p.early, *ev)
		return
	}
	if ev.kind == evOriginEnd {
		delete(h.fetches, ev.xfer)
		h.registry.idle = append(h.registry.idle, f.conn)
		h.step(swarm.OriginDone{Digest: l.digest, Fetch: f.id})
		return
	}
	i := swarm.PieceIndex(ev.unit)
	n := h.size(f.blob, ev.unit)
	h.counts.in[fromOrigin] += n
	if p.have.Has(i) {
		h.counts.dup += n
	}
	bad := ev.flag&wrong != 0
	h.keep(f.blob, i, h.id, bad)
	h.step(swarm.OriginPiece{Digest: l.digest, Fetch: f.id, Piece: i, Hash: hashOf(bad)})
	h.read(f.blob)
}

// stopFetch ends a fetch of the core's.
func (h *host) stopFetch(id uint64) {
	for key, f := range h.fetches {
		if f.id == id {
			delete(h.fetches, key)
			h.out.net = append(h.out.net, command{at: h.now.Add(max(h.w.t.origin, time.Duration(h.w.width))), op: opStop, key: key, flow: flow{src: atOrigin}})
		}
	}
}
