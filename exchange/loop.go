package exchange

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/meshd-project/meshd/exchange/swarm"
)

// loop owns the core until ctx ends.
func (x *Exchange) loop(ctx context.Context) {
	defer close(x.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		for len(x.pending) > 0 {
			ev := x.pending[0]
			x.pending = x.pending[1:]
			x.step(ctx, ev)
		}
		at, ok := x.core.Deadline()
		if wait := at.Sub(x.now()); ok {
			timer.Reset(max(wait, 0))
		} else {
			timer.Stop()
		}
		select {
		case ev := <-x.inbox:
			x.step(ctx, ev)
			x.drain(ctx)
		case <-timer.C:
			x.step(ctx, swarm.Tick{})
		case <-ctx.Done():
			return
		}
	}
}

// drain takes what else is in the inbox, within reason, so that a burst costs one timer.
func (x *Exchange) drain(ctx context.Context) {
	for range 64 {
		select {
		case ev := <-x.inbox:
			x.step(ctx, ev)
		default:
			return
		}
	}
}

func (x *Exchange) step(ctx context.Context, ev swarm.Event) {
	ev, ok := x.live(ev)
	if !ok {
		return
	}
	x.actions = x.core.Step(x.now(), ev, x.actions[:0])
	for i, a := range x.actions {
		x.act(ctx, a)
		x.actions[i] = nil
	}
}

// act carries out one action. It never waits: work is handed to goroutines, which are bounded by what the core
// asks for at a time.
func (x *Exchange) act(ctx context.Context, a swarm.Action) {
	switch a := a.(type) {
	case swarm.Send:
		x.send(ctx, peer.ID(a.To), a.Msg)
	case swarm.FindProviders:
		x.spawn(func() { x.findProviders(ctx, a.Digest) })
	case swarm.Announce:
		x.announce(announcement{digest: a.Digest, holding: a.State == swarm.Holding, global: a.Global})
	case swarm.OpenBlob:
		x.openBlob(a)
	case swarm.Window:
		x.setWindow(a)
	case swarm.RequestPiece:
		x.requestPiece(ctx, a)
	case swarm.CancelPiece:
		x.cancelPiece(transferKey{a.To, a.Digest, a.Piece})
	case swarm.ServePiece:
		x.decide(a.Xfer, decision{serve: true})
	case swarm.RefusePiece:
		x.decide(a.Xfer, decision{wait: a.Wait, load: a.Load})
	case swarm.FetchOrigin:
		x.fetchOrigin(ctx, a)
	case swarm.StopOrigin:
		x.stopOrigin(a.Fetch)
	case swarm.Await:
		x.await(a)
	case swarm.Verify:
		x.verify(ctx, a.Digest)
	case swarm.Discard:
		x.discard(a.Digest)
	case swarm.Distrust:
		x.distrust(a)
	case swarm.GiveUp:
		x.giveUp(a)
	case swarm.Quarantine:
		x.quarantine(a)
	default:
		log.Errorw("unknown action", "action", a)
	}
}

// quarantine notes that a peer is not used for a time.
func (x *Exchange) quarantine(a swarm.Quarantine) {
	d := a.Until.Sub(x.now())
	x.mu.Lock()
	defer x.mu.Unlock()
	if d <= 0 {
		log.Infow("peer believed again: there is nobody else", "peer", peer.ID(a.Peer))
		delete(x.banned, peer.ID(a.Peer))
		return
	}
	log.Warnw("peer quarantined", "peer", peer.ID(a.Peer), "dur", d, "err", failureText(a.Why))
	x.banned[peer.ID(a.Peer)] = ban{until: time.Now().Add(d), why: a.Why, refuse: a.Refuse}
}

// isBanned reports whether a peer is no member, or isolated: in quarantine, and refused.
func (x *Exchange) isBanned(id peer.ID) bool {
	if !x.cfg.Admit(id) {
		return true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	b, ok := x.banned[id]
	if ok && time.Now().After(b.until) {
		delete(x.banned, id)
		return false
	}
	return ok && b.refuse
}

func failureText(f swarm.Failure) string {
	switch f {
	case swarm.FailedBusy:
		return "busy"
	case swarm.FailedTimeout:
		return "time-outs"
	case swarm.FailedReset:
		return "connections cut"
	case swarm.FailedNotFound:
		return "pieces missing"
	case swarm.FailedProtocol:
		return "protocol broken"
	case swarm.FailedHash:
		return "bytes do not match their attested hash"
	case swarm.FailedDistrusted:
		return "distrusted attester"
	case swarm.FailedWant:
		return "asked for blobs that do not exist"
	case swarm.FailedAttestation:
		return "signed hashes proved wrong"
	case swarm.FailedBoast:
		return "says it has pieces that it has not"
	case swarm.FailedMute:
		return "accepts requests and sends nothing"
	case swarm.FailedDrip:
		return "sends drop by drop what others send quickly"
	}
	return "unknown"
}
