package swarm

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// tick is how often a session with pieces missing looks for what changed by time alone.
const tick = 20 * time.Millisecond

// Core decides for one node, over all blobs. It is not safe for concurrent use: one goroutine owns it.
type Core struct {
	cfg Config
	rng *rand.Rand
	now Time
	out []Action

	me      *member
	members []*member // ordered by id; this node among them
	byID    index
	epoch   uint64       // counts changes of members and their roles
	past    []pastRecord // of peers that are no members now, the oldest first; at most maxRecords

	blobs map[digest.Digest]*blob // look-up only
	order []*blob                 // in the order in which they were first heard of
	live  []*blob                 // those among them that want work before the next sweep
	sweep Time                    // when the others are looked at

	seeds     []*member // those among the members, computed at epoch seedsAt-1
	seedsAt   uint64
	uploads   uploads
	delivered *member       // sent the piece that is being handled
	pieceTime time.Duration // EWMA of the time from request to last byte
	farTime   time.Duration // the same of pieces from other zones
	brisk     time.Duration // the same of pieces of the own zone, one of which counts as four times that at most
	lastFetch uint32
	sweptAt   Time // leases that have ended were dropped at
}

// New returns a core. All its randomness comes from seed: the same events at the same times give the same actions.
func New(cfg Config, seed uint64) *Core {
	c := &Core{cfg: cfg, rng: rand.New(rand.NewPCG(seed, hash64(string(cfg.Self)))), blobs: make(map[digest.Digest]*blob)}
	c.me = newMember(Member{ID: cfg.Self, Zone: cfg.Zone, Seed: cfg.Seed})
	c.members = []*member{c.me}
	c.byID.salt = c.rng.Uint64()
	c.byID.put(c.me)
	return c
}

// Step tells the core that ev happened at now and appends to out what is to be done. It never blocks and never
// fails: nonsense from peers is ignored. now must not go back; if it does, the latest time counts.
func (c *Core) Step(now Time, ev Event, out []Action) []Action {
	c.out = out
	c.wakeUp(now)
	c.step(ev)
	out, c.out = c.out, nil
	return out
}

// Deadline returns when Step is to be called with Tick if nothing else happens before; false if never.
func (c *Core) Deadline() (Time, bool) {
	first := c.sweep
	for _, b := range c.live {
		if first = min(first, b.wake); b.flushAt != 0 {
			first = min(first, b.flushAt)
		}
	}
	if c.uploads.wake != 0 {
		first = min(first, c.uploads.wake)
	}
	return first, len(c.order) > 0
}

// asleep is the time without any Step that a node with a session under way, which asks for one every tick, sees only
// if its process was stopped.
const asleep = 2 * time.Second

// wakeUp sets the time. What passed while the process was stopped counts against nobody's patience.
func (c *Core) wakeUp(now Time) {
	gap := now.Sub(c.now)
	c.now = max(c.now, now)
	if gap < asleep {
		return
	}
	for _, b := range c.live {
		if b.want && b.phase == fetching {
			b.shift(gap)
		}
	}
}

func (c *Core) step(ev Event) {
	switch e := ev.(type) {
	case Member:
		c.seeMember(e)
	case MemberLost:
		c.loseMember(e.ID)
	case Received:
		c.received(e)
	case Wanted:
		c.wanted(e)
	case Reading:
		c.reading(e)
	case ReadClosed:
		c.readClosed(e)
	case Unwanted:
		c.unwanted(e)
	case Held:
		c.stored(e)
	case OpenFailed:
		c.openFailed(e)
	case Unkept:
		c.cannotKeep(e)
	case Dropped:
		c.dropped(e)
	case ProvidersFound:
		c.providersFound(e)
	case PieceRequested:
		c.asked(e)
	case PieceServed:
		c.served(e)
	case PieceStarted:
		c.started(e)
	case PieceDrips:
		c.drips(e)
	case PieceArrived:
		c.arrived(e)
	case PieceFailed:
		c.failed(e)
	case OriginSized:
		c.originSized(e)
	case OriginPiece:
		c.originPiece(e)
	case OriginDone:
		c.originDone(e)
	case OriginFailed:
		c.originFailed(e)
	case Verified:
		c.verified(e)
	case VerifyFailed:
		c.verifyFailed(e)
	case Tick:
		c.tick()
	}
}

