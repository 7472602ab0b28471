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
}

// Round trips before the first request of a node to the registry (TCP, TLS, its challenge and the token), and those of
// later ones.
const (
	firstTrips = 4
	laterTrips = 1
)

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
	trips := time.Duration(laterTrips)
	if h.registry.used == 0 {
		trips = firstTrips
	}
	head := 2 * trips * h.w.t.origin
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
	rate := min(h.w.t.nodes[h.id].down, float64(h.w.t.s.Origin.Egress), fl.cap)
	begin := head - h.w.t.origin + h.registry.ramp(h.w.t, h.now, size, 2*h.w.t.origin, rate)
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
