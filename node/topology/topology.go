package topology

import (
	"context"
	"slices"
	"sync"
	"time"

	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/meshd-project/meshd/dht/gossip"
)

var log = logging.Logger("meshd/topology")

// Config is what New needs; zero values stand for the defaults.
type Config struct {
	// Zone of this node, in effect as long as the Map lives.
	Zone string
	// Inferred says that nobody gave the node its zone: the Map finds out. Zone is then Undecided, or the name found
	// before, which is kept unless it is contradicted.
	Inferred bool
	// ZoneWindow is the time between two looks at the zone, jittered by a tenth. Default 30 s.
	ZoneWindow time.Duration
	// Moved is told of the zone that this node should be in, found or changed. It takes effect in the next Map: this
	// one goes on with Zone. Default: nobody is told.
	Moved func(zone string)
	// Small is the size of a mesh, this node included, in which everybody connects to everybody. Default 64.
	Small int
	// MaxDials bounds connection attempts under way. Default 16.
	MaxDials int
	// PingInterval is the time between two rounds of pings to a peer, jittered. Default 30 s.
	PingInterval time.Duration
	// Up is told of a member that can be used, and again when it changed. Default: nobody is told.
	Up func(Member)
	// Down is told of a member that was up and is no longer. Default: nobody is told.
	Down func(peer.ID)
}

func (c Config) withDefaults() Config {
	if c.Small <= 0 {
		c.Small = 64
	}
	if c.MaxDials <= 0 {
		c.MaxDials = 16
	}
	if c.PingInterval <= 0 {
		c.PingInterval = 30 * time.Second
	}
	if c.ZoneWindow <= 0 {
		c.ZoneWindow = 30 * time.Second
	}
	if c.Moved == nil {
		c.Moved = func(string) {}
	}
	if c.Up == nil {
		c.Up = func(Member) {}
	}
	if c.Down == nil {
		c.Down = func(peer.ID) {}
	}
	return c
}

// Member is a node of the mesh as seen from here.
type Member struct {
	gossip.Member
	Connected bool
	RTT       time.Duration // measured; 0 while it is not
	Rounds    int           // of pings that there were on this connection
	Measured  time.Time     // when the last of them ended
	Estimate  time.Duration // by the coordinates; 0 if RTT is measured or a coordinate is not good enough
	Doubt     float64       // relative error of Estimate, as the coordinates have it
	Distrust  bool          // its coordinate contradicts what was measured
	DataAddr  string        // IP:port that serves pieces, "" while unknown
}

// Distance is what a member is to be ordered by: its RTT, or else the estimate with its doubt added, so that who is
// known to be near comes before who says so. 0 while nothing is known.
func (m Member) Distance() time.Duration {
	if m.RTT > 0 {
		return m.RTT
	}
	return m.Estimate + time.Duration(m.Doubt*float64(m.Estimate))
}

// Map is the node's view of the mesh.
type Map struct {
	cfg  Config
	host host.Host
	self peer.ID
	woke chan struct{} // capacity 1: the loop has something to do

	// mu guards all below and the entries.
	mu    sync.Mutex
	peers map[peer.ID]*entry
	space *space
	zoner zoner

	nextWindow time.Time // of zoner; zero before the first
}

// entry is one peer: a member, a connection, or a stranger that discovery named.
type entry struct {
	id        peer.ID
	weight    uint64        // rendezvous weight for this node
	member    gossip.Member // valid if known
	known     bool
	connected bool
	remoteIP  string // of the connection
	outbound  bool   // this node dialed it

	hint      peer.AddrInfo // from discovery
	hintUntil time.Time

	dialing   bool
	failures  int
	nextDial  time.Time
	protected bool

	pinging  bool
	nextPing time.Time
	rtts     samples
	strikes  int // against its coordinate

	dirty bool
	told  Member // what Up was told last
	up    bool   // Up was told, Down was not
}

// New makes an empty map. Feed it from gossip by Changed and Lost.
func New(h host.Host, cfg Config) *Map {
	m := &Map{
		cfg: cfg.withDefaults(), host: h, self: h.ID(),
		woke: make(chan struct{}, 1), peers: make(map[peer.ID]*entry),
		space: newSpace(h.ID()), zoner: zoner{self: h.ID()},
	}
	if cfg.Zone != Undecided {
		m.zoner.name = cfg.Zone
	}
	return m
}

