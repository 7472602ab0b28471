package topology

import (
	"cmp"
	"context"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	neighbours  = 16  // connections kept into a zone too large for all
	maxRemote   = 128 // connections kept to seeds and relays of other zones
	politeness  = 300 * time.Millisecond
	hintTTL     = time.Minute
	dialTimeout = 10 * time.Second
	dialFirst   = time.Second // wait after the first failure; doubles
	dialLast    = 2 * time.Minute
	missing     = 3 // dials that failed until a member's place is given to another as well
	protectTag  = "meshd/topology"
)

func (m *Map) onConnected(_ network.Network, c network.Conn) {
	ip := ""
	if addr, err := manet.ToIP(c.RemoteMultiaddr()); err == nil {
		ip = addr.String()
	}
	outbound := c.Stat().Direction == network.DirOutbound
	m.update(c.RemotePeer(), func(e *entry) {
		if !e.connected || outbound { // an address that was dialed is known to be right
			e.remoteIP, e.outbound = ip, outbound
		}
		if !e.connected {
			e.nextPing = time.Now()
		}
		e.connected, e.failures = true, 0
	})
}

func (m *Map) onDisconnected(n network.Network, c network.Conn) {
	id := c.RemotePeer()
	m.update(id, func(e *entry) {
		e.connected = n.Connectedness(id) == network.Connected
		if !e.connected {
			e.remoteIP = ""
			e.rtts = samples{}
			m.space.forget(id)
			e.nextDial = time.Now().Add(time.Duration((0.5 + rand.Float64()) * float64(politeness)))
		}
	})
}

// wanted returns the test for peers that this node should be connected to; mu is held, and while the test is used.
func (m *Map) wanted() func(*entry) bool {
	total := 1
	var near, far []*entry
	for _, e := range m.peers {
		if !e.known {
			continue
		}
		total++
		if e.member.Zone == m.cfg.Zone {
			near = append(near, e)
		} else if e.member.Seed || e.member.Relay {
			far = append(far, e)
		}
	}
	if total <= m.cfg.Small {
		return func(e *entry) bool { return e.known || e.hinted() }
	}
	chosen := make(map[*entry]bool)
	if len(near) < m.cfg.Small {
		for _, e := range near {
			chosen[e] = true
		}
	} else {
		for _, e := range first(m.byWeight(near), neighbours) {
			chosen[e] = true
		}
		for _, e := range near {
			chosen[e] = chosen[e] || e.member.Seed || e.member.Relay
		}
	}
	for _, e := range first(m.byWeight(far), maxRemote) {
		chosen[e] = true
	}
	return func(e *entry) bool { return chosen[e] || e.hinted() }
}

// first returns the entries up to the nth that can be reached as far as is known. Those before that cannot are still
// tried: a member that died without a word is known for long in a large mesh, and many may have died together.
func first(list []*entry, n int) []*entry {
	for i, e := range list {
		if e.connected || e.failures < missing {
			if n--; n == 0 {
				return list[:i+1]
			}
		}
	}
	return list
}

func (e *entry) hinted() bool { return !e.known && time.Now().Before(e.hintUntil) }

// byWeight orders entries by their rendezvous weight for this node.
func (m *Map) byWeight(list []*entry) []*entry {
	slices.SortFunc(list, func(a, b *entry) int { return cmp.Compare(b.weight, a.weight) })
	return list
}

// newEntry returns an entry of which nothing is known but its rendezvous weight for self.
func newEntry(self, id peer.ID) *entry {
	h := fnv.New64a()
	h.Write([]byte(self)) //nolint:errcheck // never fails
	h.Write([]byte(id))   //nolint:errcheck
	return &entry{id: id, weight: h.Sum64()}
}

// plan picks what to dial and ping now, the nearest first, and says when to look again.
func (m *Map) plan(now time.Time) (dials []peer.AddrInfo, pings []peer.ID, wait time.Duration) {
	wait = time.Minute
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.wanted()
	var due []*entry // to be dialed
	dialing := 0
	for id, e := range m.peers {
		want := w(e)
		if want != e.protected {
			e.protected, e.dirty = want, true // who need not be connected may be up without
			m.wake()
			if want {
				m.host.ConnManager().Protect(id, protectTag)
			} else {
				m.host.ConnManager().Unprotect(id, protectTag)
			}
		}
		switch {
		case e.dialing:
			dialing++
		case e.connected && e.known && !e.pinging:
			if d := e.nextPing.Sub(now); d > 0 {
				wait = min(wait, d)
			} else {
				e.pinging = true
				pings = append(pings, id)
			}
		case !e.connected && want:
			if d := e.nextDial.Sub(now); d > 0 {
				wait = min(wait, d)
			} else {
				due = append(due, e)
			}
		case !e.known && !e.connected:
			e.dirty = true // a hint that ran out: tell forgets it
		}
	}
	for _, e := range m.nearest(due, max(m.cfg.MaxDials-dialing, 0)) { // the end of a dial wakes the loop for the rest
		e.dialing = true
		dials = append(dials, e.target())
	}
	return dials, pings, wait
}

// nearest picks n of the entries, those first that seem nearest; strangers without a coordinate come last.
func (m *Map) nearest(list []*entry, n int) []*entry {
	if len(list) <= n {
		return list
	}
	dist := make(map[*entry]time.Duration, len(list))
	for _, e := range list {
		if dist[e] = m.view(e).Distance(); dist[e] == 0 {
			dist[e] = math.MaxInt64
		}
	}
	slices.SortFunc(list, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(dist[a], dist[b]), cmp.Compare(a.id, b.id))
	})
	return list[:n]
}

func (e *entry) target() peer.AddrInfo {
	info := peer.AddrInfo{ID: e.id, Addrs: slices.Clone(e.member.Addrs)}
	for _, a := range e.hint.Addrs {
		if !ma.Contains(info.Addrs, a) {
			info.Addrs = append(info.Addrs, a)
		}
	}
	return info
}

func (m *Map) dial(ctx context.Context, info peer.AddrInfo) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if s, ok := m.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(info.ID) // this package has its own
	}
	m.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
	err := m.host.Connect(ctx, info)
	m.update(info.ID, func(e *entry) {
		e.dialing = false
		if err == nil {
			return
		}
		e.failures++
		wait := min(dialFirst<<min(e.failures-1, 10), dialLast)
		e.nextDial = time.Now().Add(time.Duration((0.75 + 0.5*rand.Float64()) * float64(wait)))
	})
	if err != nil && ctx.Err() == nil {
		log.Debugw("member not reached", "peer", info.ID, "err", err)
	}
}

// dataAddr is where the peer serves pieces: at the address it names, or else at the one it is connected by.
func (e *entry) dataAddr() string {
	if !e.known || e.member.DataPort == 0 {
		return ""
	}
	host := e.member.DataHost
	if host == "" && e.remoteIP != "" && (e.outbound || e.advertises(e.remoteIP)) {
		host = e.remoteIP
	}
	for _, a := range e.member.Addrs {
		if host != "" {
			break
		}
		if ip, err := manet.ToIP(a); err == nil {
			host = ip.String()
		}
	}
	if host == "" {
		host = e.remoteIP
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(int(e.member.DataPort)))
}

func (e *entry) advertises(ip string) bool {
	return slices.ContainsFunc(e.member.Addrs, func(a ma.Multiaddr) bool {
		b, err := manet.ToIP(a)
		return err == nil && b.String() == ip
	})
}
