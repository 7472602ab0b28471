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
	backoff Time       // no request before this
	slow    float32    // EWMA of observed over expected time of a piece, at least 1
	load    uint8      // uploads that it last reported

	penalty     float64 // points at penaltyAt, decaying
	penaltyAt   Time
	strikes     int // quarantines so far, forgotten after an hour without one
	isolatedTil Time
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

// loseMember forgets a member: its leases, its place in every swarm, our requests to it.
func (c *Core) loseMember(id PeerID) {
	if id == c.cfg.Self {
		return
	}
	i, ok := slices.BinarySearchFunc(c.members, id, compareMember)
	if !ok {
		return
	}
	c.uploads.drop(id)
	for _, b := range c.order {
		b.leases.drop(id)
		b.joiners = slices.DeleteFunc(b.joiners, func(j joiner) bool { return j.ID == id })
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
	case FailedHash:
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

// penalise adds points to a peer and isolates it once they reach Config.QuarantinePoints: for 30 s, doubled
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
	if m.penalty < c.cfg.QuarantinePoints || c.isolated(m) {
		return
	}
	if c.now.Sub(m.isolatedTil) > time.Hour {
		m.strikes = 0
	}
	c.isolate(m, min(30*time.Second<<min(m.strikes, 10), 30*time.Minute), why)
	m.strikes++
	m.penalty = 0
}

// isolate stops all use of a peer as a provider for d.
func (c *Core) isolate(m *member, d time.Duration, why Failure) {
	m.isolatedTil = c.now.Add(d)
	c.emit(Quarantine{Peer: m.ID, Until: m.isolatedTil, Why: why})
	c.rolesChanged() // it is no arbiter either
	c.uploads.drop(m.ID)
}

func (c *Core) isolated(m *member) bool { return m.isolatedTil > c.now }

// shunned reports whether a peer is known and isolated.
func (c *Core) shunned(id PeerID) bool {
	m := c.member(id)
	return m != nil && c.isolated(m)
}
