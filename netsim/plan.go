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
	for _, k := range w.t.strikes() {
		w.strike(k)
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
