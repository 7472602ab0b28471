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
	// Zone of this node.
	Zone string
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
	RTT       time.Duration // 0 while unknown
	DataAddr  string        // IP:port that serves pieces, "" while unknown
}

// Map is the node's view of the mesh.
type Map struct {
	cfg  Config
	host host.Host
	self peer.ID
	woke chan struct{} // capacity 1: the loop has something to do

	// mu guards peers and the entries.
	mu    sync.Mutex
	peers map[peer.ID]*entry
}

// entry is one peer: a member, a connection, or a stranger that discovery named.
type entry struct {
	id        peer.ID
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
	rtts     [rttWindow]time.Duration // round minima, 0 = none
	rounds   int

	dirty bool
	told  Member // what Up was told last
	up    bool   // Up was told, Down was not
}

// New makes an empty map. Feed it from gossip by Changed and Lost.
func New(h host.Host, cfg Config) *Map {
	return &Map{
		cfg: cfg.withDefaults(), host: h, self: h.ID(),
		woke: make(chan struct{}, 1), peers: make(map[peer.ID]*entry),
	}
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
		timer.Reset(wait)
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
		e = &entry{id: id}
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
			out = append(out, e.view())
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
func (e *entry) view() Member {
	return Member{Member: e.member, Connected: e.connected, RTT: e.rtt(), DataAddr: e.dataAddr()}
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
		v := e.view()
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
		}
	}
	m.mu.Unlock()
	for _, id := range downs {
		log.Debugw("member down", "peer", id)
		m.cfg.Down(id)
	}
	for _, v := range ups {
		log.Debugw("member up", "peer", v.ID, "zone", v.Zone, "dur", v.RTT)
		m.cfg.Up(v)
	}
}

// news reports whether a member has to be told again.
func news(old, now Member) bool {
	d := now.RTT - old.RTT
	return old.Zone != now.Zone || old.Seed != now.Seed || old.Relay != now.Relay || old.DataAddr != now.DataAddr ||
		old.Connected != now.Connected || (old.RTT == 0) != (now.RTT == 0) || 5*max(d, -d) > old.RTT
}
