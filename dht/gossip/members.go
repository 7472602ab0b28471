package gossip

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	maxMembers = 20000 // further ones are not taken in
	contacts   = 8     // members of another zone told in this one, besides its seeds
)

// Member is a node of the mesh as it last described itself.
type Member struct {
	ID       peer.ID
	Zone     string
	Inferred bool // it found its zone out by itself, or has not yet
	Seed     bool
	Relay    bool // joins the backbone
	Addrs    []ma.Multiaddr
	DataHost string // IP of the data port, "" = the one the peer is reached at
	DataPort uint16
	Coord    *Coordinate // as it says, nil = none; not to be changed
	Direct   bool        // it said so itself, over a connection that stands
}

// member is an entry of the table.
type member struct {
	presence
	heard   time.Time // of the last presence
	direct  bool
	rank    uint64    // rendezvous weight within its zone
	awaited time.Time // since when it should be a relay and is not connected; zero if it is, or should not
}

func (m *member) public() Member {
	return Member{
		ID: m.ID, Zone: m.Zone, Inferred: m.Inferred, Seed: m.Seed, Relay: m.Relay, Addrs: m.Addrs,
		DataHost: m.DataHost, DataPort: m.DataPort, Coord: m.Coord, Direct: m.direct,
	}
}

// table is the members known, without this node. It is not safe for concurrent use.
type table struct {
	self    peer.ID
	members map[peer.ID]*member
}

// verdict says what a presence changed.
type verdict uint8

const (
	stale   verdict = iota // nothing
	fresh                  // only the time it was heard
	changed                // a field
	left                   // the member said goodbye
)

// apply takes a presence in that is age old. Direct: the member itself said so on its connection.
func (t *table) apply(p presence, direct bool, now time.Time, age time.Duration) verdict {
	if p.ID == t.self {
		return stale
	}
	m := t.members[p.ID]
	if p.Leaving {
		if m == nil || !newer(p.Seq, m.Seq, now) || m.direct && !direct {
			return stale // a connected one is lost when its connection is
		}
		delete(t.members, p.ID)
		return left
	}
	if m == nil {
		if len(t.members) >= maxMembers {
			return stale
		}
		t.members[p.ID] = &member{presence: p, heard: now.Add(-age), direct: direct, rank: rank(p.Zone, p.ID)}
		return changed
	}
	if !newer(p.Seq, m.Seq, now) && !(direct && !m.direct) {
		return stale
	}
	m.heard = now.Add(-age)
	old := m.presence
	if m.direct && !direct {
		// Hearsay may refresh what the member said itself and tell of its turn as a relay and where it moved to in
		// the space of coordinates, no more.
		seq, every, relay, coord := p.Seq, p.Every, p.Relay, p.Coord
		p = m.presence
		p.Seq, p.Every, p.Relay, p.Coord = seq, every, relay, coord
	}
	if near(old.Coord, p.Coord) {
		p.Coord = old.Coord // so that small moves add up to one that is told
	}
	was := m.direct
	m.presence, m.direct, m.rank = p, m.direct || direct, rank(p.Zone, p.ID)
	if same(old, p) && was == m.direct {
		return fresh
	}
	return changed
}

// clockSlack is how far a member's clock may be ahead of this node's for its numbers to be believed.
const clockSlack = time.Hour

// newer reports whether a number is that of a later message. One that is far ahead of the time of day does not hold
// against one that is not, or who makes up a single presence could have a member unheard for ever.
func newer(seq, kept uint64, now time.Time) bool {
	bound := uint64(now.Add(clockSlack).UnixMilli())
	if seq <= bound && kept > bound {
		return true
	}
	return seq > kept
}

// makeRoom removes the member longest unheard of those that are hearsay if the table is full, and returns it.
func (t *table) makeRoom() (gone peer.ID, removed bool) {
	if len(t.members) < maxMembers {
		return "", false
	}
	var oldest *member
	for _, m := range t.members {
		if !m.direct && (oldest == nil || m.heard.Before(oldest.heard)) {
			oldest = m
		}
	}
	if oldest == nil {
		return "", false
	}
	delete(t.members, oldest.ID)
	return oldest.ID, true
}

func same(a, b presence) bool {
	return a.Zone == b.Zone && a.Inferred == b.Inferred && a.Seed == b.Seed && a.Relay == b.Relay &&
		a.Coord == b.Coord && a.DataHost == b.DataHost && a.DataPort == b.DataPort &&
		slices.EqualFunc(a.Addrs, b.Addrs, func(x, y ma.Multiaddr) bool { return x.Equal(y) })
}

// silence is how many of its own intervals a member may be silent.
const silence = 3.5

// patience is how long a member is believed to be there after a presence.
func (p presence) patience() time.Duration { return time.Duration(silence * float64(p.Every)) }

// expire removes those who were silent for too long, but for the connected.
func (t *table) expire(now time.Time, connected func(peer.ID) bool) []peer.ID {
	var gone []peer.ID
	for id, m := range t.members {
		if now.Sub(m.heard) > m.patience() && !connected(id) {
			delete(t.members, id)
			gone = append(gone, id)
		}
	}
	return gone
}

// relayAwaited is how long a relay may be without a connection until another takes its place. Everybody connects to the
// relays that it hears of, so it is gone by then, or never was: hearsay keeps a silent member for 3.5 of its intervals,
// half an hour in a zone of a thousand.
const relayAwaited = 20 * time.Second

// isRelay reports whether this node is among the n highest ranked of its zone, those left out whom it waited for in vain.
func (t *table) isRelay(zone string, n int, now time.Time) bool {
	mine := rank(zone, t.self)
	var above []*member
	for _, m := range t.members {
		if m.Zone == zone && (m.rank > mine || m.rank == mine && m.ID < t.self) {
			above = append(above, m)
		}
	}
	slices.SortFunc(above, func(a, b *member) int { return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.ID, b.ID)) })
	there := 0
	for _, m := range above {
		switch {
		case m.direct || there >= n:
			m.awaited = time.Time{}
		case m.awaited.IsZero():
			m.awaited = now
		case now.Sub(m.awaited) >= relayAwaited:
			continue
		}
		there++
	}
	return there < n
}

// isContact reports whether a member of another zone is one that this zone is told of.
func (t *table) isContact(id peer.ID) bool {
	m := t.members[id]
	if m == nil {
		return false
	}
	if m.Seed {
		return true
	}
	above := 0
	for _, o := range t.members {
		if o.Zone == m.Zone && !o.Seed && (o.rank > m.rank || o.rank == m.rank && o.ID < m.ID) {
			above++
		}
	}
	return above < contacts
}

// rank is the rendezvous weight of a peer in a zone: the same number on every node.
func rank(zone string, id peer.ID) uint64 {
	sum := sha256.Sum256([]byte("meshd/relay\x00" + zone + "\x00" + string(id)))
	return binary.BigEndian.Uint64(sum[:])
}

// weightKey and weight are a rendezvous hash that costs nanoseconds, for choices that are made over all members again
// and again. It is FNV-1a with the finaliser of SplitMix64, the same on every node; nobody gains by a high rank.
func weightKey(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

func weight(key uint64, id peer.ID) uint64 {
	x := key ^ weightKey(string(id))
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
