package gossip

import (
	"context"
	"errors"
	"slices"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

const (
	housekeeping = time.Second            // expiry, election of relays
	earlyTells   = 3                      // presences at the shortest interval, by a newcomer
	relayGrace   = 30 * time.Second       // on the backbone after another took the turn
	rankDelay    = 150 * time.Millisecond // between two relays that could tell the same
)

// read hands in the messages of a topic until ctx is done.
func (g *Gossip) read(ctx context.Context, sub *pubsub.Subscription, backbone bool) error {
	for {
		m, err := sub.Next(ctx)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, pubsub.ErrSubscriptionCancelled) {
				return nil
			}
			return err
		}
		switch msg := m.ValidatorData.(type) {
		case presence:
			g.heardPresence(msg, m.GetData(), backbone)
		case have:
			g.heardHave(msg, backbone)
		}
	}
}

// tick tells the node's presence, forgets the silent, and joins and leaves the backbone.
func (g *Gossip) tick(ctx context.Context) error {
	var eg errgroup.Group
	defer eg.Wait() //nolint:errcheck // readers return nil
	bb := &backboneReader{g: g}
	defer bb.leave()
	beat := time.NewTicker(housekeeping)
	defer beat.Stop()
	tell, next := time.NewTimer(0), time.Now()
	early := earlyTells
	defer tell.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.wakeTell:
			// Not at once: the topic's streams to a new neighbour are opening, and many may have met it.
			if soon := jitter(min(g.cfg.Interval/8, 1250*time.Millisecond)); time.Until(next) > soon {
				next = time.Now().Add(soon)
				tell.Reset(soon)
			}
			continue
		case <-tell.C:
			g.tellPresence(ctx)
			wait := jitter(g.cfg.Interval)
			if early--; early < 0 {
				wait = g.untilPresence()
			}
			next = time.Now().Add(wait)
			tell.Reset(wait)
			continue
		case <-beat.C:
		}
		g.expire()
		if err := bb.elect(ctx, &eg); err != nil {
			return err
		}
	}
}

// untilPresence returns the time to the next presence.
func (g *Gossip) untilPresence() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return jitter(g.every())
}

func (g *Gossip) tellPresence(ctx context.Context) {
	data := g.presence().encode()
	if err := g.zone.Publish(ctx, data); err != nil && ctx.Err() == nil {
		log.Warnw("presence not told", "err", err)
	}
	if g.Relay() {
		if err := g.backbone.Publish(ctx, data); err != nil && ctx.Err() == nil {
			log.Warnw("presence not told on the backbone", "err", err)
		}
	}
}

func (g *Gossip) expire() {
	isConnected := func(id peer.ID) bool {
		return g.host.Network().Connectedness(id) == network.Connected
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range g.table.expire(time.Now(), isConnected) {
		g.emit(event{lost: id})
	}
}

// backboneReader is this node's subscription to the backbone. It belongs to tick.
type backboneReader struct {
	g      *Gossip
	sub    *pubsub.Subscription
	unfit  time.Time // since when another relay has the turn
	cancel context.CancelFunc
}

// elect joins the backbone when it is this node's turn and leaves it a while after.
func (b *backboneReader) elect(ctx context.Context, eg *errgroup.Group) error {
	b.g.mu.Lock()
	relay := b.g.table.isRelay(b.g.cfg.Zone, b.g.cfg.Relays, time.Now())
	turned := relay != b.g.relay
	b.g.relay = relay
	if turned {
		b.g.emit(event{turned: &relay})
	}
	b.g.mu.Unlock()
	if turned {
		wake(b.g.wakeTell)
	}
	switch on := relay || b.g.cfg.Seed; {
	case on:
		b.unfit = time.Time{}
		if b.sub != nil {
			return nil
		}
		sub, err := b.g.backbone.Subscribe(pubsub.WithBufferSize(512))
		if err != nil {
			return err
		}
		b.sub = sub
		var rctx context.Context
		rctx, b.cancel = context.WithCancel(ctx)
		eg.Go(func() error { return b.g.read(rctx, sub, true) })
	case b.sub != nil && b.unfit.IsZero():
		b.unfit = time.Now()
	case b.sub != nil && time.Since(b.unfit) > relayGrace:
		b.leave()
	}
	return nil
}

func (b *backboneReader) leave() {
	if b.sub != nil {
		b.sub.Cancel()
		b.cancel()
		b.sub = nil
	}
}

// heardPresence takes in what a topic told of a member.
func (g *Gossip) heardPresence(p presence, data []byte, backbone bool) {
	p.Addrs = g.cfg.AddrFilter(p.Addrs)
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.table.apply(p, false, now, 0)
	g.tellOf(p.ID, v)
	if v != stale && backbone && p.Zone != g.cfg.Zone && (v == left || g.table.isContact(p.ID)) {
		g.repeat(repeat{data: data}, p.ID)
	}
}

// tellOf queues the event for a verdict; mu is held.
func (g *Gossip) tellOf(id peer.ID, v verdict) {
	switch v {
	case changed:
		m := g.table.members[id].public()
		g.emit(event{member: &m})
	case left:
		g.emit(event{lost: id})
	}
}

// heardHave takes in an announcement and, on a relay, tells it across.
func (g *Gossip) heardHave(h have, backbone bool) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if h.ID == g.self {
		return
	}
	for _, it := range h.Items {
		g.holdings.add(h.ID, it, now)
		g.said.add(fact{backbone, h.Zone, it}, now)
	}
	onBackbone := g.relay || g.cfg.Seed
	if onBackbone && backbone == (h.Zone != g.cfg.Zone) {
		g.repeat(repeat{backbone: !backbone, have: &h}, h.ID)
	}
}

