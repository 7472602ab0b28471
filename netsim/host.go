package netsim

import (
	"math/rand/v2"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// policy is what a host obeys: a core, or something cheaper where the cost of the rest is to be seen.
type policy interface {
	Step(now swarm.Time, ev swarm.Event, out []swarm.Action) []swarm.Action
	Deadline() (swarm.Time, bool)
}

// newCore returns the policy that ships.
func newCore(cfg swarm.Config, seed uint64) policy { return swarm.New(cfg, seed) }

// host drives one core as the exchange does on a real network: it carries out what the core asks and hands it what
// comes of it. It decides nothing.
type host struct {
	w    *world
	id   int32
	core policy
	out  *outbox // of the window
	now  swarm.Time
	acts []swarm.Action
	rng  *rand.Rand

	pulls    []pull
	asked    []request
	gen      uint64
	uploads  []upload
	peers    peers   // what it has of connections to others
	known    nodeSet // those it knows
	distrust map[distrusted]bool
	fetches  map[uint64]*fetch
	registry registry
	inOrder  map[int32]swarm.Time // when the last message to a peer arrives; with loss only
	stalest  swarm.Time           // no request runs out before this
	waiting  []int32              // layers yet to be asked for

	dead    bool
	halted  bool
	frozen  []event
	started swarm.Time // its client came; never: not yet
	ended   swarm.Time // its pull ended
	failed  bool

	counts counts
	check  checker
	log    *journal // nil: not recorded
}

// counts are a host's own tallies.
type counts struct {
	in       [sources]int64
	dup      int64 // bytes of pieces that were here already
	corrupt  int64 // bytes that did not match
	msgs     int64
	msgBytes int64
	fetches  int64
	requests int64
	busy     int64
	pieces   int64
	shunned  int64
	wrong    int64 // wrong bytes in what the client was told is whole
	tainted  int64 // wrong bytes that it had before the check of the whole
}

// pull is a blob at a host.
type pull struct {
	disk
	opened  bool
	opening bool
	wanted  bool // by the local client
	ended   bool
	done    swarm.Time
	first   swarm.Time // when the client had its first byte; never: not yet
	prefix  int        // pieces from the start without a gap
	early   []event    // pieces from the origin that came before the store was open
	reason  swarm.GiveUpReason
}

type distrusted struct{ blob, by int32 }

func newHost(w *world, id int32) *host {
	h := &host{w: w, id: id, known: w.t.acquainted(id), started: never, stalest: never}
	n := &w.t.nodes[id]
	cfg := w.cfg
	cfg.Self, cfg.Zone, cfg.Seed = n.id, w.t.s.Zones[n.zone].Name, n.seed
	seed := mix(w.t.salt ^ uint64(id))
	h.core = w.core(cfg, seed)
	h.rng = rand.New(rand.NewPCG(seed, 1))
	h.pulls = make([]pull, len(w.layers.list))
	for i := range h.pulls {
		h.pulls[i] = pull{disk: newDisk(w.layers.list[i].layout.Pieces()), first: never, done: never}
	}
	return h
}

// alarm returns the core's deadline or the first time-out of a request.
func (h *host) alarm() (swarm.Time, bool) {
	if h.dead || h.halted {
		return 0, false
	}
	at, ok := h.core.Deadline()
	if !ok {
		at = never
	}
	at = min(at, h.stalest)
	return max(at, h.now), at != never
}

func (h *host) tick(now swarm.Time, out *outbox) {
	h.now, h.out = now, out
	if now >= h.stalest {
		h.expire()
	}
	if at, ok := h.core.Deadline(); ok && at <= now {
		h.step(swarm.Tick{})
	}
}

// step hands the core an event and carries out what it wants.
func (h *host) step(ev swarm.Event) {
	first := len(h.acts)
	h.told(ev)
	h.acts = h.core.Step(h.now, ev, h.acts)
	for i := first; i < len(h.acts) && h.decided(h.acts[i]); i++ {
		h.act(h.acts[i])
	}
	clear(h.acts[first:])
	h.acts = h.acts[:first]
}

func (h *host) handle(ev *event, out *outbox) {
	h.now, h.out = max(h.now, ev.at), out
	switch {
	case h.dead:
		h.refuseDead(ev)
	case h.halted:
		h.frozen = append(h.frozen, *ev)
	default:
		h.take(ev)
	}
}

// refuseDead answers for a host that is gone: its kernel or its gateway resets what is opened to it.
func (h *host) refuseDead(ev *event) {
	if ev.kind == evAsk {
		h.ship(ev.from, 0, event{kind: evReset, xfer: ev.xfer})
	}
}

func (h *host) take(ev *event) {
	switch ev.kind {
	case evStart:
		h.start()
	case evWant:
		h.wantImage()
	case evMessage:
		h.meet(ev.from)
		h.step(swarm.Received{From: h.peer(ev.from), Msg: ev.msg.(swarm.Message)})
	case evAsk:
		h.asks(ev)
	case evCancel:
		h.withdrawn(ev.xfer)
	case evStarted:
		if i := h.find(ev.xfer); i >= 0 {
			r := h.asked[i]
			h.step(swarm.PieceStarted{Digest: h.w.layers.list[r.blob].digest, Piece: r.piece, From: h.peer(r.to)})
		}
	case evServed:
		h.served(ev)
	case evPiece:
		h.piece(ev)
	case evRefused:
		h.refused(ev)
	case evReset:
		h.reset(ev)
	case evOriginHead, evOriginPiece, evOriginEnd, evOriginFail:
		h.origin(ev)
	case evOpened:
		h.opened(ev.blob)
	case evVerified:
		h.verified(ev.blob)
	case evProviders:
		h.providers(ev)
	case evMember:
		h.know(ev.from)
	case evLost:
		h.lose(ev.from)
	}
}

func (h *host) peer(i int32) swarm.PeerID { return h.w.t.nodes[i].id }

func (h *host) emit(ev event) { h.out.events = append(h.out.events, ev) }

// local has an event come back to this host after a while.
func (h *host) local(after time.Duration, ev event) {
	ev.at, ev.node = h.now.Add(max(after, time.Duration(h.w.width))), h.id
	h.emit(ev)
}

// act carries out one action.
func (h *host) act(a swarm.Action) {
	switch a := a.(type) {
	case swarm.Send:
		h.send(a.To, a.Msg)
	case swarm.FindProviders:
		h.share(shareFind, h.blob(a.Digest))
	case swarm.Announce:
		h.announce(a)
	case swarm.OpenBlob:
		h.open(h.blob(a.Digest))
	case swarm.RequestPiece:
		h.request(a)
	case swarm.CancelPiece:
		h.cancel(h.w.t.indexOf(a.To), h.blob(a.Digest), a.Piece)
	case swarm.ServePiece:
		h.serve(a.Xfer)
	case swarm.RefusePiece:
		h.refuse(a)
	case swarm.FetchOrigin:
		h.fetch(a)
	case swarm.StopOrigin:
		h.stopFetch(a.Fetch)
	case swarm.Verify:
		h.local(h.w.t.s.Delays.Verify.std(), event{kind: evVerified, blob: h.blob(a.Digest)})
	case swarm.Discard:
		h.discard(h.blob(a.Digest))
	case swarm.Distrust:
		if a.Strangers {
			return // every host is a member
		}
		if h.distrust == nil {
			h.distrust = map[distrusted]bool{}
		}
		h.distrust[distrusted{h.blob(a.Digest), h.w.t.indexOf(a.Attester)}] = true
	case swarm.GiveUp:
		h.gaveUp(h.blob(a.Digest), a.Reason)
	case swarm.Quarantine:
		h.counts.shunned++
	}
}

func (h *host) share(do sharedOp, blob int32) {
	h.out.shared = append(h.out.shared, shared{at: h.now, node: h.id, blob: blob, do: do})
}

func (h *host) announce(a swarm.Announce) {
	do := shareImporting
	if a.State == swarm.Holding {
		do = shareHolding
		if a.Global {
			do = shareHoldingGlobal
		}
	}
	h.share(do, h.blob(a.Digest))
}
