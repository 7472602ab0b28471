package netsim

import (
	"math"
	"slices"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// arrive puts the begin of each host's pull into the calendar.
func (w *world) arrive() {
	w.arrived = arrivals(w.t)
	spare := w.spares()
	for _, i := range w.t.hosts {
		if slices.Contains(spare, i) {
			w.arrived[i] = never
			continue
		}
		w.open++
		w.cal.put(event{at: w.arrived[i], node: i, kind: evWant})
	}
}

// begin is when the first pull may begin: nodes are up and know each other by then.
const begin = swarm.Time(10 * time.Millisecond)

// arrivals draws when each host's client comes; never for seeds.
func arrivals(t *topology) []swarm.Time {
	at := make([]swarm.Time, len(t.nodes))
	for i := range at {
		at[i] = never
	}
	left := slices.Clone(t.hosts)
	place := func(k int, a Arrival, who []int32) {
		next := 0.0
		for n, i := range who {
			key := mix(t.salt ^ uint64(keyArrival+k)<<32 ^ uint64(i))
			d := 0.0
			switch a.Kind {
			case "poisson":
				next -= math.Log(1-unit(key)) / a.Rate
				d = next
			case "rolling":
				d = a.Over.seconds() * float64(n) / float64(len(who))
			case "uniform":
				d = a.Over.seconds() * unit(key)
			}
			at[i] = begin.Add(a.At.std() + time.Duration(d*1e9))
		}
		left = slices.DeleteFunc(left, func(i int32) bool { return at[i] != never })
	}
	for k, a := range t.s.Arrivals {
		if a.Share > 0 {
			n := int(float64(a.Share)*float64(len(t.hosts)) + 0.5)
			place(k, a, t.sample(left, n, uint64(keyArrival+k)<<32))
		}
	}
	rest := Arrival{Kind: "at_once"}
	for _, a := range t.s.Arrivals {
		if a.Share == 0 {
			rest = a
		}
	}
	place(len(t.s.Arrivals), rest, left)
	return at
}

// spares returns the hosts that begin to pull only when churn takes another: as many as it will take.
func (w *world) spares() []int32 {
	c := w.t.s.Churn
	n := int(c.Rate * (c.Until - c.From).seconds())
	return w.t.sample(w.t.hosts, min(n, len(w.t.hosts)/2), keyChurn<<32)
}

// schedule puts faults and churn into the order of operations.
func (w *world) schedule() {
	for k, f := range w.t.s.Faults {
		w.fault(f, uint64(keyFault+k)<<32)
	}
	c := w.t.s.Churn
	spare := w.spares()
	for n, i := range spare {
		at := begin.Add(c.From.std() + time.Duration(float64(n)/c.Rate*1e9))
		victim := w.t.hosts[mix(w.t.salt^uint64(keyChurn)<<40^uint64(n))%uint64(len(w.t.hosts))]
		w.open++
		w.at(at, func(now swarm.Time) {
			if !slices.Contains(spare, victim) {
				w.kill(victim, now, false)
			}
			w.arrived[i] = now
			w.cal.put(event{at: now, node: i, kind: evWant})
		})
	}
}

// hit returns the nodes that a fault is for.
func (w *world) hit(f Fault, key uint64) []int32 {
	switch {
	case f.KillSeeds > 0:
		return w.t.sample(w.t.seeds, f.KillSeeds, key)
	case f.StopSeeds > 0:
		return w.t.sample(w.t.seeds, f.StopSeeds, key)
	case f.KillHosts > 0:
		return w.t.sample(w.t.hosts, f.KillHosts, key)
	}
	return w.t.draw(max(f.Kill, f.Stop, f.Slow), key)
}

// fault schedules a fault. Times count from the first arrival.
func (w *world) fault(f Fault, key uint64) {
	at := begin.Add(f.At.std())
	switch {
	case f.Cut != "":
		w.at(at, func(now swarm.Time) { w.cutOff(int32(w.t.s.zone(f.Cut)), now, f.For.std()) })
		return
	case f.Pipe != "":
		zone := int32(w.t.s.zone(f.Pipe))
		w.rescaleFor(at, f, w.net.pipeIn(zone), w.net.pipeOut(zone))
		return
	case f.Origin:
		w.at(at, func(now swarm.Time) { w.originGone(now, f.For.std()) })
		return
	}
	for _, i := range w.hit(f, key) {
		when := at.Add(time.Duration(float64(f.Spread) * unit(mix(w.t.salt^key^mix(uint64(i))))))
		switch {
		case f.Kill > 0 || f.KillSeeds > 0 || f.KillHosts > 0:
			w.at(when, func(now swarm.Time) { w.kill(i, now, f.Silent) })
		case f.Stop > 0 || f.StopSeeds > 0:
			w.at(when, func(now swarm.Time) { w.halt(i, true) })
			if f.For > 0 {
				w.at(when.Add(f.For.std()), func(now swarm.Time) { w.halt(i, false) })
			}
		default:
			w.rescaleFor(when, f, w.net.up(i), w.net.down(i))
		}
	}
}

func (w *world) rescaleFor(at swarm.Time, f Fault, links ...int32) {
	w.at(at, func(swarm.Time) {
		for _, l := range links {
			w.net.rescale(l, f.Factor)
		}
	})
	if f.For > 0 {
		w.at(at.Add(f.For.std()), func(swarm.Time) {
			for _, l := range links {
				w.net.rescale(l, 1/f.Factor)
			}
		})
	}
}
