package gossip

import (
	"context"
	"crypto/sha256"
	"fmt"
	mrand "math/rand/v2"
	"sync"
	"time"

	logging "github.com/ipfs/go-log/v2"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

var log = logging.Logger("meshd/gossip")

// Config is what New needs; zero durations and counts stand for their defaults.
type Config struct {
	// Zone of this node. Required; see ValidZone.
	Zone string
	// Inferred says that nobody gave this node its zone.
	Inferred bool
	// Coordinate returns where this node believes to stand. Default: it does not say.
	Coordinate func() Coordinate
	// Seed says whether this node is one.
	Seed bool
	// DataHost is the IP that the data port listens on, "" if it is on every address.
	DataHost string
	// DataPort is the TCP port that serves pieces.
	DataPort uint16
	// Interval between two presence messages while the members known are few, jittered by a fifth; with n members it is
	// n/20 times as long if that is more. Default 10 s.
	Interval time.Duration
	// Relays is the number of members of a zone, besides its seeds, that join the backbone. Default 4.
	Relays int
	// AddrFilter drops addresses of others that are of no use here. Default: keep all.
	AddrFilter func([]ma.Multiaddr) []ma.Multiaddr
	// Changed is told of a member that is new or whose description changed. Default: nobody is told.
	Changed func(Member)
	// Lost is told of a member that said goodbye or fell silent. Default: nobody is told.
	Lost func(peer.ID)
	// Turned is told when this node becomes a relay of its zone, and when it is no longer. Default: nobody is told.
	Turned func(relay bool)
}

func (c Config) withDefaults() Config {
	if c.Interval <= 0 {
		c.Interval = 10 * time.Second
	}
	if c.Relays <= 0 {
		c.Relays = 4
	}
	if c.AddrFilter == nil {
		c.AddrFilter = func(a []ma.Multiaddr) []ma.Multiaddr { return a }
	}
	if c.Changed == nil {
		c.Changed = func(Member) {}
	}
	if c.Lost == nil {
		c.Lost = func(peer.ID) {}
	}
	if c.Turned == nil {
		c.Turned = func(bool) {}
	}
	return c
}

// Gossip is a node's part in the topics.
type Gossip struct {
	cfg  Config
	host host.Host
	self peer.ID

	stop     context.CancelFunc // of the pubsub machinery
	zone     *pubsub.Topic
	zoneSub  *pubsub.Subscription
	backbone *pubsub.Topic
	traffic  traffic

	greetings chan network.Conn // connections that this node dialed and has not greeted
	hellos    sync.WaitGroup    // handlers of inbound hello streams

	wakeEvents chan struct{} // capacity 1
	wakeFlush  chan struct{} // capacity 1
	wakeTell   chan struct{} // capacity 1: presence is due at once

	// inbound counts what neighbours forward; the validators use it, concurrently.
	limitMu sync.Mutex
	limits  map[peer.ID]*neighbour

	// mu guards all below; nothing blocks while it is held.
	mu       sync.Mutex
	table    table
	holdings holdings
	said     said
	seq      uint64
	relay    bool
	closed   bool     // no more hello handlers
	events   []event  // for the callbacks
	queue    []queued // announcements of this node, to be flushed
	delayed  []repeat // messages to be told in another topic
}

// event is one call of Changed, Lost or Turned.
type event struct {
	member *Member
	lost   peer.ID
	turned *bool
}

// repeat is a message that this relay tells in another topic, unless it is told before.
type repeat struct {
	at       time.Time
	backbone bool
	data     []byte // a presence, told as it is
	have     *have  // or this
}

// New joins the topics on h.
func New(h host.Host, cfg Config) (*Gossip, error) {
	cfg = cfg.withDefaults()
	if !ValidZone(cfg.Zone) {
		return nil, fmt.Errorf("gossip: bad zone %q", cfg.Zone)
	}
	g := &Gossip{
		cfg: cfg, host: h, self: h.ID(),
		greetings:  make(chan network.Conn, 1024),
		wakeEvents: make(chan struct{}, 1), wakeFlush: make(chan struct{}, 1), wakeTell: make(chan struct{}, 1),
		limits: make(map[peer.ID]*neighbour),
		table:  table{self: h.ID(), members: make(map[peer.ID]*member)},
	}
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	if err := g.join(ctx); err != nil {
		stop()
		return nil, fmt.Errorf("join gossip: %w", err)
	}
	h.SetStreamHandler(helloProtocol, g.handleHello)
	return g, nil
}

func (g *Gossip) join(ctx context.Context) error {
	params := pubsub.DefaultGossipSubParams()
	params.D, params.Dlo, params.Dhi, params.Dout, params.Dscore = 4, 3, 6, 1, 3
	// Lists of what was told go to two neighbours outside of the mesh, however many there are, twice.
	params.Dlazy, params.GossipFactor, params.HistoryGossip = 2, 0, 2
	ps, err := pubsub.NewGossipSub(ctx, g.host,
		pubsub.WithGossipSubParams(params),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(messageID),
		pubsub.WithMaxMessageSize(64<<10), // of a frame with several messages and control data
		pubsub.WithPeerOutboundQueueSize(128),
		pubsub.WithRawTracer(&g.traffic),
	)
	if err != nil {
		return err
	}
	names := [...]string{"/meshd/3/zone/" + g.cfg.Zone, "/meshd/3/backbone"}
	var topics [2]*pubsub.Topic
	for i, name := range names {
		if err := ps.RegisterTopicValidator(name, g.validate, pubsub.WithValidatorInline(true)); err != nil {
			return err
		}
		if topics[i], err = ps.Join(name); err != nil {
			return err
		}
	}
	g.zone, g.backbone = topics[0], topics[1]
	g.zoneSub, err = g.zone.Subscribe(pubsub.WithBufferSize(512))
	return err
}

func messageID(m *pb.Message) string {
	h := sha256.New()
	h.Write([]byte(m.GetTopic()))
	h.Write([]byte{0})
	h.Write(m.GetData())
	return string(h.Sum(nil)[:16])
}

// validate decides whether a message is forwarded and handed in. It runs on pubsub's workers.
func (g *Gossip) validate(_ context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	msg, err := decode(m.GetData())
	if err != nil {
		if g.neighbour(from).complaints.Allow() {
			log.Warnw("gossip message rejected", "peer", from, "err", err)
		}
		return pubsub.ValidationReject
	}
	if from != g.self && !g.neighbour(from).messages.Allow() {
		return pubsub.ValidationIgnore
	}
	m.ValidatorData = msg
	return pubsub.ValidationAccept
}

// neighbour bounds what one peer may forward, and how often the log names it for nonsense.
type neighbour struct{ messages, complaints *rate.Limiter }

func (g *Gossip) neighbour(p peer.ID) *neighbour {
	g.limitMu.Lock()
	defer g.limitMu.Unlock()
	l := g.limits[p]
	if l == nil {
		l = &neighbour{messages: rate.NewLimiter(100, 500), complaints: rate.NewLimiter(rate.Every(time.Minute), 1)}
		g.limits[p] = l
	}
	return l
}

// Run takes part until ctx is done, then says goodbye, and returns nil when its goroutines have ended.
func (g *Gossip) Run(ctx context.Context) error {
	notifiee := &network.NotifyBundle{ConnectedF: g.connected, DisconnectedF: g.disconnected}
	g.host.Network().Notify(notifiee)
	for _, c := range g.host.Network().Conns() {
		g.connected(nil, c)
	}
	var eg errgroup.Group
	eg.Go(func() error { return g.read(ctx, g.zoneSub, false) })
	eg.Go(func() error { return g.greet(ctx) })
	eg.Go(func() error { return g.dispatch(ctx) })
	eg.Go(func() error { return g.tick(ctx) })
	eg.Go(func() error { return g.flush(ctx) })
	err := eg.Wait()

	g.host.Network().StopNotify(notifiee)
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.hellos.Wait()
	g.leave()
	return err
}

// leave says goodbye and stops pubsub.
func (g *Gossip) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	p := g.presence()
	p.Leaving = true
	if len(g.zone.ListPeers()) > 0 && g.zone.Publish(ctx, p.encode()) == nil {
		time.Sleep(50 * time.Millisecond) // pubsub has no flush: let its writers send it
	}
	g.zoneSub.Cancel()
	g.Close() //nolint:errcheck // it returns nil
}