// repeat queues a message for the other topic, later the lower this relay ranks for it; mu is held.
func (g *Gossip) repeat(r repeat, about peer.ID) {
	place := 0
	mine := rank(string(about), g.self)
	for _, m := range g.table.members {
		if m.Zone == g.cfg.Zone && (m.Relay || m.Seed) && rank(string(about), m.ID) > mine {
			place++
		}
	}
	if len(g.delayed) < maxBlobs {
		r.at = time.Now().Add(time.Duration(place) * rankDelay)
		g.delayed = append(g.delayed, r)
	}
	wake(g.wakeFlush)
}

// flush sends what was announced and what is to be told across.
func (g *Gossip) flush(ctx context.Context) error {
	const gather = 20 * time.Millisecond // one message for what comes together
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.wakeFlush:
			timer.Reset(gather)
			continue
		case <-timer.C:
		}
		timer.Reset(max(gather, min(g.flushQueue(ctx), g.flushDelayed(ctx))))
	}
}

// queued is an announcement of this node that waits for its turn.
type queued struct {
	item
	at time.Time
}

const (
	tellers   = 3                     // members of a zone that tell it of a blob and state
	turnDelay = 50 * time.Millisecond // between two groups of as many
	lastTurn  = 20                    // the group in which all others are
)

// turn returns how long this node waits before it tells of a blob: if many of a zone are about to say the same, those
// highest in rank for it say it at once, and the others hear it before it is their turn. mu is held.
func (g *Gossip) turn(d digest.Digest) time.Duration {
	key := weightKey(string(d))
	mine, above := weight(key, g.self), 0
	for id, m := range g.table.members {
		if m.Zone == g.cfg.Zone && weight(key, id) > mine {
			if above++; above == tellers*lastTurn {
				break
			}
		}
	}
	return time.Duration(above/tellers) * turnDelay
}

// flushQueue tells this node's own announcements in the zone and, on a relay, on the backbone. It returns the wait for
// the next that is due.
func (g *Gossip) flushQueue(ctx context.Context) time.Duration {
	now := time.Now()
	due, wait := g.takeQueued(now)
	g.mu.Lock()
	across := g.relay || g.cfg.Seed
	g.mu.Unlock()
	for items := range slices.Chunk(due, maxItems) {
		h := have{ID: g.self, Zone: g.cfg.Zone, Items: items}
		g.publishHave(ctx, h, false)
		if across {
			g.publishHave(ctx, h, true)
		}
	}
	return wait
}

// takeQueued takes the announcements that are due, and returns the wait for the next.
func (g *Gossip) takeQueued(now time.Time) (due []item, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	wait = time.Hour
	rest := g.queue[:0]
	for _, q := range g.queue {
		switch {
		case q.at.After(now):
			rest = append(rest, q)
			wait = min(wait, q.at.Sub(now))
		case !q.Holding || g.holdings.holding(q.Digest, now, holdingTTL/2, g.near) < tellers:
			due = append(due, q.item)
		}
	}
	if g.queue = rest; len(rest) == 0 {
		g.queue = nil
	}
	return due, wait
}

// near reports whether a member is of this zone; mu is held.
func (g *Gossip) near(id peer.ID) bool {
	m := g.table.members[id]
	return m != nil && m.Zone == g.cfg.Zone
}

// flushDelayed tells across what is due and returns the wait for the next.
func (g *Gossip) flushDelayed(ctx context.Context) time.Duration {
	now := time.Now()
	wait := time.Hour
	var due []repeat
	g.mu.Lock()
	rest := g.delayed[:0]
	for _, r := range g.delayed {
		if r.at.After(now) {
			rest = append(rest, r)
			wait = min(wait, r.at.Sub(now))
		} else {
			due = append(due, r)
		}
	}
	clear(g.delayed[len(rest):])
	g.delayed = rest
	g.mu.Unlock()
	for _, r := range due {
		switch {
		case r.have != nil:
			g.publishHave(ctx, *r.have, r.backbone)
		default:
			if err := g.topic(r.backbone).Publish(ctx, r.data); err != nil && ctx.Err() == nil {
				log.Debugw("presence not repeated", "err", err)
			}
		}
	}
	return wait
}

func (g *Gossip) topic(backbone bool) *pubsub.Topic {
	if backbone {
		return g.backbone
	}
	return g.zone
}

// publishHave sends the items that the topic has not heard often enough: its own zone a few times, others and the
// backbone once. What nobody was there to hear does not count as said.
func (g *Gossip) publishHave(ctx context.Context, h have, backbone bool) {
	topic := g.topic(backbone)
	if len(topic.ListPeers()) == 0 {
		return
	}
	limit := 1
	if h.ID == g.self && !backbone {
		limit = tellers
	}
	now := time.Now()
	var items []item
	g.mu.Lock()
	for _, it := range h.Items {
		f := fact{backbone, h.Zone, it}
		if g.said.count(f, now) < limit {
			g.said.add(f, now)
			items = append(items, it)
		}
	}
	if h.ID == g.self {
		h.Seq = g.nextSeq()
	}
	g.mu.Unlock()
	if len(items) == 0 {
		return
	}
	h.Items = items
	if err := topic.Publish(ctx, h.encode()); err != nil && ctx.Err() == nil {
		log.Warnw("announcement not sent", "err", err)
	}
}
