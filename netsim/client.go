package netsim

import (
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// readerID names the local client's reader; a blob has one.
const readerID = 1

// origin names where the layers are from, for the cores.
var originRef = swarm.OriginRef{Registry: "registry.example", Repository: "team/app"}

// wantImage begins the local client's pull.
func (h *host) wantImage() {
	if h.started != never {
		return
	}
	h.started = h.now
	for i := range h.pulls {
		h.waiting = append(h.waiting, int32(i))
	}
	for range h.w.t.s.Pull.Parallel {
		h.wantNext()
	}
}

// wantNext asks for the next layer, if there is one left.
func (h *host) wantNext() {
	for len(h.waiting) > 0 {
		b := h.waiting[0]
		h.waiting = h.waiting[1:]
		p := &h.pulls[b]
		p.wanted = true
		if p.full() && p.done != never || p.opened && p.full() {
			p.first, p.done = h.now, h.now
			h.layerEnded(b)
			continue
		}
		size := h.w.layers.list[b].layout.Size
		if h.w.t.s.Pull.Unsized {
			size = -1
		}
		d := h.w.layers.list[b].digest
		h.step(swarm.Wanted{Digest: d, Size: size, Origin: originRef, Class: swarm.Foreground})
		h.step(swarm.Reading{Digest: d, Reader: readerID, Off: 0, End: -1})
		return
	}
}

// open makes room for a blob.
func (h *host) open(b int32) {
	p := &h.pulls[b]
	if p.opened || p.opening {
		return
	}
	p.opening = true
	h.local(h.w.t.s.Delays.Open.std(), event{kind: evOpened, blob: b})
}

func (h *host) opened(b int32) {
	p := &h.pulls[b]
	p.opened, p.opening = true, false
	l := &h.w.layers.list[b]
	h.step(swarm.Held{Digest: l.digest, Size: l.layout.Size, Have: p.have.Clone()})
	early := p.early
	p.early = nil
	for i := range early {
		h.origin(&early[i])
	}
	h.read(b)
}

func (h *host) keep(b int32, i swarm.PieceIndex, by int32, bad bool) {
	p := &h.pulls[b]
	if !p.have.Has(i) {
		h.counts.pieces++
	}
	p.keep(i, by, bad)
}

// read lets the local client read on. The last piece is held back until the whole is verified.
func (h *host) read(b int32) {
	p := &h.pulls[b]
	before := p.prefix
	last := p.have.Len() - 1
	for p.prefix < last && p.have.Has(swarm.PieceIndex(p.prefix)) {
		if p.wrongs > 0 && p.wanted && p.wrong.Has(swarm.PieceIndex(p.prefix)) {
			h.counts.tainted += h.size(b, uint32(p.prefix))
		}
		p.prefix++
	}
	if p.prefix == before || !p.wanted || p.ended {
		return
	}
	if p.first == never {
		p.first = h.now
	}
	l := &h.w.layers.list[b]
	off, _ := l.layout.Span(swarm.PieceIndex(p.prefix))
	h.step(swarm.Reading{Digest: l.digest, Reader: readerID, Off: off, End: -1})
}

// verified checks the whole. A forger is content with its own lies.
func (h *host) verified(b int32) {
	p := &h.pulls[b]
	d := h.w.layers.list[b].digest
	if p.wrongs > 0 && h.w.t.nodes[h.id].lie != lieForge {
		h.step(swarm.VerifyFailed{Digest: d})
		return
	}
	p.done = h.now
	if p.first == never {
		p.first = h.now
	}
	if h.w.t.nodes[h.id].lie == honest {
		h.counts.wrong += int64(p.wrongs) * h.w.layers.list[b].layout.PieceSize
	}
	h.step(swarm.Verified{Digest: d})
	if p.wanted {
		h.step(swarm.ReadClosed{Digest: d, Reader: readerID})
		h.layerEnded(b)
	}
}

// discard drops a blob whose proof failed.
func (h *host) discard(b int32) {
	p := &h.pulls[b]
	h.counts.pieces -= int64(p.count)
	p.disk, p.prefix = newDisk(p.have.Len()), 0
}

func (h *host) gaveUp(b int32, why swarm.GiveUpReason) {
	p := &h.pulls[b]
	p.opened, p.reason = false, why
	if p.wanted && !p.ended {
		h.failed = true
		h.layerEnded(b)
	}
}

// layerEnded notes the end of a layer, and of the pull with the last.
func (h *host) layerEnded(b int32) {
	p := &h.pulls[b]
	if p.ended {
		return
	}
	p.ended = true
	if len(h.waiting) > 0 {
		h.wantNext()
		return
	}
	for i := range h.pulls {
		if !h.pulls[i].ended {
			return
		}
	}
	h.ended = h.now
	h.share(shareDone, b)
}

// took returns how long the pull of a host took, and its first byte; ok is false if it did not end well.
func (h *host) took() (whole, first time.Duration, ok bool) {
	if h.started == never || h.ended == 0 || h.failed {
		return 0, 0, false
	}
	at := never
	for i := range h.pulls {
		at = min(at, h.pulls[i].first)
	}
	return h.ended.Sub(h.started), at.Sub(h.started), true
}
