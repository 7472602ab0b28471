package swarm

import (
	"math"
	"slices"
	"strings"
	"time"
)

// member is a node of the mesh and what was learnt of it.
type member struct {
	Member
	key uint64 // of the id, for rendezvous hashing

	near    *neighbour // its neighbourhoods with this node, one for each blob
	leases  int32      // that this node keeps for it as arbiter
	asked   int32      // piece requests of ours under way at it
	mute    int        // requests in a row of which not a byte came
	backoff Time       // no request before this
	busy    Time       // since when it answers that it is busy and nothing else; 0: it does not
	slow    float32    // EWMA of observed over expected time of a piece, at least 1
	load    uint8      // uploads that it last reported
	drips   bool       // its bytes came drop by drop, the last that came
	brisk   Time       // a piece of it came quickly; 0: none did

	record
}

func newMember(m Member) *member { return &member{Member: m, key: hash64(string(m.ID)), slow: 1} }

func compareMember(m *member, id PeerID) int { return strings.Compare(string(m.ID), string(id)) }

// member returns a known member, nil if there is none.
func (c *Core) member(id PeerID) *member { return c.byID.get(id) }

// seeMember adds or updates a member. A changed role moves arbiters: leases are told to the new ones.
func (c *Core) seeMember(ev Member) {
	i, ok := slices.BinarySearchFunc(c.members, ev.ID, compareMember)
	if !ok {
		c.members = slices.Insert(c.members, i, newMember(ev))
		c.recall(c.members[i])
		c.byID.put(c.members[i])
	} else {
		old := c.members[i].Member
		c.members[i].Member = ev
		if old.Zone == ev.Zone && old.Seed == ev.Seed && old.Relay == ev.Relay {
			return
		}
	}
	c.rolesChanged()
	for _, b := range c.order {
		if b.want && ev.ID != c.cfg.Self {
			c.tellNewMember(b, c.members[i])
		}
	}
}

// rolesChanged recomputes what follows from the set of members.
func (c *Core) rolesChanged() {
	c.epoch++
	for _, b := range c.order {
		b.renewAt = c.now
		b.wake = c.now
	}
}

// loseMember forgets a member: its leases, its place in every swarm, our requests to it. What is held against it stays.
func (c *Core) loseMember(id PeerID) {
	if id == c.cfg.Self {
		return
	}
	i, ok := slices.BinarySearchFunc(c.members, id, compareMember)
	if !ok {
		return
	}
	c.refuseAll(id)
	c.keepRecord(c.members[i])
	for _, b := range c.order {
		c.handOver(b, id)
		for k, l := range b.leases {
			if l.holder == id {
				c.dropLease(b, k)
			}
		}
		b.joiners = slices.DeleteFunc(b.joiners, func(j joiner) bool { return j.ID == id })
		b.dismiss(id)
		b.forgetPeer(id)
		c.dropNeighbour(b, id)
	}
	c.members = slices.Delete(c.members, i, i+1)
	c.byID.remove(id)
	c.rolesChanged()
	for _, b := range c.order {
		c.work(b)
	}
}

// Penalty points by failure (ALGORITHM 2.e).
func points(why Failure) float64 {
	switch why {
	case FailedHash, FailedBoast, FailedMute, FailedDrip:
		return 4
	case FailedProtocol, FailedAttestation:
		return 8
	case FailedTimeout, FailedReset:
		return 1
	case FailedWant:
		return 0.5
	}
	return 0
}

// penalise adds points to a peer and puts it in quarantine once they reach Config.QuarantinePoints: for 30 s, doubled
// with each time, at most 30 min.
func (c *Core) penalise(id PeerID, why Failure) {
	m := c.member(id)
	p := points(why)
	if m == nil || m == c.me || p == 0 {
		return
	}
	half := float64(c.now.Sub(m.penaltyAt)) / float64(c.cfg.PenaltyHalfLife)
	m.penalty = m.penalty*math.Exp2(-half) + p
	m.penaltyAt = c.now
	if m.penalty < c.cfg.QuarantinePoints || c.useless(m) && why != FailedProtocol || c.isolated(m) {
		return
	}
	if c.now.Sub(m.uselessTil) > time.Hour {
		m.strikes = 0
	}
	d := min(30*time.Second<<min(m.strikes, 10), 30*time.Minute)
	if why == FailedProtocol || why == FailedWant {
		c.isolate(m, d, why)
	} else {
		c.disbelieve(m, d, why)
	}
	m.strikes++
	m.penalty = 0
}

// disbelieve lets nothing that a peer says it has count for d, and asks it for nothing. It is served and keeps its other
// duties: it may not know what is wrong with it, left alone it would take everything from the origin, and
// what is one node's own view must not change who is whose arbiter.
func (c *Core) disbelieve(m *member, d time.Duration, why Failure) {
	m.uselessTil = c.now.Add(d)
	m.drips = why == FailedDrip
	c.emit(Quarantine{Peer: m.ID, Until: m.uselessTil, Why: why})
	for _, b := range c.order {
		n := m.in(b)
		if n == nil {
			continue
		}
		b.forgetHave(n)
		c.cancelAt(b, m)
		b.wake = c.now
	}
}

// isolate stops all dealings with a peer for d.
func (c *Core) isolate(m *member, d time.Duration, why Failure) {
	m.isolatedTil = c.now.Add(d)
	m.drips = false
	m.uselessTil = max(m.uselessTil, m.isolatedTil)
	c.emit(Quarantine{Peer: m.ID, Until: m.isolatedTil, Why: why, Refuse: true})
	c.rolesChanged() // it is no arbiter either
	c.refuseAll(m.ID)
}

func (c *Core) isolated(m *member) bool { return m.isolatedTil > c.now }

// useless reports whether nothing is to be had of a peer.
func (c *Core) useless(m *member) bool { return m.uselessTil > c.now }

// shunned reports whether a peer is known and isolated.
func (c *Core) shunned(id PeerID) bool {
	m := c.member(id)
	return m != nil && c.isolated(m)
}

// hopeless reports whether a peer is known and nothing is to be had of it.
func (c *Core) hopeless(id PeerID) bool {
	m := c.member(id)
	return m != nil && c.useless(m)
}
