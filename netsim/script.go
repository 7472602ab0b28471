package netsim

import (
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// Script is what a scenario comes to once all that is random in it is drawn: who is where, who begins when, and what
// befalls whom. The simulator plays it, and package lab plays the same with processes.
type Script struct {
	Nodes []Node
	// OneWay is the time from a zone to another, or to itself; Origin that between the registry and everybody.
	OneWay  [][]time.Duration
	Origin  time.Duration
	Home    int // zone of the registry, -1 if it is in none
	Strikes []Strike
	Bound   Bound
}

// Node is a host or a seed.
type Node struct {
	Name     string // "a-1", "b-seed-2"
	Zone     int    // index in Scenario.Zones
	Seed     bool
	Judged   bool          // it counts in the times of a result
	Up, Down Rate          // of its link
	Arrives  time.Duration // when its client begins to pull, from the release; -1: it has none
}

// Harm is what a strike does.
type Harm uint8

// What can happen to a node, to a zone and to the registry.
const (
	HarmKill   Harm = iota // the node's process ends
	HarmStop               // the node's process halts with its connections open
	HarmSlow               // the node's links have Factor of their rates
	HarmCut                // the zone is off the network
	HarmPipe               // the zone's pipes have Factor of their rates
	HarmOrigin             // the registry vanishes
)

// Strike is a fault that befalls one node, one zone or the registry.
type Strike struct {
	At     time.Duration // from the release
	Harm   Harm
	Fault  int // index in Scenario.Faults
	Node   int // of HarmKill, HarmStop and HarmSlow
	Zone   int // of HarmCut and HarmPipe
	Factor float64
	Silent bool          // HarmKill: nobody's connection is reset
	For    time.Duration // then it is over; 0: it stays
}

// Script draws all that is random in the scenario, with its seed. What churn would do is not in it.
func (s *Scenario) Script() *Script {
	t := newTopology(s)
	p := &Script{OneWay: t.half, Origin: t.origin, Home: int(t.home), Strikes: t.strikes(), Bound: bound(t, newLayers(s), nil)}
	at := arrivals(t)
	for i, n := range t.nodes {
		one := Node{Name: n.name, Zone: int(n.zone), Seed: n.seed, Judged: t.judged(int32(i)), Up: Rate(n.up), Down: Rate(n.down), Arrives: -1}
		if at[i] != never {
			one.Arrives = at[i].Sub(begin)
		}
		p.Nodes = append(p.Nodes, one)
	}
	return p
}

// strikes draws whom the faults hit and when, in the order of the faults.
func (t *topology) strikes() []Strike {
	var all []Strike
	for k, f := range t.s.Faults {
		one := Strike{At: f.At.std(), Fault: k, Factor: f.Factor, Silent: f.Silent, For: f.For.std()}
		switch {
		case f.Cut != "":
			one.Harm, one.Zone = HarmCut, t.s.zone(f.Cut)
		case f.Pipe != "":
			one.Harm, one.Zone = HarmPipe, t.s.zone(f.Pipe)
		case f.Origin:
			one.Harm = HarmOrigin
		default:
			all = append(all, t.struck(f, one, uint64(keyFault+k)<<32)...)
			continue
		}
		all = append(all, one)
	}
	return all
}

// struck returns a strike for each node that a fault hits.
func (t *topology) struck(f Fault, one Strike, key uint64) []Strike {
	switch {
	case f.Kill > 0 || f.KillSeeds > 0 || f.KillHosts > 0:
		one.Harm = HarmKill
	case f.Stop > 0 || f.StopSeeds > 0:
		one.Harm = HarmStop
	default:
		one.Harm = HarmSlow
	}
	var all []Strike
	for _, i := range t.hit(f, key) {
		one.Node, one.At = int(i), f.At.std()+time.Duration(float64(f.Spread)*unit(mix(t.salt^key^mix(uint64(i)))))
		all = append(all, one)
	}
	return all
}

// hit returns the nodes that a fault is for.
func (t *topology) hit(f Fault, key uint64) []int32 {
	switch {
	case f.KillSeeds > 0:
		return t.sample(t.seeds, f.KillSeeds, key)
	case f.StopSeeds > 0:
		return t.sample(t.seeds, f.StopSeeds, key)
	case f.KillHosts > 0:
		return t.sample(t.hosts, f.KillHosts, key)
	}
	return t.draw(max(f.Kill, f.Stop, f.Slow), key)
}

// strike puts a strike into the order of operations. Times count from the first arrival.
func (w *world) strike(k Strike) {
	at := begin.Add(k.At)
	switch i, zone := int32(k.Node), int32(k.Zone); k.Harm {
	case HarmCut:
		w.at(at, func(now swarm.Time) { w.cutOff(zone, now, k.For) })
	case HarmPipe:
		w.rescaleFor(at, k, w.net.pipeIn(zone), w.net.pipeOut(zone))
	case HarmOrigin:
		w.at(at, func(now swarm.Time) { w.originGone(now, k.For) })
	case HarmKill:
		w.at(at, func(now swarm.Time) { w.kill(i, now, k.Silent) })
	case HarmStop:
		w.at(at, func(swarm.Time) { w.halt(i, true) })
		if k.For > 0 {
			w.at(at.Add(k.For), func(swarm.Time) { w.halt(i, false) })
		}
	case HarmSlow:
		w.rescaleFor(at, k, w.net.up(i), w.net.down(i))
	}
}

func (w *world) rescaleFor(at swarm.Time, k Strike, links ...int32) {
	w.at(at, func(swarm.Time) {
		for _, l := range links {
			w.net.rescale(l, k.Factor)
		}
	})
	if k.For > 0 {
		w.at(at.Add(k.For), func(swarm.Time) {
			for _, l := range links {
				w.net.rescale(l, 1/k.Factor)
			}
		})
	}
}

// Refuse returns an error about a field, "faults[1].slow", with its line in the file, or that of the nearest field around it.
func (s *Scenario) Refuse(field, format string, args ...any) error {
	return s.problem(field, format, args...)
}

// Given reports whether the file has the field.
func (s *Scenario) Given(field string) bool { return s.given(field) }
