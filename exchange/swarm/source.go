package swarm

import (
	"slices"
	"time"
)

// source is another zone out of which pieces come.
type source struct {
	zone   string
	key    uint64
	window float64       // pieces that this node has under way at a time; below 1 it pauses between them
	next   Time          // no import before
	took   time.Duration // EWMA of imports; 0 while there was none

	// Of the last look.
	have   Bitmap // what its nodes have, and its seeds if those are to be asked
	count  int    // of have
	whole  int    // pieces that its nodes and seeds have
	newsAt Time   // count changed, or the zone was met
	wants  bool   // nodes of it lack pieces
	under  int    // imports under way
}

// source returns the zone of a member of another zone.
func (c *Core) source(b *blob, m *member) *source {
	for _, s := range b.imports.sources {
		if s.zone == m.Zone {
			return s
		}
	}
	s := &source{zone: m.Zone, key: hash64(m.Zone), window: float64(c.cfg.ImportWindow), have: NewBitmap(len(b.pieces)), newsAt: c.now}
	b.imports.sources = append(b.imports.sources, s)
	return s
}

// lookAbroad brings up to date what other zones have and what is under way from there.
func (c *Core) lookAbroad(b *blob) {
	im := &b.imports
	for _, s := range im.sources {
		s.wants, s.whole = false, 0
		clear(s.have.words)
	}
	for _, n := range b.neighbours {
		if s := c.sourceOfNode(b, n); s != nil {
			s.wants = s.wants || n.wants
			s.add(n)
		}
	}
	for _, s := range im.sources {
		if n := s.have.Count(); n != s.count {
			s.count, s.newsAt = n, c.now
		}
	}
	for _, n := range b.neighbours {
		if n.near || !n.m.Seed {
			continue
		}
		s := c.source(b, n.m)
		s.whole = max(s.whole, n.count)
		if !c.spared(s) {
			s.add(n)
		}
	}
	im.most = nil
	most := -1
	for _, s := range im.sources {
		switch s.whole = max(s.whole, s.count); {
		case s.whole > most:
			im.most, most = s, s.whole
		case s.whole == most:
			im.most = nil
		}
	}
	c.countImports(b)
}

// sourceOfNode returns the zone of a neighbour of another zone that is no seed, nil for others.
func (c *Core) sourceOfNode(b *blob, n *neighbour) *source {
	if n.near || n.m.Seed {
		return nil
	}
	return c.source(b, n.m)
}

func (s *source) add(n *neighbour) {
	for k, w := range n.have.words {
		s.have.words[k] |= w
	}
}

// countImports counts what is under way from each zone.
func (c *Core) countImports(b *blob) {
	for _, s := range b.imports.sources {
		s.under = 0
	}
	for _, f := range b.flights {
		if f.to.Zone != c.cfg.Zone {
			c.source(b, f.to).under++
		}
	}
}

// spared reports whether the seeds of a zone are left to its own nodes: those want the blob and get on with it, and
// then are who to ask.
func (c *Core) spared(s *source) bool { return s.wants && c.now.Sub(s.newsAt) < c.cfg.Hold }

// room reports whether one more import out of a zone may begin.
func (s *source) room(now Time) bool {
	if s.window < 1 {
		return s.under == 0 && now >= s.next
	}
	return s.under < int(s.window)
}

// room reports whether one more import may begin out of any zone.
func (im *imports) room(now Time) bool {
	return slices.ContainsFunc(im.sources, func(s *source) bool { return s.room(now) })
}

// load is the share of the window that one more import would fill.
func (s *source) load() float64 { return float64(s.under+1) / s.window }

// imported adapts the window of a zone to how long an import out of it took.
func (c *Core) imported(b *blob, m *member, took time.Duration) {
	if n := m.in(b); n != nil {
		n.fed = c.now
	}
	s := c.source(b, m)
	if s.took == 0 {
		s.took = took
	}
	s.took += (took - s.took) * 3 / 10
	good := max(c.cfg.ImportTime, time.Duration(c.cfg.ImportTrips)*m.RTT, c.pieceTime)
	switch {
	case took <= good:
		s.window = min(s.window+0.5/max(s.window, 0.5), float64(c.cfg.Imports))
	case took > 2*good:
		s.window = max(s.window*0.75, leastWindow)
	}
	if s.window < 1 {
		s.next = c.now.Add(time.Duration(float64(took) * (1/s.window - 1)))
	}
}

// leastWindow is the least that congestion leaves of a window.
const leastWindow = 1.0 / 16
