package swarmtest

import (
	"cmp"
	"container/heap"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// Net is a network of cores, an origin and one blob.
type Net struct {
	Digest digest.Digest
	Size   int64
	Origin Origin
	// Rate is the bytes per second of a transfer between two nodes, Near and Far the one-way latencies.
	Rate      float64
	Near, Far time.Duration
	Config    swarm.Config
	// Trace gets a line for each action; nil for none.
	Trace io.Writer
	// Stepped is called after each step of a core, before its actions are carried out; nil for none.
	Stepped func(nd *Node, ev swarm.Event)

	now   swarm.Time
	seq   int
	queue events
	nodes []*Node
	xfers uint64
}

// Origin is the registry.
type Origin struct {
	Rate    float64 // bytes per second of one request
	NoRange bool
	NoSize  bool                         // it does not tell the size, and ignores ranges
	Hangs   bool                         // with NoSize: nothing comes, and after 30 s a reader gives it up
	Corrupt bool                         // its bytes do not match the digest
	Fail    swarm.OriginErrorKind        // if set, what it answers
	FailFor func(node swarm.PeerID) bool // whom it fails; nil: everybody
	Sent    int64                        // bytes sent so far
}

// Node is one core and its store.
type Node struct {
	ID      swarm.PeerID
	Zone    string
	Seed    bool
	Core    *swarm.Core
	Liar    bool // signs hashes of wrong bytes as its own reading of the origin
	Lie     byte // which wrong bytes a Liar signs for: those of the same Lie sign the same
	Bad     bool // serves bytes that do not match
	Boast   bool // says that it has all
	Mute    bool // accepts requests and sends nothing
	Usurp   bool // says that it has all, keeps every unit for itself as arbiter, and gives nothing
	Hoard   bool // what it reads of the origin never comes to its end, and it says nothing
	Slow    float64
	Drip    float64    // bytes per second: says all that a usurper says, and gives every piece, each this slowly; 0: does not
	Thin    float64    // bytes per second of an origin request of its; 0: as Origin says
	Done    swarm.Time // 0: not done
	Ended   swarm.GiveUpReason
	EndedAt swarm.Time

	Dead, Stopped bool
	FromOrigin    int64
	FromZone      int64
	FromFar       int64
	Duplicate     int64
	Shunned       []swarm.PeerID

	net      *Net
	have     swarm.Bitmap
	wrong    map[swarm.PieceIndex]swarm.PeerID // pieces held whose bytes are wrong, and who made them up
	by       map[swarm.PieceIndex]swarm.PeerID
	distrust map[swarm.PeerID]bool
	stopped  map[uint64]bool
	cancels  map[string]bool
	uploads  map[uint64]func(ok bool, busy swarm.RefusePiece)
	wake     swarm.Time
	parted   map[swarm.PeerID]bool
}

type event struct {
	at  swarm.Time
	seq int
	run func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(e[i].at, e[j].at), cmp.Compare(e[i].seq, e[j].seq)) < 0
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	x := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return x
}

// New returns a network for a blob of size bytes: 100 MB/s per transfer, 0.25 ms within and 15 ms between zones.
func New(size int64) *Net {
	return &Net{
		Digest: digest.FromString("blob"), Size: size, Origin: Origin{Rate: 200e6},
		Rate: 100e6, Near: 250 * time.Microsecond, Far: 15 * time.Millisecond, Config: swarm.DefaultConfig(),
	}
}

// Add makes a node and tells all others of it.
func (n *Net) Add(zone string, seed bool) *Node {
	id := swarm.PeerID(fmt.Sprintf("n%d", len(n.nodes)))
	cfg := n.Config
	cfg.Self, cfg.Zone, cfg.Seed = id, zone, seed
	node := &Node{ID: id, Zone: zone, Seed: seed, Core: swarm.New(cfg, 1), net: n, Slow: 1}
	node.distrust, node.stopped, node.cancels = map[swarm.PeerID]bool{}, map[uint64]bool{}, map[string]bool{}
	node.uploads = map[uint64]func(bool, swarm.RefusePiece){}
	node.reset()
	n.nodes = append(n.nodes, node)
	for _, o := range n.nodes {
		if o != node && !o.Dead {
			o.step(swarm.Member{ID: id, Zone: zone, Seed: seed, RTT: 2 * n.latency(o, node)})
			node.step(swarm.Member{ID: o.ID, Zone: o.Zone, Seed: o.Seed, RTT: 2 * n.latency(o, node)})
		}
	}
	return node
}

func (nd *Node) reset() {
	nd.have = swarm.NewBitmap(swarm.LayoutOf(nd.net.Size).Pieces())
	nd.wrong, nd.by = map[swarm.PieceIndex]swarm.PeerID{}, map[swarm.PieceIndex]swarm.PeerID{}
}

// At runs f at a virtual time.
func (n *Net) At(t time.Duration, f func()) { n.after(swarm.Time(t).Sub(n.now), f) }

