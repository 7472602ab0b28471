package topology

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// wrongFactor is how many times farther than another zone a node's own has to be, and farther than nearRTT, for its
// label to be doubted.
const wrongFactor = 10

// Zone is what this node knows of a zone.
type Zone struct {
	Name     string
	Members  int           // known, this node not among them
	Seeds    int           // of these
	Measured int           // members with a measured RTT
	Median   time.Duration // of the measured RTTs, 0 if there is none
}

// Zones returns the zones that members are in, in the order of their names.
func (m *Map) Zones() []Zone {
	rtts := make(map[string][]time.Duration)
	zones := make(map[string]*Zone)
	for _, v := range m.Members() {
		z := zones[v.Zone]
		if z == nil {
			z = &Zone{Name: v.Zone}
			zones[v.Zone] = z
		}
		z.Members++
		if v.Seed {
			z.Seeds++
		}
		if v.RTT > 0 {
			z.Measured++
			rtts[v.Zone] = append(rtts[v.Zone], v.RTT)
		}
	}
	var out []Zone
	for name, z := range zones {
		if list := rtts[name]; len(list) > 0 {
			slices.Sort(list)
			z.Median = list[len(list)/2]
		}
		out = append(out, *z)
	}
	slices.SortFunc(out, func(a, b Zone) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Doubt returns a zone that RTT speaks for against the zone own, and false if there is none: the members of own are
// wrongFactor times as far as those of the other zone. Either this node's label or its neighbours' are wrong then.
func Doubt(own string, zones []Zone) (mine, other Zone, doubted bool) {
	for _, z := range zones {
		switch {
		case z.Measured == 0:
		case z.Name == own:
			mine = z
		case other.Measured == 0 || z.Median < other.Median:
			other = z
		}
	}
	doubted = mine.Measured > 0 && other.Measured > 0 && mine.Median > nearRTT && mine.Median >= wrongFactor*other.Median
	return mine, other, doubted
}

// LookAround decides by what is measured now whether there is a zone to join, without waiting for a window, and
// returns the name that it goes by, "" while undecided. It is for a node that has just come into the mesh.
func (m *Map) LookAround() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.zoner.window(time.Now(), m.sightings())
	return m.zoner.name
}

// sightings are the members measured; mu is held.
func (m *Map) sightings() []sighting {
	var out []sighting
	for id, e := range m.peers {
		if rtt := e.rtts.least(); e.known && e.connected && rtt > 0 {
			out = append(out, sighting{id, e.member.Zone, e.member.Inferred, rtt})
		}
	}
	return out
}

// judge looks at the zone once a window, tells Config.Moved if it changed, and returns the wait for the next window.
func (m *Map) judge(now time.Time) time.Duration {
	if !m.cfg.Inferred {
		return m.cfg.ZoneWindow
	}
	m.mu.Lock()
	moved := ""
	if m.nextWindow.IsZero() || !now.Before(m.nextWindow) {
		if !m.nextWindow.IsZero() && m.zoner.window(now, m.sightings()) {
			moved = m.zoner.name
		}
		m.nextWindow = now.Add(time.Duration((0.9 + 0.2*rand.Float64()) * float64(m.cfg.ZoneWindow)))
	}
	wait := m.nextWindow.Sub(now)
	m.mu.Unlock()
	if moved != "" {
		m.cfg.Moved(moved)
	}
	return wait
}
