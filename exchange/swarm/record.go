package swarm

import (
	"slices"
	"time"
)

// maxRecords bounds the records that are kept of peers that are not members now.
const maxRecords = 1024

// record is what is held against a peer. It outlives the member: who leaves and comes back, or just breaks its
// connection, begins with what it left.
type record struct {
	penalty     float64 // points at penaltyAt, decaying
	penaltyAt   Time
	strikes     int  // quarantines so far, forgotten after an hour without one
	uselessTil  Time // nothing is asked of it before
	isolatedTil Time // nor has it anything to say or to ask
}

// pastRecord is the record of a peer that has left.
type pastRecord struct {
	id PeerID
	record
}

// lapsed reports whether nothing is held against a peer any more: its quarantine is over for an hour, and its points have
// decayed to nothing that counts.
func (r record) lapsed(now Time, halfLife time.Duration) bool {
	over := now.Sub(max(r.uselessTil, r.isolatedTil)) > time.Hour || r.strikes == 0 && r.uselessTil == 0 && r.isolatedTil == 0
	return over && (r.penalty == 0 || now.Sub(r.penaltyAt) > 8*halfLife)
}

// keepRecord remembers what is held against a member that leaves. When there are too many, the oldest goes.
func (c *Core) keepRecord(m *member) {
	c.past = slices.DeleteFunc(c.past, func(p pastRecord) bool { return p.lapsed(c.now, c.cfg.PenaltyHalfLife) })
	if m.lapsed(c.now, c.cfg.PenaltyHalfLife) {
		return
	}
	if len(c.past) == maxRecords {
		c.past = slices.Delete(c.past, 0, 1)
	}
	c.past = append(c.past, pastRecord{m.ID, m.record})
}

// recall gives a member that comes back what is held against it.
func (c *Core) recall(m *member) {
	i := slices.IndexFunc(c.past, func(p pastRecord) bool { return p.id == m.ID })
	if i < 0 {
		return
	}
	m.record = c.past[i].record
	c.past = slices.Delete(c.past, i, i+1)
}
