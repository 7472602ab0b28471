package exchange

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

// Bounds of discovery.
const (
	findTimeout    = 10 * time.Second
	meetTimeout    = 3 * time.Second
	maxStrangers   = 32 // strangers met for one search
	provideTimeout = 30 * time.Second
	provideAtOnce  = 2
)

// A search beyond gossip is for those of whom gossip has nothing: if a whole zone wants a blob in the same second, the
// first to say so are its swarm, whose rendezvous and members know the others.
const (
	enoughNear = 3                      // members of the own zone, named by gossip, with whom the search ends
	waitEach   = time.Millisecond       // of waiting for gossip, for each member of the mesh
	waitMost   = 200 * time.Millisecond // half of swarm.Config.Discover
)

// findProviders asks gossip, then discovery, and tells the core of holders as they become known. life is the
// context of Run: control streams that a search opens outlive it.
func (x *Exchange) findProviders(life context.Context, d digest.Digest) {
	defer x.post(swarm.ProvidersFound{Digest: d, Done: true})
	if x.askGossip(life, d) || x.providers == nil {
		return
	}
	if x.gossip != nil {
		select {
		case <-time.After(x.gossipWait()):
		case <-life.Done():
			return
		}
		if x.askGossip(life, d) {
			return
		}
	}
	select {
	case x.lookups <- struct{}{}:
		defer func() { <-x.lookups }()
	case <-life.Done():
		return
	}
	ctx, cancel := context.WithTimeout(life, findTimeout)
	defer cancel()
	met := 0
	err := x.providers.Find(ctx, d, func(found []peer.AddrInfo) {
		found = found[:min(len(found), maxStrangers-met)]
		met += len(found)
		x.tellProviders(life, d, found)
	})
	if err != nil && ctx.Err() == nil {
		log.Debugw("search failed", "blob", d, "err", err)
	}
}

// askGossip tells the core of those that gossip names, and reports whether enough of them are near.
func (x *Exchange) askGossip(life context.Context, d digest.Digest) (enough bool) {
	if x.gossip == nil {
		return false
	}
	var named []peer.AddrInfo
	near := 0
	for _, id := range x.gossip.Holders(d) {
		named = append(named, peer.AddrInfo{ID: id})
		if _, own := x.zoneOf(id); own {
			near++
		}
	}
	x.tellProviders(life, d, named)
	return near >= enoughNear
}

// gossipWait is how long a search waits for what others are about to say: not at all in a small mesh.
func (x *Exchange) gossipWait() time.Duration {
	x.mu.Lock()
	n := len(x.remotes)
	x.mu.Unlock()
	wait := min(time.Duration(n)*waitEach, waitMost)
	return wait/2 + rand.N(wait/2+1)
}

// tellProviders hands providers to the core once their zones are known. Strangers are met at the same time.
func (x *Exchange) tellProviders(life context.Context, d digest.Digest, found []peer.AddrInfo) {
	ctx, cancel := context.WithTimeout(life, meetTimeout)
	defer cancel()
	met := make(chan peer.ID)
	n := 0
	for _, ai := range found {
		if x.spawn(func() {
			if !x.meet(ctx, life, ai) {
				ai.ID = ""
			}
			met <- ai.ID
		}) {
			n++
		}
	}
	for range n {
		ev, known := x.memberEvent(<-met)
		if !known {
			continue
		}
		x.post(ev) // who is no member yet would be passed over, and whoever takes its card may be about to say so
		x.post(swarm.ProvidersFound{Digest: d, Peers: []swarm.MemberRef{{ID: ev.ID, Zone: ev.Zone}}})
	}
}

// announcement is what is told of a blob.
type announcement struct {
	digest  digest.Digest
	holding bool
	global  bool
	told    bool // to gossip
}

// announce queues an announcement. Too many are dropped: they are repeated later.
func (x *Exchange) announce(a announcement) {
	select {
	case x.news <- a:
	default:
		log.Debugw("announcement dropped", "blob", a.digest)
	}
}

// announcer tells gossip and discovery what is queued.
func (x *Exchange) announcer(ctx context.Context) {
	slots := make(chan struct{}, provideAtOnce)
	for {
		var a announcement
		select {
		case a = <-x.news:
		case <-ctx.Done():
			return
		}
		if x.gossip != nil && !a.told {
			x.gossip.Announce(a.digest, a.holding)
		}
		if x.providers == nil || !a.holding {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		x.spawn(func() { defer func() { <-slots }(); x.provide(ctx, a) })
	}
}

func (x *Exchange) provide(ctx context.Context, a announcement) {
	ctx, cancel := context.WithTimeout(ctx, provideTimeout)
	defer cancel()
	if err := x.providers.Provide(ctx, a.digest, a.global); err != nil && ctx.Err() == nil {
		log.Debugw("not announced", "blob", a.digest, "err", err)
	}
}

// Bounds of the first announcement of what is on disk.
const (
	firstLook  = 500 * time.Millisecond // how often it is looked whether somebody is there to hear it
	firstQuiet = time.Second            // from then on, for gossip to have its neighbours
	firstAgain = 15 * time.Second       // and once more, for those who came later
)

// reannouncer announces what is on disk: soon after the first member was seen, since a restarted holder is not asked
// for what nobody knows it has; once more a little later; and then every Config.Reannounce, because provider records
// expire.
func (x *Exchange) reannouncer(ctx context.Context) {
	if x.cfg.Reannounce < 0 {
		return
	}
	wait := func(d time.Duration) bool {
		select {
		case <-time.After(min(d, x.cfg.Reannounce)):
			return true
		case <-ctx.Done():
			return false
		}
	}
	for x.alone() {
		if !wait(firstLook) {
			return
		}
	}
	for _, d := range []time.Duration{firstQuiet, firstAgain} {
		if !wait(d) {
			return
		}
		x.reannounce(ctx)
	}
	for wait(x.cfg.Reannounce) {
		x.reannounce(ctx)
	}
}

func (x *Exchange) reannounce(ctx context.Context) {
	x.announceSpans(ctx)
	blobs := slices.DeleteFunc(x.store.List(), func(b store.Info) bool { return !b.Complete })
	for _, b := range blobs {
		if x.gossip != nil && !x.alone() {
			x.gossip.Announce(b.Digest, true) // all at once, to go in few messages
		}
	}
	for _, b := range blobs {
		if x.alone() {
			continue
		}
		select {
		case x.news <- announcement{digest: b.Digest, holding: true, global: x.cfg.Seed, told: true}:
		case <-ctx.Done():
			return
		}
	}
}

// alone reports whether no other node is known.
func (x *Exchange) alone() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.remotes) == 0
}