// Close ends a Gossip that was never run; Run does it by itself. It returns nil.
func (g *Gossip) Close() error {
	g.host.RemoveStreamHandler(helloProtocol)
	g.stop()
	return nil
}

// Members returns the members known, this node not among them, in no order.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Member, 0, len(g.table.members))
	for _, m := range g.table.members {
		out = append(out, m.public())
	}
	return out
}

// Stats returns what was counted so far.
func (g *Gossip) Stats() Stats { return g.traffic.stats() }

// Count returns the number of members known of all zones, this node among them.
func (g *Gossip) Count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.table.members) + 1
}

// Held returns how many other members of this node's zone are believed to hold a blob. It is a few if many do.
func (g *Gossip) Held(d digest.Digest) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.holdings.holding(d, time.Now(), holdingTTL, g.near)
}

// Near reports whether a peer is known as a member of this node's zone.
func (g *Gossip) Near(id peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.near(id)
}

// Place returns how many members of this node's zone come before it for a blob, in an order that all who know the same
// members compute alike, and how many members the zone has, this node among them.
func (g *Gossip) Place(d digest.Digest) (before, of int) {
	key := weightKey(string(d))
	mine := weight(key, g.self)
	g.mu.Lock()
	defer g.mu.Unlock()
	of = 1
	for id, m := range g.table.members {
		if m.Zone == g.cfg.Zone {
			of++
			if weight(key, id) > mine {
				before++
			}
		}
	}
	return before, of
}

