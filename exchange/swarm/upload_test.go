package swarm

import (
	"cmp"
	"slices"

	"pgregory.net/rapid"
)

// slots is the slow, obvious opinion on whom this node serves: it keeps books of its own from the events and actions.
type slots struct {
	active, queue []waiting
	facts         map[uint64]facts // before the step
	accept        bool             // the request that is made can be served at all
	starts        int
	bounces       int
}

// waiting is a request of a peer.
type waiting struct {
	xfer  uint64
	to    PeerID
	b     *blob
	piece PieceIndex
	far   bool
	gone  bool // its requester is: it is to be refused
	told  bool // it waited for the first other holder, who has the piece now: it is to be refused
}

// facts are what the turn of a request rests on.
type facts struct {
	holders int // neighbours of the requester's side that have the piece
}

// before notes what a step starts from: uploads are let go before anything else happens in it.
func (o *slots) before(c *Core, ev Event) {
	o.facts, o.accept = map[uint64]facts{}, false
	for _, q := range o.queue {
		o.facts[q.xfer] = factsOf(q)
	}
	e, ok := ev.(PieceRequested)
	if b, m := c.blobs[e.Digest], c.member(e.From); ok && b != nil && m != nil {
		o.accept = b.opened && b.shown().Has(e.Piece) && m.isolatedTil <= c.now
		q := waiting{xfer: e.Xfer, to: e.From, b: b, piece: e.Piece, far: m.Zone != c.cfg.Zone}
		o.queue = append(o.queue, q)
		o.facts[q.xfer] = factsOf(q)
	}
}

func factsOf(q waiting) (f facts) {
	for _, n := range q.b.neighbours {
		if n.near != q.far && n.have.Has(q.piece) {
			f.holders++
		}
	}
	return f
}

// after judges what a step served and refused.
func (o *slots) after(t rapid.TB, c *Core, ev Event, acts []Action) {
	t.Helper()
	switch e := ev.(type) {
	case PieceRequested:
		if !o.accept {
			o.drop(func(q waiting) bool { return q.xfer == e.Xfer })
			acts = o.refusal(t, e, acts)
		}
	case PieceServed:
		if e.OK {
			o.point(e.Xfer)
		}
		o.drop(func(q waiting) bool { return q.xfer == e.Xfer })
		o.active = slices.DeleteFunc(o.active, func(q waiting) bool { return q.xfer == e.Xfer })
	case MemberLost:
		if e.ID != c.cfg.Self {
			o.leave(e.ID)
		}
	}
	if _, ok := ev.(Received); ok { // a Have counts before uploads are let go
		for _, q := range o.queue {
			o.facts[q.xfer] = factsOf(q)
		}
	}
	for _, a := range acts {
		switch a := a.(type) {
		case ServePiece:
			o.serve(t, c, a.Xfer)
		case RefusePiece:
			o.bounce(t, c, a)
		case Quarantine:
			if a.Refuse {
				o.leave(a.Peer)
			}
		}
	}
	if slices.ContainsFunc(o.queue, func(q waiting) bool { return q.gone || q.told }) {
		t.Fatal("a request of a peer that is gone, or of a piece that another has now, is left without an answer")
	}
	o.compare(t, c)
	switch ev.(type) {
	case PieceRequested:
		if o.accept {
			o.idle(t, c)
		}
	case PieceServed, Tick:
		o.idle(t, c)
	}
}

// point marks the requests that waited for the first other holder of a piece.
func (o *slots) point(xfer uint64) {
	i := slices.IndexFunc(o.active, func(a waiting) bool { return a.xfer == xfer })
	if i < 0 || o.active[i].far {
		return
	}
	for k := range o.queue {
		q := &o.queue[k]
		q.told = q.told || !q.far && q.b == o.active[i].b && q.piece == o.active[i].piece && o.facts[q.xfer].holders == 0
	}
}

// leave marks the requests of a peer that was lost or isolated.
func (o *slots) leave(id PeerID) {
	for i := range o.queue {
		o.queue[i].gone = o.queue[i].gone || o.queue[i].to == id
	}
}

func (o *slots) drop(which func(waiting) bool) { o.queue = slices.DeleteFunc(o.queue, which) }

// refusal checks that what cannot be served is refused for good.
func (o *slots) refusal(t rapid.TB, e PieceRequested, acts []Action) []Action {
	t.Helper()
	for i, a := range acts {
		if r, ok := a.(RefusePiece); ok && r.Xfer == e.Xfer && r.Wait == 0 {
			return slices.Concat(acts[:i], acts[i+1:])
		}
	}
	t.Fatalf("upload %d of a piece that is not here, or of a peer that is not to be served, is not refused", e.Xfer)
	return nil
}

