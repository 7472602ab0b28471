package gossip

import (
	"context"
	"errors"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"
)

const (
	housekeeping = time.Second            // expiry, election of relays
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
	limit := time.Now().Add(-g.cfg.Interval * 7 / 2)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range g.table.expire(limit, isConnected) {
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
	relay := b.g.table.isRelay(b.g.cfg.Zone, b.g.cfg.Relays)
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
		g.flushQueue(ctx)
		timer.Reset(g.flushDelayed(ctx))
	}
}

// flushQueue tells this node's own announcements in the zone and, on a relay, on the backbone.
func (g *Gossip) flushQueue(ctx context.Context) {
	for {
		g.mu.Lock()
		n := min(len(g.queue), maxItems)
		items := g.queue[:n]
		g.queue = g.queue[n:]
		if len(g.queue) == 0 {
			g.queue = nil
		}
		across := g.relay || g.cfg.Seed
		g.mu.Unlock()
		if n == 0 {
			return
		}
		g.publishHave(ctx, have{ID: g.self, Zone: g.cfg.Zone, Items: items}, false, 3)
		if across {
			g.publishHave(ctx, have{ID: g.self, Zone: g.cfg.Zone, Items: items}, true, 1)
		}
	}
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
		topic := g.zone
		if r.backbone {
			topic = g.backbone
		}
		switch {
		case r.have != nil:
			g.publishHave(ctx, *r.have, r.backbone, 1)
		default:
			if err := topic.Publish(ctx, r.data); err != nil && ctx.Err() == nil {
				log.Debugw("presence not repeated", "err", err)
			}
		}
	}
	return wait
}

// publishHave sends the items that the topic has heard fewer than limit times.
func (g *Gossip) publishHave(ctx context.Context, h have, backbone bool, limit int) {
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
	g.mu.Unlock()
	if len(items) == 0 {
		return
	}
	h.Items = items
	topic := g.zone
	if backbone {
		topic = g.backbone
	}
	if err := topic.Publish(ctx, h.encode()); err != nil && ctx.Err() == nil {
		log.Warnw("announcement not sent", "err", err)
	}
}
