package netsim

import "github.com/meshd-project/meshd/exchange/swarm"

// direct is a host that pulls from the registry, as without any mesh.
type direct struct{ station }

func (d *direct) tick(swarm.Time, *outbox) {}

func (d *direct) handle(ev *event, out *outbox) {
	d.on(ev, out)
	switch ev.kind {
	case evWant:
		d.started = d.now
		d.readOrigin(0)
	case evOriginPiece:
		if d.keep(ev); d.first == never {
			d.first = d.now
		}
		if d.full() {
			d.finish()
		}
	}
}

// cache is a node of a CDN-like system: seeds read from the registry once and pass on what they have; a host reads from
// one seed, a few pieces ahead.
type cache struct {
	station
	source  int32
	next    uint32
	reading bool
	waiting []event // requests for pieces that are yet to come
}

// readAhead is the number of pieces that a host of a CDN asks for at a time.
const readAhead = 4

func newCache(st station) *cache {
	c := &cache{station: st, source: -1}
	if n := len(st.r.t.seeds); n > 0 {
		c.source = st.r.t.seeds[mix(st.r.t.salt^uint64(st.id))%uint64(n)]
	}
	return c
}

func (c *cache) tick(swarm.Time, *outbox) {}

func (c *cache) handle(ev *event, out *outbox) {
	c.on(ev, out)
	switch ev.kind {
	case evWant:
		c.started = c.now
		for range readAhead {
			c.ask()
		}
	case evAsk:
		c.asked(ev)
	case evOriginPiece, evPiece:
		c.took(ev)
	case evLost:
		c.lost(ev.from)
	}
}

// ask asks the seed for the next piece.
func (c *cache) ask() {
	for int(c.next) < c.r.pieces && c.have.Has(swarm.PieceIndex(c.next)) {
		c.next++
	}
	if int(c.next) < c.r.pieces && c.source >= 0 {
		c.ship(c.source, event{kind: evAsk, unit: c.next})
		c.next++
	}
}

func (c *cache) asked(ev *event) {
	if !c.reading && !c.full() {
		c.reading = true
		c.readOrigin(0)
	}
	if c.have.Has(swarm.PieceIndex(ev.unit)) {
		c.upload(ev.from, ev.unit)
		return
	}
	c.waiting = append(c.waiting, *ev)
}

func (c *cache) took(ev *event) {
	c.keep(ev)
	kept := c.waiting[:0]
	for _, w := range c.waiting {
		if w.unit == ev.unit {
			c.upload(w.from, w.unit)
		} else {
			kept = append(kept, w)
		}
	}
	c.waiting = kept
	if !c.client {
		return
	}
	if c.first == never {
		c.first = c.now
	}
	if c.full() {
		c.finish()
		return
	}
	c.ask()
}

// lost moves a host to another seed.
func (c *cache) lost(seed int32) {
	if seed != c.source || !c.client || c.ended != 0 {
		return
	}
	for _, s := range c.r.t.seeds {
		if s != seed && !c.r.dead[s] {
			c.source, c.next = s, 0
			if c.started != never {
				for range readAhead {
					c.ask()
				}
			}
			return
		}
	}
}
