package exchange

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/meshd-project/meshd/exchange/pace"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"
)

var log = logging.Logger("meshd/exchange")

// inboxSize bounds the events that wait for the loop. Who posts waits when it is full.
const inboxSize = 1024

// policy is what the loop drives: *swarm.Core, or a script in tests.
type policy interface {
	Step(now swarm.Time, ev swarm.Event, out []swarm.Action) []swarm.Action
	Deadline() (swarm.Time, bool)
}

// Exchange brings blobs into the store and serves them.
type Exchange struct {
	// Fixed by New.
	cfg       Config
	self      peer.ID
	host      host.Host
	store     *store.Store
	origin    Origin
	providers Providers
	gossip    Gossip
	identity  *libp2ptls.Identity
	notary    notary
	buffers   *buffers
	client    *http.Client
	tickets   *tickets // of the plaintext data port
	callers   callers  // at the data port
	start     time.Time

	accounts accounts
	inbox    chan swarm.Event
	done     chan struct{} // closed when the loop has ended
	news     chan announcement
	lookups  chan struct{}       // a slot for each search under way
	streams  *semaphore.Weighted // bytes for blobs that are not kept
	waiting  atomic.Int64        // open handles of blobs on their way
	workers  sync.WaitGroup      // all goroutines that are not the loop's or the server's

	// Owned by the loop.
	core    policy
	pending []swarm.Event // posted by the loop to itself
	actions []swarm.Action

	mu       sync.Mutex // guards the rest
	running  bool
	stopped  bool // no new sessions, streams or workers
	sessions map[digest.Digest]*session
	leaving  map[digest.Digest]*session // ended; their partial is being closed
	slept    map[digest.Digest]bool     // opened for peers since the start (dormant.go)
	remotes  map[peer.ID]*remote
	banned   map[peer.ID]ban
	uploads  map[uint64]*uploadSlot
	transfer map[transferKey]context.CancelCauseFunc
	fetches  map[uint64]originFetch // by FetchOrigin.Fetch
	lastXfer uint64
	short    *shortage // nil while the store takes blobs
}

// ban is a Quarantine under way.
type ban struct {
	refuse bool
	until  time.Time
	why    swarm.Failure
}

// New returns an Exchange that does nothing until Run. origin, providers and gossip may be nil: then there is no
// origin, and peers are found by membership alone. The transport is closed by Run, or by New if it fails.
func New(cfg Config, h host.Host, st *store.Store, o Origin, p Providers, g Gossip) (*Exchange, error) {
	x, err := newExchange(cfg, h, st, o, p, g)
	if err != nil && cfg.Transport != nil {
		_ = cfg.Transport.Close()
	}
	return x, err
}

func newExchange(cfg Config, h host.Host, st *store.Store, o Origin, p Providers, g Gossip) (*Exchange, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	self, err := peer.IDFromPrivateKey(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("exchange: identity: %w", err)
	}
	if h.ID() != self {
		return nil, fmt.Errorf("exchange: key of %s is not the host's, %s", self, h.ID())
	}
	identity, err := libp2ptls.NewIdentity(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("exchange: TLS identity: %w", err)
	}
	if cfg.RandSeed == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:])
		cfg.RandSeed = binary.LittleEndian.Uint64(b[:])
	}
	cfg.Swarm.Self, cfg.Swarm.Zone, cfg.Swarm.Seed = swarm.PeerID(self), cfg.Zone, cfg.Seed
	x := &Exchange{
		cfg: cfg, self: self, host: h, store: st, origin: o, providers: p, gossip: g,
		identity: identity,
		notary:   notary{key: cfg.Key, id: swarm.PeerID(self)},
		buffers:  newBuffers(cfg.BufferBytes),
		tickets:  newTickets(),
		callers:  callers{conns: make(map[peer.ID]int)},
		start:    time.Now(),
		streams:  semaphore.NewWeighted(cfg.StreamBytes),
		inbox:    make(chan swarm.Event, inboxSize),
		done:     make(chan struct{}),
		news:     make(chan announcement, 1024),
		lookups:  make(chan struct{}, 16),
		core:     swarm.New(cfg.Swarm, cfg.RandSeed),
		sessions: make(map[digest.Digest]*session),
		leaving:  make(map[digest.Digest]*session),
		slept:    make(map[digest.Digest]bool),
		remotes:  make(map[peer.ID]*remote),
		banned:   make(map[peer.ID]ban),
		uploads:  make(map[uint64]*uploadSlot),
		transfer: make(map[transferKey]context.CancelCauseFunc),
		fetches:  make(map[uint64]originFetch),
	}
	x.client = x.newClient()
	return x, nil
}

// Run serves peers and drives the core until ctx ends, and returns when everything that it started has ended. It
// fails if the data port does. It may be called once.
func (x *Exchange) Run(ctx context.Context) error {
	x.mu.Lock()
	again := x.running
	x.running = true
	x.mu.Unlock()
	if again {
		return errors.New("exchange: run twice")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	x.store.OnEvict(func(d digest.Digest) { x.post(swarm.Dropped{Digest: d}) })
	stopStreams, stopTickets := x.listenStreams(ctx), x.giveTickets()
	x.spawn(func() { x.announcer(ctx) })
	x.spawn(func() { x.reannouncer(ctx) })

	served := make(chan error, 1)
	server := x.newServer()
	go func() {
		err := x.serveData(ctx, server)
		cancel()
		served <- err
	}()
	if x.cfg.Relay {
		x.pending = append(x.pending, swarm.Member{ID: swarm.PeerID(x.self), Zone: x.cfg.Zone, Seed: x.cfg.Seed, Relay: true})
	}
	x.loop(ctx)

	stopStreams()
	stopTickets()
	x.stop()
	_ = server.Close()
	err := <-served
	x.workers.Wait()
	x.client.CloseIdleConnections()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("exchange: data port: %w", err)
}

// stop fails all sessions and ends every transfer. Nothing new starts after it.
func (x *Exchange) stop() {
	x.mu.Lock()
	x.stopped = true
	var all []*session
	for _, s := range x.sessions {
		all = append(all, s)
	}
	for _, cancel := range x.transfer {
		cancel(ErrClosed)
	}
	for _, f := range x.fetches {
		f.cancel(ErrClosed)
	}
	for _, r := range x.remotes {
		r.shut()
	}
	x.mu.Unlock()
	for _, s := range all {
		x.endSession(s, ErrClosed)
	}
}

// spawn runs f in a goroutine that Run waits for. It reports false, and runs nothing, once stopping has begun.
func (x *Exchange) spawn(f func()) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.spawnLocked(f)
}

func (x *Exchange) spawnLocked(f func()) bool {
	if x.stopped {
		return false
	}
	x.workers.Go(f)
	return true
}

// now returns the time as the core counts it.
func (x *Exchange) now() swarm.Time { return swarm.Time(time.Since(x.start)) }

// post hands an event to the loop, waiting for room. After the loop has ended it drops it.
func (x *Exchange) post(ev swarm.Event) {
	select {
	case x.inbox <- ev:
	case <-x.done:
	}
}

// tryPost hands an event to the loop if there is room.
func (x *Exchange) tryPost(ev swarm.Event) bool {
	select {
	case x.inbox <- ev:
		return true
	default:
		return false
	}
}

// chunkSize is the unit of reading and writing on the data port, in bytes.
const chunkSize = pace.MaxChunk