// Run keeps connections and measures until ctx is done; it returns nil when its goroutines have ended. Members that
// are up then are not told down.
func (m *Map) Run(ctx context.Context) error {
	notifiee := &network.NotifyBundle{ConnectedF: m.onConnected, DisconnectedF: m.onDisconnected}
	m.host.Network().Notify(notifiee)
	defer m.host.Network().StopNotify(notifiee)
	for _, c := range m.host.Network().Conns() {
		m.onConnected(m.host.Network(), c)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.woke:
		case <-timer.C:
		}
		m.tell()
		dials, pings, wait := m.plan(time.Now())
		for _, info := range dials {
			wg.Go(func() { m.dial(ctx, info) })
		}
		for _, id := range pings {
			wg.Go(func() { m.ping(ctx, id) })
		}
		timer.Reset(min(wait, m.judge(time.Now())))
	}
}

// Changed takes in a member that is new or changed.
func (m *Map) Changed(g gossip.Member) {
	m.update(g.ID, func(e *entry) { e.member, e.known = g, true })
}

// Lost takes in that a member left or fell silent.
func (m *Map) Lost(id peer.ID) {
	m.update(id, func(e *entry) { e.known = false })
}

// Connect asks for connections to peers that discovery named; they become members by their hello. It returns at once.
func (m *Map) Connect(infos []peer.AddrInfo) {
	for _, info := range infos {
		m.update(info.ID, func(e *entry) {
			e.hint = info
			e.hintUntil = time.Now().Add(hintTTL)
		})
	}
}

// update changes the entry of a peer and has the loop look at it.
func (m *Map) update(id peer.ID, change func(*entry)) {
	if id == m.self {
		return
	}
	m.mu.Lock()
	e := m.peers[id]
	if e == nil {
		e = newEntry(m.self, id)
		if id > m.self { // let it dial first, if it knows of us too
			e.nextDial = time.Now().Add(politeness)
		}
		m.peers[id] = e
	}
	change(e)
	e.dirty = true
	m.mu.Unlock()
	m.wake()
}

func (m *Map) wake() {
	select {
	case m.woke <- struct{}{}:
	default:
	}
}

// Members returns the members known, in the order of their ids.
func (m *Map) Members() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Member, 0, len(m.peers))
	for _, e := range m.peers {
		if e.known {
			out = append(out, m.view(e))
		}
	}
	slices.SortFunc(out, func(a, b Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}

// Connected returns the number of members connected.
func (m *Map) Connected() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, e := range m.peers {
		if e.known && e.connected {
			n++
		}
	}
	return n
}

// view is the entry as a Member; mu is held.
func (m *Map) view(e *entry) Member {
	v := Member{
		Member: e.member, Connected: e.connected, DataAddr: e.dataAddr(),
		RTT: e.rtts.least(), Rounds: e.rtts.count, Measured: e.rtts.last, Distrust: e.strikes >= distrustAt,
	}
	if v.RTT == 0 && e.known {
		v.Estimate, v.Doubt = m.space.estimate(e.member.Coord, e.strikes)
	}
	return v
}

// Coordinate returns where this node believes to stand.
func (m *Map) Coordinate() gossip.Coordinate {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.space.own()
}

// tell calls Up and Down for what changed.
func (m *Map) tell() {
	var ups []Member
	var downs []peer.ID
	m.mu.Lock()
	w := m.wanted()
	for id, e := range m.peers {
		if !e.dirty {
			continue
		}
		e.dirty = false
		v := m.view(e)
		up := e.known && (e.connected || !w(e))
		switch {
		case up && (!e.up || news(e.told, v)):
			e.up, e.told = true, v
			ups = append(ups, v)
		case !up && e.up:
			e.up = false
			downs = append(downs, id)
		}
		if !e.known && !e.connected && !e.dialing && time.Now().After(e.hintUntil) {
			delete(m.peers, id)
			m.space.forget(id)
		}
	}
	m.mu.Unlock()
	for _, id := range downs {
		log.Debugw("member down", "peer", id)
		m.cfg.Down(id)
	}
	for _, v := range ups {
		log.Debugw("member up", "peer", v.ID, "zone", v.Zone, "dur", v.Distance())
		m.cfg.Up(v)
	}
}

// news reports whether a member has to be told again.
func news(old, now Member) bool {
	d := now.Distance() - old.Distance()
	return old.Zone != now.Zone || old.Seed != now.Seed || old.Relay != now.Relay || old.DataAddr != now.DataAddr ||
		old.Connected != now.Connected || (old.RTT == 0) != (now.RTT == 0) || 5*max(d, -d) > old.Distance()
}
