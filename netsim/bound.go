package netsim

import (
	"math"
	"time"
)

// A Bound is a time that no system can beat, and what sets it.
type Bound struct {
	Time time.Duration
	By   string // "origin", "host", "swarm", "pipe into ZONE", "pipes out"
}

// bound returns the fluid lower bound for all judged hosts to have all layers when they all begin at once and the bytes
// leave the origin: the greatest of
//
//	F / u_origin                      every byte leaves the origin at least once
//	F / d                             the slowest judged host takes it all in
//	N*F / (u_origin + sum of u)       all that is taken in was sent by somebody
//	F / in(k)                         every byte enters each zone that has hosts and not the origin
//	(K-1)*F / sum of out              and left one (with the origin inside a zone)
//
// after Kumar and Ross (2006), with pipes between zones. Slow hosts and liars are not judged, but they send. What is on
// disks at the start counts for a host's own part of F, not for the origin's unless it is all there.
func bound(t *topology, layers *layers, w *world) Bound {
	b := Bound{By: "nothing to move"}
	raise := func(secs float64, by string) {
		if d := time.Duration(math.Min(secs, 1e9) * 1e9); d > b.Time {
			b = Bound{d, by}
		}
	}
	missing := missingBytes(t, layers, w)
	f := float64(layers.bytes)
	sent, total := 0.0, 0.0
	if !missing.somewhere {
		sent = float64(t.s.Origin.Egress)
		raise(f/float64(t.s.Origin.Egress), "origin")
	}
	for _, n := range t.nodes {
		sent += n.up
	}
	zones, out := 0, 0.0
	for z := range t.s.Zones {
		wants := 0.0
		for _, i := range t.zones[z] {
			if !t.judged(i) {
				continue
			}
			need := missing.of[i]
			raise(need/t.nodes[i].down, "host")
			total += need
			wants = max(wants, need)
		}
		out += float64(t.s.Zones[z].Out)
		if wants > 0 && int32(z) != t.home && !missing.zone[z] {
			zones++
			raise(wants/float64(t.s.Zones[z].In), "pipe into "+t.s.Zones[z].Name)
		}
	}
	raise(total/sent, "swarm")
	if t.home >= 0 && !missing.somewhere {
		raise(float64(zones)*f/out, "pipes out")
	}
	return b
}

// judged reports whether a node counts in the times of a result.
func (t *topology) judged(i int32) bool {
	n := &t.nodes[i]
	return !n.seed && !n.slow && n.lie == honest
}

// missing is what is yet to be moved at the start.
type missing struct {
	of        []float64 // bytes, by node
	zone      []bool    // somebody in the zone has all
	somewhere bool      // somebody has all
}

func missingBytes(t *topology, layers *layers, w *world) missing {
	m := missing{of: make([]float64, len(t.nodes)), zone: make([]bool, len(t.s.Zones))}
	for i := range t.nodes {
		left := layers.bytes
		if w != nil {
			left -= w.hosts[i].onDisk()
		}
		m.of[i] = float64(left)
		if left == 0 && layers.bytes > 0 {
			m.zone[t.nodes[i].zone], m.somewhere = true, true
		}
	}
	return m
}

// onDisk returns the bytes of the image that a host has.
func (h *host) onDisk() int64 {
	var n int64
	for b := range h.pulls {
		l := h.w.layers.list[b].layout
		p := &h.pulls[b]
		if p.full() {
			n += l.Size
			continue
		}
		n += int64(p.count) * l.PieceSize // the last piece may be shorter: negligible, and only lowers the bound
	}
	return min(n, h.w.layers.bytes)
}
