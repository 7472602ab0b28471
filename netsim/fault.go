package netsim

import (
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// kill ends a node. Unless it goes silently its connections are reset, and all who had one learn it at once.
func (w *world) kill(i int32, now swarm.Time, silent bool) {
	h := w.hosts[i]
	if h.dead {
		return
	}
	h.dead = true
	if h.started == never && w.arrived[i] != never || h.started != never && h.ended == 0 {
		w.open--
	}
	notice := time.Duration(0)
	if silent {
		notice = w.t.s.Delays.Detect.std()
	}
	for _, fl := range w.net.kill(i) {
		switch {
		case fl.src == atOrigin, silent:
		case fl.src == i:
			w.tell(fl.dst, i, now, 0, event{kind: evReset, xfer: fl.key})
		default:
			w.tell(fl.src, i, now, 0, event{kind: evReset, xfer: fl.key})
		}
	}
	if !silent {
		for _, u := range h.uploads {
			w.tell(u.to, i, now, 0, event{kind: evReset, xfer: u.xfer})
		}
		for _, r := range h.asked {
			w.tell(r.to, i, now, 0, event{kind: evCancel, xfer: r.xfer})
		}
	}
	for _, o := range w.hosts {
		if !o.dead && o.knows(i) {
			w.tell(o.id, i, now, notice, event{kind: evLost})
		}
	}
}

// tell has an event reach a node as news of another.
func (w *world) tell(to, from int32, now swarm.Time, after time.Duration, ev event) {
	ev.at, ev.node, ev.from = now.Add(after+w.t.flight(from, to)), to, from
	w.cal.put(ev)
}

// halt stops a node's process, with its connections open, or lets it go on.
func (w *world) halt(i int32, on bool) {
	h := w.hosts[i]
	if h.dead || h.halted == on {
		return
	}
	h.halted = on
	by := 1
	if !on {
		by = -1
		for _, ev := range h.frozen {
			ev.at = w.now
			w.cal.put(ev)
		}
		h.frozen = nil
		w.cal.put(event{at: w.now, node: i, kind: evWake})
	}
	w.net.block(w.net.up(i), by)
	w.net.block(w.net.down(i), by)
}

// cutOff takes a zone off the network for a time. Connections out of it survive if that is short.
func (w *world) cutOff(zone int32, now swarm.Time, d time.Duration) {
	w.cut[zone] = max(w.cut[zone], now.Add(d))
	links := []int32{w.net.pipeIn(zone), w.net.pipeOut(zone)}
	for _, l := range links {
		w.net.block(l, 1)
	}
	detect := w.t.s.Delays.Detect.std()
	w.at(now.Add(d), func(now swarm.Time) {
		for _, l := range links {
			w.net.block(l, -1)
		}
		if d > detect {
			w.across(zone, func(a, b int32) { w.tell(a, b, now, reconnect, event{kind: evMember}) })
		}
	})
	if d > detect {
		w.at(now.Add(detect), func(now swarm.Time) {
			w.across(zone, func(a, b int32) { w.tell(a, b, now, 0, event{kind: evLost}) })
			w.breakFlows(zone, now)
		})
	}
}

// reconnect is how long after a cut heals the nodes have found each other again.
const reconnect = time.Second

// across calls f for each pair of living nodes, one of them in a zone, that know each other from the start, both ways.
func (w *world) across(zone int32, f func(a, b int32)) {
	for _, a := range w.t.zones[zone] {
		for b := range w.t.nodes {
			if w.t.nodes[b].zone == zone || w.hosts[a].dead || w.hosts[b].dead {
				continue
			}
			if w.t.knows(a, int32(b)) {
				f(a, int32(b))
			}
			if w.t.knows(int32(b), a) {
				f(int32(b), a)
			}
		}
	}
}

// breakFlows ends the transfers through a zone's pipe, as lost connections do.
func (w *world) breakFlows(zone int32, now swarm.Time) {
	for _, l := range []int32{w.net.pipeIn(zone), w.net.pipeOut(zone)} {
		for len(w.net.links.links[l].flows) > 0 {
			i := w.net.links.links[l].flows[0].flow
			fl := w.net.flows[i]
			w.net.stop(i)
			if fl.src == atOrigin {
				w.cal.put(event{at: now, node: fl.dst, kind: evOriginFail, xfer: fl.key, load: uint8(swarm.OriginUnreachable)})
				continue
			}
			w.cal.put(event{at: now, node: fl.dst, from: fl.src, kind: evReset, xfer: fl.key})
			w.cal.put(event{at: now, node: fl.src, from: fl.dst, kind: evReset, xfer: fl.key})
		}
	}
}

// originGone makes the registry vanish; 0 is for good. Responses under way break off.
func (w *world) originGone(now swarm.Time, d time.Duration) {
	w.down = never
	if d > 0 {
		w.down = now.Add(d)
	}
	l := w.net.egress()
	for len(w.net.links.links[l].flows) > 0 {
		i := w.net.links.links[l].flows[0].flow
		fl := w.net.flows[i]
		w.net.stop(i)
		w.cal.put(event{at: now, node: fl.dst, kind: evOriginFail, xfer: fl.key, load: uint8(swarm.OriginUnreachable)})
	}
}
