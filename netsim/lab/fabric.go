package lab

import (
	"container/heap"
	"time"

	"github.com/meshd-project/meshd/netsim"
)

// Bounds of a fabric. A pipe holds what it sends in queueTime, and at least minQueue; the fabric as a whole maxHeld packets.
const (
	queueTime = 100 * time.Millisecond
	minQueue  = 64 << 10 // bytes
	maxHeld   = 1 << 15
)

// bufferSize is the room for a packet of an Ethernet and for what a device puts before it.
const bufferSize = 2048

// fabric is the network between zones. Its ports are the zones and, behind them, the registry. It says when a packet that comes from one port leaves at another, or that it is
// lost. It is pure: time is pushed in, as the time since some beginning, and must not go back.
type fabric struct {
	pipes  []*pipe
	routes [][][]hop // from port, to port
	counts []count   // of each port
	zones  int
	home   int

	waiting packets
	seq     uint64
	dropped int64
}

// count is what came out at a port from beyond its own zone.
type count struct {
	packets int64 // bytes of whole IP packets
	payload int64 // of them, what packets of blobs have behind their headers
}

// hop is a part of a route: through a pipe, if there is one, and then a time.
type hop struct {
	pipe  *pipe
	after time.Duration
}

// pipe carries so many bytes of IP packets a second, and has a queue that drops at its tail.
type pipe struct {
	rate float64       // 0: no limit
	free time.Duration // when all that is queued has left
	cut  bool          // nothing passes
}

// enter returns when the last bit of a packet has left the pipe, or that there is no room for it.
func (p *pipe) enter(now time.Duration, size int) (time.Duration, bool) {
	if p.cut {
		return 0, false
	}
	if p.rate <= 0 {
		return now, true
	}
	queued := max(p.free-now, 0)
	if room := max(queueTime, seconds(minQueue/p.rate)); queued > room {
		return 0, false
	}
	p.free = now + queued + seconds(float64(size)/p.rate)
	return p.free, true
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// packet is one on its way.
type packet struct {
	at    time.Duration // when it enters the next hop, or has arrived
	seq   uint64        // of equal times the first offered goes first
	route []hop         // still to go
	to    int
	head  header
	far   bool // it crosses the border of a zone
	data  *[bufferSize]byte
}

// newFabric lays out ports and routes of a scenario.
func newFabric(s *netsim.Scenario, p *netsim.Script) *fabric {
	n := len(s.Zones)
	f := &fabric{zones: n, home: p.Home, counts: make([]count, n+1)}
	for _, z := range s.Zones {
		f.pipes = append(f.pipes, &pipe{rate: float64(z.Out)}, &pipe{rate: float64(z.In)})
	}
	egress := &pipe{rate: float64(s.Origin.Egress)}
	f.pipes = append(f.pipes, egress)
	for from := range n + 1 {
		var row [][]hop
		for to := range n + 1 {
			row = append(row, f.route(s, p, egress, from, to))
		}
		f.routes = append(f.routes, row)
	}
	return f
}

// route lists the hops from a port to another. A pair's own pipe is one for each direction.
func (f *fabric) route(s *netsim.Scenario, p *netsim.Script, egress *pipe, from, to int) []hop {
	var hops []hop
	if from == f.zones {
		hops = append(hops, hop{pipe: egress})
	}
	a, b := f.place(from), f.place(to)
	if a != b && a >= 0 {
		hops = append(hops, hop{pipe: f.out(a)})
	}
	if rate := pairRate(s, a, b); rate > 0 && from < f.zones && to < f.zones {
		own := &pipe{rate: rate}
		f.pipes = append(f.pipes, own)
		hops = append(hops, hop{pipe: own})
	}
	delay := p.Origin
	if from < f.zones && to < f.zones {
		delay = p.OneWay[from][to]
	}
	hops = append(hops, hop{after: delay})
	if a != b && b >= 0 {
		hops = append(hops, hop{pipe: f.in(b)})
	}
	return hops
}

func pairRate(s *netsim.Scenario, a, b int) float64 {
	for _, p := range s.WAN.Pairs {
		if a >= 0 && b >= 0 && (p.A == s.Zones[a].Name && p.B == s.Zones[b].Name || p.A == s.Zones[b].Name && p.B == s.Zones[a].Name) {
			return float64(p.Rate)
		}
	}
	return 0
}

// place returns the zone that a port is in, -1 for none: the registry stands in its home.
func (f *fabric) place(port int) int {
	if port == f.zones {
		return f.home
	}
	return port
}

func (f *fabric) out(zone int) *pipe { return f.pipes[2*zone] }
func (f *fabric) in(zone int) *pipe  { return f.pipes[2*zone+1] }

// cut has nothing pass into or out of a zone, or lets it pass again.
func (f *fabric) cut(zone int, on bool) { f.out(zone).cut, f.in(zone).cut = on, on }

// scale multiplies the rates of a zone's pipes.
func (f *fabric) scale(zone int, factor float64) {
	f.out(zone).rate *= factor
	f.in(zone).rate *= factor
}

// offer takes a packet from a port. It keeps data until the packet is handed out by advance; false: it is lost at once.
func (f *fabric) offer(now time.Duration, from, to int, head header, data *[bufferSize]byte) bool {
	if len(f.waiting) >= maxHeld {
		f.dropped++
		return false
	}
	p := packet{at: now, seq: f.seq, route: f.routes[from][to], to: to, head: head, far: f.place(from) != f.place(to), data: data}
	f.seq++
	if !p.pass() {
		f.dropped++
		return false
	}
	heap.Push(&f.waiting, p)
	return true
}

// pass takes the packet through its next hop and sets when that is done; false: it is lost.
func (p *packet) pass() bool {
	h := p.route[0]
	p.route = p.route[1:]
	if h.pipe != nil {
		at, ok := h.pipe.enter(p.at, p.head.size)
		if !ok {
			return false
		}
		p.at = at
	}
	p.at += h.after
	return true
}

// next returns when advance has something to do.
func (f *fabric) next() (time.Duration, bool) {
	if len(f.waiting) == 0 {
		return 0, false
	}
	return f.waiting[0].at, true
}

// advance moves packets on up to now, in order of time, and calls done for each that is through, and for each that is
// lost with to below 0. The packet is valid only during the call.
func (f *fabric) advance(now time.Duration, done func(to int, p *packet)) {
	for len(f.waiting) > 0 && f.waiting[0].at <= now {
		p := &f.waiting[0]
		switch {
		case len(p.route) == 0:
			f.arrived(p)
			done(p.to, p)
		case p.pass():
			heap.Fix(&f.waiting, 0)
			continue
		default:
			f.dropped++
			done(-1, p)
		}
		heap.Pop(&f.waiting)
	}
}

func (f *fabric) arrived(p *packet) {
	if p.far {
		f.counts[p.to].packets += int64(p.head.size)
		if p.head.bulk() {
			f.counts[p.to].payload += int64(p.head.payload)
		}
	}
}

// packets is a heap of packets by time.
type packets []packet

func (q packets) Len() int { return len(q) }

func (q packets) Less(a, b int) bool {
	if q[a].at != q[b].at {
		return q[a].at < q[b].at
	}
	return q[a].seq < q[b].seq
}

func (q packets) Swap(a, b int) { q[a], q[b] = q[b], q[a] }

// Push implements heap.Interface.
func (q *packets) Push(x any) { *q = append(*q, x.(packet)) }

// Pop implements heap.Interface.
func (q *packets) Pop() any {
	old := *q
	p := old[len(old)-1]
	old[len(old)-1] = packet{}
	*q = old[:len(old)-1]
	return p
}
