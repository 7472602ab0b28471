package netsim

import (
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// InvariantError says that a core, or the driver that obeys it, broke a rule that has to hold at every step of every
// node. It ends the run.
type InvariantError struct {
	Host string
	At   time.Duration // virtual time
	What string
}

func (e *InvariantError) Error() string {
	return fmt.Sprintf("%s broke a rule at %v: %s", e.Host, e.At, e.What)
}

// checker watches what one host's core is told and decides. It keeps books of its own, and of the driver's only what is
// on the disk and under way. The rules are:
//
//   - A reader gets no further than what is stored, and gets the last piece when the whole is verified. A piece is
//     told to the core, and served, only if it is stored.
//   - A piece is requested of one peer at a time; of a second, another one, if the first request is at least
//     swarm.Config.HedgeFloor old; never of a third. No piece is requested that is stored.
//   - Of a blob no more pieces are requested at a time than maxRequests, of a peer no more than PerProvider.
//   - Requests of one host to the origin for a blob do not overlap.
//   - Actions name peers that the driver or a message has named, and blobs that there are.
//   - A pull ends well, with everything stored and nothing wrong, unless there was no source: see world.ended.
type checker struct {
	met       map[int32]bool // peers that messages or discovery named, beyond those that the driver knows
	fetches   []fetching
	delivered []int // pieces that the local reader got past, by blob
	broken    *InvariantError
}

// fetching is what a request to the origin is yet to bring.
type fetching struct {
	id         uint64
	blob       int32
	first, end int64
}

// maxRequests returns the most requests for pieces of one blob under way: its share, which is at most Outstanding and at
// least two, the imports beside them, and a second one for each to hedge.
func maxRequests(cfg *swarm.Config) int { return 2 * (max(cfg.Outstanding, 2) + cfg.Imports) }

// breach notes the first broken rule of a host. The run ends with the window.
func (h *host) breach(format string, args ...any) {
	if h.check.broken == nil {
		h.check.broken = &InvariantError{Host: h.w.t.nodes[h.id].name, At: time.Duration(h.now), What: fmt.Sprintf(format, args...)}
		h.w.breached.Store(true)
	}
}

// violation returns the first broken rule of a run so far: by time, then by node.
func (w *world) violation() error {
	if !w.breached.Load() {
		return nil
	}
	var first *InvariantError
	for _, h := range w.hosts {
		if e := h.check.broken; e != nil && (first == nil || e.At < first.At) {
			first = e
		}
	}
	return first
}

// told checks what the driver is about to tell the core.
func (h *host) told(ev swarm.Event) {
	if h.log != nil {
		h.recordEvent(ev)
	}
	switch e := ev.(type) {
	case swarm.Received:
		h.named(e.Msg)
	case swarm.ProvidersFound:
		h.meetAll(e.Peers)
	case swarm.MemberLost:
		delete(h.check.met, h.w.t.indexOf(e.ID))
	case swarm.Reading:
		h.checkReading(e)
	case swarm.PieceArrived:
		h.checkStored(e.Digest, e.Piece)
	case swarm.OriginPiece:
		h.checkStored(e.Digest, e.Piece)
		h.fetched(e.Fetch, int64(e.Piece)+1)
	case swarm.OriginSized:
		h.sized(e)
	case swarm.OriginDone:
		h.fetchEnded(e.Fetch)
	case swarm.OriginFailed:
		h.fetchEnded(e.Fetch)
	case swarm.Verified:
		if p := &h.pulls[h.blob(e.Digest)]; !p.full() {
			h.breach("%s counts as verified with %d of %d pieces", short(e.Digest), p.count, p.have.Len())
		}
	}
}

// named notes the peers that a message names.
func (h *host) named(m swarm.Message) {
	switch m := m.(type) {
	case swarm.Members:
		h.meetAll(m.Peers)
	case swarm.Verdict:
		for _, d := range m.Denied {
			h.meetOne(d.Holder)
		}
	}
}

func (h *host) meetAll(peers []swarm.MemberRef) {
	for i := range peers {
		h.meetOne(peers[i].ID)
	}
}

func (h *host) meetOne(id swarm.PeerID) {
	i := h.w.t.indexOf(id)
	if i < 0 || h.knows(i) {
		return
	}
	if h.check.met == nil {
		h.check.met = map[int32]bool{}
	}
	h.check.met[i] = true
}

// checkReading checks how far a local reader got.
func (h *host) checkReading(e swarm.Reading) {
	b := h.blob(e.Digest)
	if h.check.delivered == nil {
		h.check.delivered = make([]int, len(h.pulls))
	}
	p, l, n := &h.pulls[b], &h.w.layers.list[b].layout, &h.check.delivered[b]
	for ; int64(*n)*l.PieceSize < e.Off; *n++ {
		switch {
		case !p.have.Has(swarm.PieceIndex(*n)):
			h.breach("the reader of %s got past piece %d, which is not stored", short(e.Digest), *n)
			return
		case *n == p.have.Len()-1 && p.done == never:
			h.breach("the reader of %s got the last piece before the whole was verified", short(e.Digest))
			return
		}
	}
}

func (h *host) checkStored(d digest.Digest, i swarm.PieceIndex) {
	if !h.pulls[h.blob(d)].have.Has(i) {
		h.breach("piece %d of %s is told and not stored", i, short(d))
	}
}

// decided checks an action before it is carried out, and reports whether it may be.
func (h *host) decided(a swarm.Action) bool {
	if h.log != nil {
		h.recordAction(a)
	}
	switch a := a.(type) {
	case swarm.Send:
		h.checkPeer(a.To)
	case swarm.RequestPiece:
		if h.checkPeer(a.To) && h.checkBlob(a.Digest) {
			h.checkRequest(a)
		}
	case swarm.CancelPiece:
		h.checkBlob(a.Digest)
	case swarm.ServePiece:
		h.checkServe(a.Xfer)
	case swarm.RefusePiece:
		if h.upload(a.Xfer) < 0 {
			h.breach("refuses upload %x, which nobody asked for", a.Xfer)
		}
	case swarm.FetchOrigin:
		if h.checkBlob(a.Digest) {
			h.checkFetch(a)
		}
	case swarm.StopOrigin:
		h.fetchEnded(a.Fetch)
	case swarm.FindProviders:
		h.checkBlob(a.Digest)
	case swarm.Announce:
		h.checkBlob(a.Digest)
	case swarm.OpenBlob:
		h.checkBlob(a.Digest)
	case swarm.Verify:
		if h.checkBlob(a.Digest) && !h.pulls[h.blob(a.Digest)].full() {
			h.breach("wants %s verified, which is not complete", short(a.Digest))
		}
	case swarm.Discard:
		if h.checkBlob(a.Digest) && h.check.delivered != nil {
			h.check.delivered[h.blob(a.Digest)] = 0
		}
	case swarm.Distrust:
		h.checkBlob(a.Digest)
	case swarm.GiveUp:
		h.checkBlob(a.Digest)
	}
	return h.check.broken == nil
}

// checkPeer checks that a peer is one that the core was told of.
func (h *host) checkPeer(id swarm.PeerID) bool {
	i := h.w.t.indexOf(id)
	switch {
	case i < 0:
		h.breach("names a peer that there is not: %x", id)
	case i == h.id:
		h.breach("names itself as a peer")
	case !h.knows(i) && !h.check.met[i]:
		h.breach("names %s, of which it was not told", h.w.t.nodes[i].name)
	default:
		return true
	}
	return false
}

func (h *host) checkBlob(d digest.Digest) bool {
	if h.blob(d) < 0 {
		h.breach("names a blob that there is not: %s", d)
		return false
	}
	return true
}

func (h *host) checkRequest(a swarm.RequestPiece) {
	b, to := h.blob(a.Digest), h.w.t.indexOf(a.To)
	p := &h.pulls[b]
	if int(a.Piece) >= p.have.Len() || p.have.Has(a.Piece) {
		h.breach("requests piece %d of %s, which is stored or beyond the end", a.Piece, short(a.Digest))
		return
	}
	same, ofBlob, ofPeer := 0, 0, 0
	for i := range h.asked {
		r := &h.asked[i]
		if r.to == to {
			ofPeer++
		}
		if r.blob != b {
			continue
		}
		ofBlob++
		if r.piece != a.Piece {
			continue
		}
		same++
		switch age := h.now.Sub(r.at); {
		case r.to == to:
			h.breach("requests piece %d of %s twice of %s", a.Piece, short(a.Digest), h.w.t.nodes[to].name)
		case age < h.w.cfg.HedgeFloor:
			h.breach("requests piece %d of %s a second time after %v", a.Piece, short(a.Digest), age)
		}
	}
	switch {
	case same >= 2:
		h.breach("requests piece %d of %s a third time", a.Piece, short(a.Digest))
	case ofBlob >= maxRequests(&h.w.cfg):
		h.breach("has %d requests for %s under way and makes another", ofBlob, short(a.Digest))
	case ofPeer >= h.w.cfg.PerProvider:
		h.breach("has %d requests at %s under way and makes another", ofPeer, h.w.t.nodes[to].name)
	}
}

func (h *host) checkServe(xfer uint64) {
	i := h.upload(xfer)
	if i < 0 {
		h.breach("serves upload %x, which nobody asked for", xfer)
		return
	}
	u := &h.uploads[i]
	if !h.pulls[u.blob].have.Has(u.piece) {
		h.breach("serves piece %d of %s, which is not stored", u.piece, short(h.w.layers.list[u.blob].digest))
	}
	if u.active {
		h.breach("serves upload %x twice", xfer)
	}
}

func (h *host) checkFetch(a swarm.FetchOrigin) {
	f := fetching{id: a.Fetch, blob: h.blob(a.Digest)}
	l := h.w.layers.list[f.blob].layout
	_, size := h.span(l, a, false)
	f.first = int64(a.First)
	f.end = f.first + (size+l.PieceSize-1)/l.PieceSize
	if n := l.Pieces(); n > 0 && int(a.First) >= n {
		h.breach("fetches from piece %d of %s on, which is beyond the end", a.First, short(a.Digest))
		return
	}
	for _, o := range h.check.fetches {
		if o.blob == f.blob && o.first < f.end && f.first < o.end {
			h.breach("fetches pieces %d to %d of %s from the origin while %d to %d are on their way", f.first, f.end-1, short(a.Digest), o.first, o.end-1)
			return
		}
	}
	h.check.fetches = append(h.check.fetches, f)
}

// fetched notes that a fetch has brought all pieces before first.
func (h *host) fetched(id uint64, first int64) {
	if f := h.fetching(id); f != nil {
		f.first = first
	}
}

// sized notes that a fetch brings the whole blob if the origin said so.
func (h *host) sized(e swarm.OriginSized) {
	if f := h.fetching(e.Fetch); f != nil && !e.Ranges {
		f.first, f.end = 0, int64(h.pulls[f.blob].have.Len())
	}
}

func (h *host) fetching(id uint64) *fetching {
	i := slices.IndexFunc(h.check.fetches, func(f fetching) bool { return f.id == id })
	if i < 0 {
		return nil
	}
	return &h.check.fetches[i]
}

func (h *host) fetchEnded(id uint64) {
	h.check.fetches = slices.DeleteFunc(h.check.fetches, func(f fetching) bool { return f.id == id })
}

// ended checks how a pull ended. Between windows.
func (w *world) ended(node int32) {
	h := w.hosts[node]
	if w.t.nodes[node].lie != honest {
		return
	}
	for b := range h.pulls {
		p, d := &h.pulls[b], short(w.layers.list[b].digest)
		switch {
		case p.reason == 0 && (!p.full() || p.done == never):
			h.breach("the pull of %s ended well with %d of %d pieces", d, p.count, p.have.Len())
		case p.reason == 0 && p.wrongs > 0:
			h.breach("the pull of %s ended well with %d wrong pieces", d, p.wrongs)
		case p.reason != 0:
			if source := w.sourceOf(h, int32(b)); source != "" {
				h.breach("gave up %s although %s had it all the time", d, source)
			}
		}
	}
}

// sourceOf names a source of a blob that a host could have reached for as long as it may take to give up: a complete
// copy in its zone, or the origin; "" if there was none.
func (w *world) sourceOf(h *host, b int32) string {
	since := h.now.Add(-w.cfg.Stalled)
	zone := w.t.nodes[h.id].zone
	home := w.t.home
	away := w.t.s.Origin.Down || w.down > since
	if home != zone {
		away = away || w.cut[zone] > since || home >= 0 && w.cut[home] > since
	}
	if !away && w.flows(b, w.net.path(nil, atOrigin, h.id)) {
		return "the origin"
	}
	for _, i := range w.t.zones[zone] {
		o := w.hosts[i]
		p := &o.pulls[b]
		whole := !o.dead && !o.halted && w.t.nodes[i].lie == honest && p.full() && p.wrongs == 0 && p.done <= since
		if o != h && whole && w.flows(b, w.net.path(nil, i, h.id)) {
			return w.t.nodes[i].name
		}
	}
	return ""
}

// flows reports whether links bring a piece of a blob in the time in which a session gives up.
func (w *world) flows(b int32, links []int32) bool {
	need := float64(w.layers.list[b].layout.PieceSize) / w.cfg.Stalled.Seconds()
	for _, l := range links {
		if w.net.caps[l]*w.net.scale[l] < need {
			return false
		}
	}
	return true
}

// short is how a digest is shown.
func short(d digest.Digest) string { return d.Encoded()[:12] }