// may reports whether a slot is free for a request, and its piece is not on its way to its first other holder nearby.
func (o *slots) may(c *Core, q waiting) bool {
	under, same := 0, false
	for _, a := range o.active {
		if a.far == q.far {
			under++
			same = same || a.b == q.b && a.piece == q.piece
		}
	}
	if q.far {
		return under < c.cfg.FarSlots
	}
	return under < c.cfg.UploadSlots && (!same || o.facts[q.xfer].holders > 0)
}

// turn ranks requests: a piece that nobody else nearby has or is getting; then imports, the rarest there first; then the
// rest.
func (o *slots) turn(q waiting) (class, rest int) {
	f := o.facts[q.xfer]
	copies := f.holders
	for _, a := range o.active {
		if a.far == q.far && a.b == q.b && a.piece == q.piece {
			copies++
		}
	}
	switch {
	case q.far:
		return 1, copies
	case copies == 0:
		return 0, 0
	}
	return 2, 0
}

// compareTurns orders two requests by turn.
func (o *slots) compareTurns(a, b waiting) int {
	ca, ra := o.turn(a)
	cb, rb := o.turn(b)
	return cmp.Or(cmp.Compare(ca, cb), cmp.Compare(ra, rb))
}

func (o *slots) serve(t rapid.TB, c *Core, xfer uint64) {
	t.Helper()
	o.starts++
	i := slices.IndexFunc(o.queue, func(q waiting) bool { return q.xfer == xfer })
	if i < 0 || !o.may(c, o.queue[i]) {
		t.Fatalf("upload %d is let go, place %d of %d", xfer, i, len(o.queue))
	}
	for k, q := range o.queue {
		if o.may(c, q) && (o.compareTurns(q, o.queue[i]) < 0 || k < i && o.compareTurns(q, o.queue[i]) == 0) {
			t.Fatalf("upload %d is let go before upload %d", xfer, q.xfer)
		}
	}
	q := o.queue[i]
	o.queue = slices.Delete(o.queue, i, i+1)
	o.active = append(o.active, q)
	if !q.b.shown().Has(q.piece) {
		t.Fatalf("upload %d of piece %d, which is not here", xfer, q.piece)
	}
}

// bounce checks who is refused when too many wait: the last in turn, the latest of those.
func (o *slots) bounce(t rapid.TB, c *Core, a RefusePiece) {
	t.Helper()
	o.bounces++
	i := slices.IndexFunc(o.queue, func(q waiting) bool { return q.xfer == a.Xfer })
	if i >= 0 && a.Wait == 0 && (o.queue[i].gone || !(o.queue[i].b.opened && o.queue[i].b.shown().Has(o.queue[i].piece))) {
		o.queue = slices.Delete(o.queue, i, i+1) // what it waits for is gone
		return
	}
	if i < 0 || a.Wait <= 0 {
		t.Fatalf("upload %d is refused for %v, place %d of %d", a.Xfer, a.Wait, i, len(o.queue))
	}
	if o.queue[i].told {
		o.queue = slices.Delete(o.queue, i, i+1)
		return
	}
	far, wait := o.queue[i].far, 0
	for k, q := range o.queue {
		if q.far != far {
			continue
		}
		wait++
		if d := o.compareTurns(q, o.queue[i]); d > 0 || d == 0 && k > i {
			t.Fatalf("upload %d is refused and not upload %d", a.Xfer, q.xfer)
		}
	}
	if limit := map[bool]int{false: c.cfg.UploadQueue, true: c.cfg.ImportQueue}[far]; wait <= limit {
		t.Fatalf("upload %d is refused with %d of %d waiting", a.Xfer, wait, limit)
	}
	o.queue = slices.Delete(o.queue, i, i+1)
}

// compare checks the core's books against these.
func (o *slots) compare(t rapid.TB, c *Core) {
	t.Helper()
	xfers := func(list []waiting) (x []uint64) {
		for _, q := range list {
			x = append(x, q.xfer)
		}
		return x
	}
	core := func(list []upload) (x []uint64) {
		for _, q := range list {
			x = append(x, q.xfer)
		}
		return x
	}
	if a, q := core(c.uploads.active), core(c.uploads.queue); !slices.Equal(a, xfers(o.active)) || !slices.Equal(q, xfers(o.queue)) {
		t.Fatalf("uploads %v under way and %v waiting, want %v and %v", a, q, xfers(o.active), xfers(o.queue))
	}
}

// idle checks that who waits and may go does so only for the uplink to be free, and that the core will look again then.
func (o *slots) idle(t rapid.TB, c *Core) {
	t.Helper()
	for _, q := range o.queue {
		if !o.may(c, q) {
			continue
		}
		at, ok := c.Deadline()
		if u := &c.uploads; len(o.active) < busyAtLeast || u.wake <= c.now || !ok || at > u.wake {
			t.Fatalf("upload %d waits with %d under way, is looked at in %v", q.xfer, len(o.active), u.wake.Sub(c.now))
		}
	}
}
