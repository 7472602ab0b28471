package exchange

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Member is a node of the mesh as the topology knows it.
type Member struct {
	ID          peer.ID
	Zone        string
	Seed, Relay bool
	RTT         time.Duration // measured minimum, else an estimate from coordinates; 0 while unknown
	DataAddr    string        // ip:port of its data port; "": the address of its connection, the port of its card
}

// remote is what is known of a peer and the streams with it. Its fields are guarded by Exchange.mu.
type remote struct {
	id     peer.ID
	member *Member    // as told by SetMember
	card   *wire.Card // as told by itself
	out    *outbox
	in     *inbound
	carded chan struct{} // closed when card is set
}

// SetMember tells of a node, seen or changed. It may be repeated at any time.
func (x *Exchange) SetMember(m Member) {
	x.mu.Lock()
	if m.ID != x.self {
		r := x.remoteLocked(m.ID)
		r.member = &m
	}
	x.mu.Unlock()
	x.post(swarm.Member{ID: swarm.PeerID(m.ID), Zone: m.Zone, Seed: m.Seed, Relay: m.Relay, RTT: m.RTT})
}

// RemoveMember tells that a node has left.
func (x *Exchange) RemoveMember(id peer.ID) {
	if id == x.self {
		return
	}
	x.mu.Lock()
	if r := x.remotes[id]; r != nil {
		r.member, r.card = nil, nil
		r.shut()
		x.dropIdle(r)
	}
	x.mu.Unlock()
	x.post(swarm.MemberLost{ID: swarm.PeerID(id)})
}

// remoteLocked returns the entry of a peer, making it if there is none. The caller holds x.mu.
func (x *Exchange) remoteLocked(id peer.ID) *remote {
	r := x.remotes[id]
	if r == nil {
		r = &remote{id: id, carded: make(chan struct{})}
		x.remotes[id] = r
	}
	return r
}

// dropIdle forgets a peer of which nothing is known and with which nothing is open. The caller holds x.mu.
func (x *Exchange) dropIdle(r *remote) {
	if r.member == nil && r.card == nil && r.out == nil && r.in == nil && x.remotes[r.id] == r {
		delete(x.remotes, r.id)
	}
}

// shut resets the streams with a peer. The caller holds Exchange.mu.
func (r *remote) shut() {
	if r.out != nil {
		r.out.abort()
	}
	if r.in != nil {
		_ = r.in.stream.Reset()
	}
}

// event returns what the core is to know of a peer; false while its zone is unknown. The caller holds x.mu.
func (r *remote) event() (swarm.Member, bool) {
	ev := swarm.Member{ID: swarm.PeerID(r.id)}
	switch {
	case r.member != nil:
		ev.Zone, ev.Seed, ev.Relay, ev.RTT = r.member.Zone, r.member.Seed, r.member.Relay, r.member.RTT
	case r.card != nil:
		ev.Zone, ev.Seed, ev.Relay = r.card.Zone, r.card.Seed, r.card.Relay
	default:
		return ev, false
	}
	return ev, true
}

// memberEvent is what the core is to know of a peer; false if that is nothing.
func (x *Exchange) memberEvent(id peer.ID) (ev swarm.Member, known bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if r := x.remotes[id]; r != nil {
		return r.event()
	}
	return ev, false
}

// learn takes a peer's card. The core is told only what the topology did not tell it already.
func (x *Exchange) learn(id peer.ID, c wire.Card) {
	x.mu.Lock()
	r := x.remoteLocked(id)
	if r.card == nil {
		select {
		case <-r.carded:
		default:
			close(r.carded)
		}
	}
	r.card = &c
	ev, _ := r.event()
	known := r.member != nil
	x.mu.Unlock()
	if !known {
		x.post(ev)
	}
}

// zoneOf returns a peer's zone and whether it is this node's own.
func (x *Exchange) zoneOf(id peer.ID) (zone string, own bool) {
	ev, known := x.memberEvent(id)
	return ev.Zone, known && ev.Zone == x.cfg.Zone
}

// dataAddr returns ip:port of a peer's data port.
func (x *Exchange) dataAddr(id peer.ID) (string, error) {
	x.mu.Lock()
	r := x.remotes[id]
	var member *Member
	var card *wire.Card
	if r != nil {
		member, card = r.member, r.card
	}
	x.mu.Unlock()
	if member != nil && member.DataAddr != "" {
		return member.DataAddr, nil
	}
	if card == nil || card.DataPort == 0 {
		return "", fmt.Errorf("no data port known of %s", id)
	}
	for _, c := range x.host.Network().ConnsToPeer(id) {
		ip, err := manet.ToIP(c.RemoteMultiaddr())
		if err != nil {
			continue
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			return net.JoinHostPort(a.Unmap().String(), strconv.Itoa(int(card.DataPort))), nil
		}
	}
	return "", fmt.Errorf("no connection to %s", id)
}

// meet makes sure that the zone of a peer is known, by an exchange of cards if need be. It reports whether it is.
// The stream that it may open lives as long as life.
func (x *Exchange) meet(ctx, life context.Context, ai peer.AddrInfo) bool {
	if ai.ID == x.self {
		return false
	}
	if len(ai.Addrs) > 0 {
		x.host.Peerstore().AddAddrs(ai.ID, ai.Addrs, peerstore.TempAddrTTL)
	}
	x.mu.Lock()
	if x.stopped {
		x.mu.Unlock()
		return false
	}
	r := x.remoteLocked(ai.ID)
	if _, known := r.event(); known {
		x.mu.Unlock()
		return true
	}
	o := x.outboxLocked(life, r)
	carded := r.carded
	x.mu.Unlock()
	if o == nil {
		return false
	}
	select {
	case <-carded:
		return true
	case <-o.done:
	case <-ctx.Done():
	}
	return false
}

// lost tells the core that messages to or from a peer may have been lost. If the peer is still there, it begins
// anew.
func (x *Exchange) lost(id peer.ID) {
	x.post(swarm.MemberLost{ID: swarm.PeerID(id)})
	if !x.connected(id) {
		return
	}
	if ev, known := x.memberEvent(id); known {
		x.post(ev)
	}
}

func (x *Exchange) connected(id peer.ID) bool {
	return x.host.Network().Connectedness(id) == network.Connected
}

// notifiee watches connections: a broken one is known at once, not by a time-out.
func (x *Exchange) notifiee() network.Notifiee {
	return &network.NotifyBundle{
		ConnectedF: func(n network.Network, c network.Conn) {
			another := len(n.ConnsToPeer(c.RemotePeer())) > 1
			x.mu.Lock()
			var ev swarm.Member
			known := false
			if r := x.remotes[c.RemotePeer()]; r != nil {
				if r.member != nil {
					ev, known = r.event()
				}
				if r.out != nil && another {
					r.out.move()
				}
			}
			x.mu.Unlock()
			if known {
				x.post(ev)
			}
		},
		DisconnectedF: func(_ network.Network, c network.Conn) {
			id := c.RemotePeer()
			if x.connected(id) {
				return
			}
			x.tickets.forget(id)
			x.mu.Lock()
			r := x.remotes[id]
			if r != nil && r.card != nil {
				r.card = nil // the next connection may come from elsewhere
				r.carded = make(chan struct{})
			}
			if r != nil {
				x.dropIdle(r)
			}
			x.mu.Unlock()
			if r != nil {
				x.post(swarm.MemberLost{ID: swarm.PeerID(id)})
			}
		},
	}
}
