package netsim

import "time"

// Measured is what a run with real processes showed of a scenario, as far as it can be had from outside. Slices are
// indexed as Script.Nodes or Scenario.Zones.
type Measured struct {
	System string
	Took   []time.Duration // from the arrival of each host to its last byte; -1: it did not finish, or has no client
	First  []time.Duration // until the first byte of a layer, the same way
	Killed []bool
	Image  int64 // bytes of all blobs, as pushed

	OriginBytes, OriginRequests int64
	Into                        []int64 // bytes into each zone
	BySource                    map[string]int64
	Duplicates                  int64 // bytes that nodes had already
	Quarantines                 int64
	WrongBytes                  int64
	Wall                        time.Duration
}

// Result puts what was measured into the form of a simulated run's. What the simulator counts and nobody can see from
// outside stays 0: control messages, piece requests, the load of links.
func (s *Scenario) Result(p *Script, m *Measured) *Result {
	r := &Result{
		Scenario: s.Name, System: m.System, Seed: s.Seed, Nodes: len(p.Nodes), Zones: len(s.Zones), Bytes: m.Image,
		OriginRequests: m.OriginRequests, BySource: m.BySource, Quarantines: m.Quarantines, WrongBytes: m.WrongBytes, WallS: m.Wall.Seconds(),
	}
	var took, first []float64
	for i, n := range p.Nodes {
		done := m.Took[i] >= 0
		switch {
		case n.Arrives < 0:
		case m.Killed[i] && !done:
			r.Killed++
		case !n.Judged && done:
			r.OthersCompleted++
		case !n.Judged:
			r.OthersFailed++
		case !done:
			r.Failed++
		default:
			r.Completed++
			took, first = append(took, m.Took[i].Seconds()), append(first, m.First[i].Seconds())
			r.EndS = max(r.EndS, (n.Arrives + m.Took[i]).Seconds())
		}
	}
	r.times(took, first)
	r.bounded(p.Bound)
	r.copies(s, p.Home, m.OriginBytes, m.Into)
	var moved int64
	for _, n := range m.BySource {
		moved += n
	}
	if moved > 0 {
		r.Duplicates = float64(m.Duplicates) / float64(moved)
	}
	return r
}

// copies sets how many copies left the registry and came into each zone.
func (r *Result) copies(s *Scenario, home int, origin int64, into []int64) {
	size := max(float64(r.Bytes), 1)
	r.OriginCopies, r.IntoZone = float64(origin)/size, map[string]float64{}
	zones := 0
	for z, spec := range s.Zones {
		copies := float64(into[z]) / size
		r.IntoZone[spec.Name] = copies
		if z == home {
			continue
		}
		zones++
		r.ZoneCopies += copies
		r.ZoneCopiesMax = max(r.ZoneCopiesMax, copies)
	}
	r.ZoneCopies /= max(float64(zones), 1)
}
