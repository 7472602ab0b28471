package netsim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// toy is the cheapest swarm that moves as much as a real one: pieces at random among neighbours, news every 10 ms to 32 of
// them. It shows what the engine and the network cost by themselves.
type toy struct {
	e       *engine
	id      int32
	now     swarm.Time
	wake    swarm.Time
	have    []uint64
	pending []uint64
	theirs  [][]uint64
	near    []int32
	place   map[int32]int
	missing int
	asked   int
	gen     uint64
	active  int
	queue   []event
	news    []uint32
	rng     *rand.Rand
	done    *int64
}

const toyPieces = 1024

func (a *toy) alarm() (swarm.Time, bool) { return max(a.wake, a.now), a.wake != never }

func (a *toy) tick(now swarm.Time, out *outbox) {
	a.now, a.wake = now, never
	news := append([]uint32(nil), a.news...)
	a.news = a.news[:0]
	for _, n := range a.near {
		out.events = append(out.events, event{at: now.Add(a.e.t.flight(a.id, n)), node: n, from: a.id, kind: evMessage, msg: news})
	}
}

func (a *toy) handle(ev *event, out *outbox) {
	a.now = max(a.now, ev.at)
	switch ev.kind {
	case evMessage:
		b := a.theirs[a.place[ev.from]]
		for _, p := range ev.msg.([]uint32) {
			b[p/64] |= 1 << (p % 64)
		}
		a.ask(out)
	case evAsk:
		if a.active < 4 {
			a.serve(ev, out)
		} else {
			a.queue = append(a.queue, *ev)
		}
	case evServed:
		a.active--
		if len(a.queue) > 0 {
			a.serve(&a.queue[0], out)
			a.queue = a.queue[1:]
		}
	case evPiece:
		a.asked--
		a.missing--
		if a.missing == 0 {
			*a.done++
		}
		a.have[ev.unit/64] |= 1 << (ev.unit % 64)
		a.news = append(a.news, ev.unit)
		if a.wake == never {
			a.wake = a.now.Add(10 * time.Millisecond)
		}
		a.ask(out)
	}
}

func (a *toy) serve(ev *event, out *outbox) {
	a.active++
	a.gen++
	f := flow{src: a.id, dst: ev.from, part: 1 << 20, size: 1 << 20, unit: ev.unit, cap: 1e12}
	out.net = append(out.net, command{at: a.now.Add(time.Duration(a.e.width)), key: uint64(a.id)<<36 | a.gen, flow: f})
}

func (a *toy) ask(out *outbox) {
	for tries := 0; a.asked < 6 && a.missing > a.asked && tries < 4; tries++ {
		n := a.rng.IntN(len(a.near))
		start := a.rng.IntN(toyPieces / 64)
		for k := range toyPieces / 64 {
			w := (start + k) % (toyPieces / 64)
			if free := a.theirs[n][w] &^ a.have[w] &^ a.pending[w]; free != 0 {
				bit := uint32(0)
				for free>>bit&1 == 0 {
					bit++
				}
				p := uint32(w)*64 + bit
				a.pending[w] |= 1 << bit
				a.asked++
				out.events = append(out.events, event{at: a.now.Add(a.e.t.flight(a.id, a.near[n])), node: a.near[n], from: a.id, kind: evAsk, unit: p})
				break
			}
		}
	}
}

// BenchmarkEngine runs the toy swarm of a 1 GiB blob: virtual and wall seconds, pieces and events per second of wall time.
func BenchmarkEngine(b *testing.B) {
	for _, n := range []int{200, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if n > 1000 && testing.Short() {
				b.Skip("long")
			}
			for b.Loop() {
				began := time.Now()
				s, err := Parse("x.yaml", fmt.Appendf(nil, "name: x\nzones: [{name: a, hosts: %d}]\nlayers: [{size: 1GiB}]\nnetwork: {tolerance: 1%%}\n", n))
				if err != nil {
					b.Fatal(err)
				}
				e := newEngine(newTopology(s))
				var done int64
				agents := make([]*toy, n)
				for i := range agents {
					agents[i] = newToy(e, int32(i), &done)
					e.agents[i] = agents[i]
				}
				for i, a := range agents {
					rng := rand.New(rand.NewPCG(1, uint64(i)))
					for range 16 {
						if o := int32(rng.IntN(n)); o != a.id {
							a.meet(o)
							agents[o].meet(a.id)
						}
					}
				}
				for p := range uint32(toyPieces) { // each piece begins somewhere
					a := agents[int(p)*7%n]
					a.have[p/64] |= 1 << (p % 64)
					a.missing--
					a.news = append(a.news, p)
					a.wake = 0
					e.cal.put(event{node: a.id, kind: evWake})
				}
				if err := e.run(context.Background(), never, func() (bool, error) { return done == int64(n), nil }); err != nil {
					b.Fatal(err)
				}
				wall := time.Since(began).Seconds()
				b.ReportMetric(float64(e.now)/1e9, "virtual-s")
				b.ReportMetric(float64(n)*toyPieces/wall, "pieces/s")
			}
		})
	}
}

func newToy(e *engine, id int32, done *int64) *toy {
	return &toy{
		e: e, id: id, wake: never, have: make([]uint64, toyPieces/64), pending: make([]uint64, toyPieces/64),
		place: map[int32]int{}, missing: toyPieces, rng: rand.New(rand.NewPCG(2, uint64(id))), done: done,
	}
}

func (a *toy) meet(o int32) {
	if _, ok := a.place[o]; !ok {
		a.place[o] = len(a.near)
		a.near = append(a.near, o)
		a.theirs = append(a.theirs, make([]uint64, toyPieces/64))
	}
}
