//go:build unix

package netsim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/metrics"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// dice is the cheapest policy that moves as much and says as much as a core: pieces at random of neighbours at random,
// news every 10 ms to all neighbours, two uploads at a time. It keeps no bitmap of a neighbour: whoever was told a piece
// of last is asked for it.
type dice struct {
	ids     *[]swarm.PeerID // of all nodes
	self    swarm.PeerID
	zone    string
	rng     *rand.Rand
	near    []swarm.PeerID
	members int
	blob    digest.Digest
	have    swarm.Bitmap
	from    []int32 // the node that told of each piece, plus one; 0: none
	asked   swarm.Bitmap
	want    []swarm.PieceIndex // told of and not asked for
	pending int
	missing int
	flush   swarm.Time
	news    []swarm.Units
	active  int
	queue   []uint64
}

const (
	diceNeighbours = 24
	dicePending    = 6
	diceUploads    = 2
)

func newDice(cfg swarm.Config, seed uint64, ids *[]swarm.PeerID) policy {
	return &dice{ids: ids, self: cfg.Self, zone: cfg.Zone, rng: rand.New(rand.NewPCG(seed, 3))}
}

func (d *dice) Deadline() (swarm.Time, bool) { return d.flush, d.flush != 0 }

func (d *dice) Step(now swarm.Time, ev swarm.Event, out []swarm.Action) []swarm.Action {
	switch e := ev.(type) {
	case swarm.Member:
		d.meet(e)
	case swarm.Wanted:
		d.blob = e.Digest
		out = append(out, swarm.OpenBlob{Digest: e.Digest, Size: e.Size})
	case swarm.Held:
		out = d.held(now, e, out)
	case swarm.Received:
		if m, ok := e.Msg.(swarm.Have); ok && d.from != nil {
			out = d.told(e.From, m, out)
		}
	case swarm.PieceRequested:
		if d.active < diceUploads {
			d.active++
			return append(out, swarm.ServePiece{Xfer: e.Xfer})
		}
		d.queue = append(d.queue, e.Xfer)
	case swarm.PieceServed:
		d.active--
		if len(d.queue) > 0 {
			d.active++
			out = append(out, swarm.ServePiece{Xfer: d.queue[0]})
			d.queue = d.queue[1:]
		}
	case swarm.PieceArrived:
		out = d.arrived(now, e, out)
	case swarm.Tick:
		if now >= d.flush {
			var m swarm.Message = swarm.Have{Digest: d.blob, Pieces: append([]swarm.Units(nil), d.news...)}
			for _, id := range d.near {
				out = append(out, swarm.Send{To: id, Msg: m})
			}
			d.news, d.flush = d.news[:0], 0
		}
	}
	return out
}

// meet draws the neighbours from the members of the zone as they come.
func (d *dice) meet(e swarm.Member) {
	if e.Zone != d.zone || e.ID == d.self {
		return
	}
	d.members++
	if len(d.near) < diceNeighbours {
		d.near = append(d.near, e.ID)
	} else if i := d.rng.IntN(d.members); i < len(d.near) {
		d.near[i] = e.ID
	}
}

// held begins: what is here from the start is told to the neighbours.
func (d *dice) held(now swarm.Time, e swarm.Held, out []swarm.Action) []swarm.Action {
	d.have, d.missing = e.Have, e.Have.Len()-e.Have.Count()
	d.asked, d.from = e.Have.Clone(), make([]int32, e.Have.Len())
	for i := range e.Have.Len() {
		if e.Have.Has(swarm.PieceIndex(i)) {
			d.news = append(d.news, swarm.Units{First: uint32(i), Count: 1})
		}
	}
	d.flush = now.Add(20 * time.Millisecond)
	return out
}

func (d *dice) told(from swarm.PeerID, m swarm.Have, out []swarm.Action) []swarm.Action {
	who := int32(from[34])<<24 | int32(from[35])<<16 | int32(from[36])<<8 | int32(from[37])
	for _, u := range m.Pieces {
		if p := swarm.PieceIndex(u.First); !d.asked.Has(p) {
			if d.from[p] == 0 {
				d.want = append(d.want, p)
			}
			d.from[p] = who + 1
		}
	}
	return d.ask(out)
}