func (n *Net) after(d time.Duration, f func()) {
	n.seq++
	heap.Push(&n.queue, event{at: n.now.Add(max(d, 0)), seq: n.seq, run: f})
}

// Now returns the virtual time.
func (n *Net) Now() time.Duration { return time.Duration(n.now) }

// Run goes on until nothing is left to do or the virtual time reaches limit.
func (n *Net) Run(limit time.Duration) {
	for len(n.queue) > 0 && n.queue[0].at <= swarm.Time(limit) {
		e := heap.Pop(&n.queue).(event)
		n.now = e.at
		e.run()
	}
}

// Copies returns the origin's bytes and those that came into each zone, from the origin or another zone, as
// multiples of the blob's size.
func (n *Net) Copies() (origin float64, zones map[string]float64) {
	zones = map[string]float64{}
	for _, nd := range n.nodes {
		zones[nd.Zone] += float64(nd.FromOrigin+nd.FromFar) / float64(n.Size)
	}
	return float64(n.Origin.Sent) / float64(n.Size), zones
}

// Want has a node want the blob, with a reader over all of it.
func (nd *Node) Want(size int64) {
	nd.wanted(size, swarm.Foreground)
	nd.Read(0, -1)
}

// Preheat has a node want the blob without a reader.
func (nd *Node) Preheat(size int64) { nd.wanted(size, swarm.Background) }

// Read opens a local reader.
func (nd *Node) Read(off, end int64) {
	nd.step(swarm.Reading{Digest: nd.net.Digest, Reader: 1, Off: off, End: end})
}

func (nd *Node) wanted(size int64, class swarm.Class) {
	nd.step(swarm.Wanted{
		Digest: nd.net.Digest, Size: size, Class: class,
		Origin: swarm.OriginRef{Registry: "registry.example", Repository: "team/app"},
	})
}

// Cut breaks, or with heal mends, all connections between two zones. Transfers under way break too.
func (n *Net) Cut(a, b string, heal bool) {
	for _, x := range n.nodes {
		for _, y := range n.nodes {
			if x.Zone != a || y.Zone != b {
				continue
			}
			x.parted, y.parted = with(x.parted, y.ID, !heal), with(y.parted, x.ID, !heal)
			if heal {
				x.step(swarm.Member{ID: y.ID, Zone: y.Zone, Seed: y.Seed})
				y.step(swarm.Member{ID: x.ID, Zone: x.Zone, Seed: x.Seed})
			} else {
				x.step(swarm.MemberLost{ID: y.ID})
				y.step(swarm.MemberLost{ID: x.ID})
			}
		}
	}
}

func with(set map[swarm.PeerID]bool, id swarm.PeerID, in bool) map[swarm.PeerID]bool {
	if set == nil {
		set = map[swarm.PeerID]bool{}
	}
	set[id] = in
	return set
}

// Kill ends a node at once; the others see their connections break.
func (nd *Node) Kill() {
	nd.Dead = true
	for _, o := range nd.net.nodes {
		if !o.Dead {
			nd.net.after(nd.net.latency(nd, o), func() { o.step(swarm.MemberLost{ID: nd.ID}) })
		}
	}
}

// Step hands the node an event.
func (nd *Node) Step(ev swarm.Event) { nd.step(ev) }

func (nd *Node) step(ev swarm.Event) {
	if nd.Dead || nd.Stopped {
		return
	}
	acts := nd.Core.Step(nd.net.now, ev, nil)
	if nd.net.Stepped != nil {
		nd.net.Stepped(nd, ev)
	}
	for _, a := range acts {
		if nd.net.Trace != nil {
			fmt.Fprintf(nd.net.Trace, "%v %s %s\n", nd.net.Now().Round(10*time.Microsecond), nd.ID, Describe(a))
		}
		nd.act(a)
	}
	nd.alarm()
}

// alarm keeps one Tick queued for the core's deadline.
func (nd *Node) alarm() {
	at, ok := nd.Core.Deadline()
	if !ok || nd.wake != 0 && nd.wake <= at {
		return
	}
	nd.wake = max(at, nd.net.now)
	due := nd.wake
	nd.net.after(due.Sub(nd.net.now), func() {
		if nd.wake == due {
			nd.wake = 0
			nd.step(swarm.Tick{})
		}
	})
}

func (n *Net) node(id swarm.PeerID) *Node {
	for _, nd := range n.nodes {
		if nd.ID == id {
			return nd
		}
	}
	return nil
}

func (n *Net) latency(a, b *Node) time.Duration {
	if a.Zone == b.Zone {
		return n.Near
	}
	return n.Far
}

// Wrong returns the number of pieces that the node holds whose bytes are wrong.
func (nd *Node) Wrong() int { return len(nd.wrong) }

// Nodes returns all nodes, dead ones too.
func (n *Net) Nodes() []*Node { return n.nodes }