// received hands a message to its handler. Messages from strangers are dropped: the driver names members first.
func (c *Core) received(e Received) {
	m := c.member(e.From)
	if m == nil || m == c.me {
		return
	}
	switch msg := e.Msg.(type) {
	case Hello:
		c.helloed(c.blob(msg.Digest), e.From, msg)
	case Have:
		if b := c.blobs[msg.Digest]; b != nil {
			c.told(b, m, msg)
		}
	case Bye:
		if b := c.blobs[msg.Digest]; b != nil {
			c.left(b, e.From, msg.Full)
		}
	case Join:
		c.joined(c.blob(msg.Digest), e.From, msg)
	case Members:
		if b := c.blobs[msg.Digest]; b != nil {
			c.invited(b, e.From, msg.Peers)
			b.answered(e.From)
			c.introduce(b, msg.Peers, chosen)
			c.work(b)
		}
	case Want:
		c.asSeed(c.blob(msg.Digest), e.From, msg)
	case Refuse:
		if b := c.blobs[msg.Digest]; b != nil {
			c.refusedBy(b, e.From)
		}
	case Claim:
		c.claimed(c.blob(msg.Digest), e.From, msg)
	case Verdict:
		if b := c.blobs[msg.Digest]; b != nil {
			c.judged(b, e.From, msg)
			c.work(b)
		}
	}
}

// blob returns the state of a digest, making it if there is none.
func (c *Core) blob(d digest.Digest) *blob {
	b := c.blobs[d]
	if b == nil {
		c.makeRoom()
		b = newBlob(d, c.now)
		c.blobs[d] = b
		c.order = append(c.order, b)
		if len(c.order) == 1 {
			c.sweep = c.now.Add(c.cfg.Idle / 4)
		}
	}
	return b
}

// maxBlobs bounds the digests of which the core keeps state; those wanted here do not count.
const maxBlobs = 1 << 14

// makeRoom forgets the blob that was unasked for the longest if there are too many.
func (c *Core) makeRoom() {
	if len(c.order) < maxBlobs {
		return
	}
	var oldest *blob
	for _, b := range c.order {
		if !b.want && b.phase != verifying && !b.opening && (oldest == nil || b.active < oldest.active) {
			oldest = b
		}
	}
	if oldest != nil {
		c.forget([]*blob{oldest})
	}
}

// forget drops all state of blobs.
func (c *Core) forget(gone []*blob) {
	for _, b := range gone {
		for len(b.neighbours) > 0 {
			c.dropNeighbour(b, b.neighbours[0].m.ID)
		}
		for k := range b.leases {
			c.dropLease(b, k)
		}
		delete(c.blobs, b.digest)
	}
	if len(gone) > 0 {
		left := func(b *blob) bool { return c.blobs[b.digest] != b }
		c.order = slices.DeleteFunc(c.order, left)
		c.live = slices.DeleteFunc(c.live, left)
	}
}

// tick runs what is due, and forgets what nobody asked for in a long time.
func (c *Core) tick() {
	c.serve()
	for _, b := range slices.Clone(c.live) {
		if b.wake <= c.now {
			c.work(b)
		}
		c.flush(b)
	}
	c.live = slices.DeleteFunc(c.live, func(b *blob) bool {
		b.live = c.busy(b)
		return !b.live
	})
	if c.now < c.sweep {
		return
	}
	c.sweep = c.now.Add(c.cfg.Idle / 4)
	c.forget(slices.DeleteFunc(slices.Clone(c.order), func(b *blob) bool { return !c.forgettable(b) }))
}

func (c *Core) forgettable(b *blob) bool {
	return !b.want && b.phase != verifying && !b.opening && c.now.Sub(b.active) >= c.cfg.Idle && !c.uploads.of(b)
}

// work does for one blob all that its state and the time ask for.
func (c *Core) work(b *blob) {
	if b.want && b.phase == fetching {
		c.expireAsked(b)
		c.expireClaims(b)
		c.seekNeighbours(b)
		if b.opened {
			c.yieldToKeepers(b)
			c.stopBlind(b)
			c.goAround(b) // what is free with it is asked for at once
			c.pull(b)
			if b.unkept.on {
				c.importUnkept(b)
			} else {
				c.importPieces(b)
			}
			c.hedge(b)
		}
		c.fromOrigin(b)
		c.renew(b)
		c.checkProgress(b)
	}
	b.wake = c.now.Add(tick)
	c.wakeFor(b)
	c.flush(b)
}

// ask does what a piece that came, failed or is offered calls for: it asks for the next. All else has time until
// the next tick.
func (c *Core) ask(b *blob) {
	if b.want && b.phase == fetching && b.opened {
		c.pull(b)
	}
	c.wakeFor(b)
	c.flush(b)
}

// wakeFor has a blob looked at when it wants work by time.
func (c *Core) wakeFor(b *blob) {
	if !b.live && c.busy(b) {
		b.live = true
		c.live = append(c.live, b)
	}
}

// busy reports whether a blob wants work by time alone.
func (c *Core) busy(b *blob) bool { return b.want && b.phase == fetching || b.flushAt != 0 }

func (c *Core) emit(a Action) { c.out = append(c.out, a) }

func (c *Core) send(to PeerID, m Message) { c.emit(Send{To: to, Msg: m}) }