// ask asks for pieces drawn from those on offer.
func (d *dice) ask(out []swarm.Action) []swarm.Action {
	for d.pending < dicePending && len(d.want) > 0 {
		k, last := d.rng.IntN(len(d.want)), len(d.want)-1
		p := d.want[k]
		d.want[k], d.want = d.want[last], d.want[:last]
		d.asked.Set(p)
		d.pending++
		out = append(out, swarm.RequestPiece{To: (*d.ids)[d.from[p]-1], Digest: d.blob, Piece: p, Timeout: time.Minute})
	}
	return out
}

func (d *dice) arrived(now swarm.Time, e swarm.PieceArrived, out []swarm.Action) []swarm.Action {
	d.pending--
	d.missing--
	d.have.Set(e.Piece)
	d.news = append(d.news, swarm.Units{First: uint32(e.Piece), Count: 1})
	if d.flush == 0 {
		d.flush = now.Add(10 * time.Millisecond)
	}
	if d.missing == 0 {
		out = append(out, swarm.Verify{Digest: d.blob})
	}
	return d.ask(out)
}

// BenchmarkEngine runs a blob of 1 GiB with dice for cores: what the engine, the driver and the network cost by themselves.
func BenchmarkEngine(b *testing.B) {
	for _, zones := range []int{1, 10} {
		b.Run(fmt.Sprintf("%dx1000", zones), func(b *testing.B) {
			for b.Loop() {
				ids := new([]swarm.PeerID)
				measure(b, fmt.Sprintf(`
zones: [{name: z, count: %d, hosts: 1000}]
layers: [{size: 1GiB}]
warm: [{share: 100%%, part: 2%%}]
swarm: {per_provider: "100"}`, zones), func(cfg swarm.Config, seed uint64) policy { return newDice(cfg, seed, ids) }, func(w *world) {
					for _, n := range w.t.nodes {
						*ids = append(*ids, n.id)
					}
				})
			}
		})
	}
}

// BenchmarkTenThousand runs the goal: 10,000 nodes and 1 GiB, with the cores that ship, and smaller ones to compare.
func BenchmarkTenThousand(b *testing.B) {
	for _, size := range []struct{ zones, hosts int }{{5, 200}, {2, 1000}, {10, 1000}} {
		b.Run(fmt.Sprintf("%dx%d", size.zones, size.hosts), func(b *testing.B) {
			if testing.Short() && size.zones*size.hosts > 1000 {
				b.Skip("long")
			}
			for b.Loop() {
				measure(b, fmt.Sprintf(`
zones: [{name: home, hosts: %d, seeds: 4}, {name: z, count: %d, hosts: %d}]
layers: [{size: 1GiB}]`, size.hosts, size.zones-1, size.hosts), newCore, func(*world) {})
			}
		})
	}
}

// measure plays a scenario and reports what it took: time, processor time for each piece stored, and the most memory.
func measure(b *testing.B, text string, core func(swarm.Config, uint64) policy, ready func(*world)) {
	s := parse(b, text)
	began, cpu := time.Now(), processorTime(b)
	w, err := newWorldOf(s, core)
	if err != nil {
		b.Fatal(err)
	}
	ready(w)
	var peak uint64
	pieces := int64(1)
	err = w.play(context.Background(), Options{Progress: func(p Progress) {
		sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(sample)
		peak, pieces = max(peak, sample[0].Value.Uint64()-sample[1].Value.Uint64()), p.Pieces
	}})
	if err != nil {
		b.Fatal(err)
	}
	var msgs int64
	for _, h := range w.hosts {
		msgs += h.counts.msgs
	}
	b.ReportMetric(time.Since(began).Seconds(), "wall-s")
	b.ReportMetric((processorTime(b)-cpu).Seconds()*1e6/float64(pieces), "cpu-us/piece")
	b.ReportMetric(float64(msgs)/float64(pieces), "messages/piece")
	b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
	b.ReportMetric(float64(w.now)/1e9, "virtual-s")
	b.ReportMetric(0, "ns/op")
}

// processorTime returns what the process used so far, all threads together.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