// Relay reports whether this node is on the backbone: it is a seed or one of its zone's relays.
func (g *Gossip) Relay() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.relay || g.cfg.Seed
}

// presence describes this node anew.
func (g *Gossip) presence() presence {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := presence{
		ID: g.self, Seq: g.nextSeq(), Every: g.every(), Zone: g.cfg.Zone, Inferred: g.cfg.Inferred, Seed: g.cfg.Seed, Relay: g.relay || g.cfg.Seed,
		DataHost: g.cfg.DataHost, DataPort: g.cfg.DataPort,
	}
	if g.cfg.Coordinate != nil {
		if c := g.cfg.Coordinate(); c.valid() {
			p.Coord = &c
		}
	}
	for _, a := range g.host.Addrs() {
		if len(p.Addrs) < maxAddrs && len(a.Bytes()) <= maxAddr {
			p.Addrs = append(p.Addrs, a)
		}
	}
	return p
}

// nextSeq returns the number of a message of this node; mu is held.
func (g *Gossip) nextSeq() uint64 {
	g.seq = max(g.seq+1, uint64(time.Now().UnixMilli()))
	return g.seq
}

// presencePerInterval is the number of presence messages that all members known send within Interval at most.
const presencePerInterval = 20

// every returns the time between two presence messages of this node: longer the more members there are, so that what
// reaches a node in a second stays the same; mu is held.
func (g *Gossip) every() time.Duration {
	n := time.Duration(len(g.table.members) + 1)
	return min(max(g.cfg.Interval, n*g.cfg.Interval/presencePerInterval), maxEvery).Truncate(time.Millisecond)
}

// Announce tells the zone, and by its relays the other zones, that this node holds a blob, or that it is importing
// it. It returns at once; what the zone has heard often enough already, or hears within a second, is not repeated.
func (g *Gossip) Announce(d digest.Digest, holding bool) {
	if !sendable(d) {
		return
	}
	g.mu.Lock()
	if len(g.queue) < maxBlobs {
		g.queue = append(g.queue, queued{item{Digest: d, Holding: holding}, time.Now().Add(g.turn(d))})
	}
	g.mu.Unlock()
	wake(g.wakeFlush)
}

// Holders returns members that were said to hold or import d: those of this zone first, holders before importers.
func (g *Gossip) Holders(d digest.Digest) []peer.ID {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.holdings.of(d, time.Now(), func(id peer.ID) (near, known bool) {
		m := g.table.members[id]
		return m != nil && m.Zone == g.cfg.Zone, m != nil
	})
}

// dispatch calls Changed, Lost and Turned.
func (g *Gossip) dispatch(ctx context.Context) error {
	for {
		g.mu.Lock()
		events := g.events
		g.events = nil
		g.mu.Unlock()
		for _, e := range events {
			switch {
			case e.member != nil:
				g.cfg.Changed(*e.member)
			case e.turned != nil:
				g.cfg.Turned(*e.turned)
			default:
				g.cfg.Lost(e.lost)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-g.wakeEvents:
		}
	}
}

// emit queues an event; mu is held.
func (g *Gossip) emit(e event) {
	g.events = append(g.events, e)
	wake(g.wakeEvents)
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// jitter returns d changed by up to a fifth.
func jitter(d time.Duration) time.Duration {
	return time.Duration((0.8 + 0.4*mrand.Float64()) * float64(d))
}
