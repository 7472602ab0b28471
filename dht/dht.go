package dht

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	logging "github.com/ipfs/go-log/v2"
	kad "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/opencontainers/go-digest"
)

var log = logging.Logger("meshd/dht")

var quiet sync.Once

// Config is what New needs; the zero value of a field stands for its default.
type Config struct {
	// Zone is the zone whose keys this node announces under and looks up first.
	Zone string
	// Seed makes the node announce itself under a zone key however many do already.
	Seed bool
	// Prefix of the protocol id. Default "/meshd".
	Prefix protocol.ID
	// Bootstrap names peers to start from when the routing table runs empty. Default none.
	Bootstrap func() []peer.AddrInfo
	// Datastore holds the provider records of others. Default NewRecords(0).
	Datastore ds.Batching
	// AddrFilter drops addresses that are of no use here before they reach the peerstore. Default: keep all.
	AddrFilter func([]ma.Multiaddr) []ma.Multiaddr
	// BucketSize is Kademlia's k: the size of a bucket and the copies of a record. Default 10.
	BucketSize int
	// RecordTTL is how long a record is valid. Default 45 min.
	RecordTTL time.Duration
	// ZoneAnnouncers is the number of records under a zone key that is enough. Default 32.
	ZoneAnnouncers int
	// Stagger is the wait for the zone key before the global key is asked as well. Default 300 ms.
	Stagger time.Duration
}

func (c Config) withDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = "/meshd"
	}
	if c.Bootstrap == nil {
		c.Bootstrap = func() []peer.AddrInfo { return nil }
	}
	if c.Datastore == nil {
		c.Datastore = NewRecords(0)
	}
	if c.AddrFilter == nil {
		c.AddrFilter = func(a []ma.Multiaddr) []ma.Multiaddr { return a }
	}
	if c.BucketSize <= 0 {
		c.BucketSize = 10
	}
	if c.RecordTTL <= 0 {
		c.RecordTTL = 45 * time.Minute
	}
	if c.ZoneAnnouncers <= 0 {
		c.ZoneAnnouncers = 32
	}
	if c.Stagger <= 0 {
		c.Stagger = 300 * time.Millisecond
	}
	return c
}

// DHT is the node's part in the table of provider records.
type DHT struct {
	cfg  Config
	self peer.ID
	kad  *kad.IpfsDHT
	own  *ownRecords
}

// New starts the node's part in the table on h, in server mode. It owns none of h.
func New(h host.Host, cfg Config) (*DHT, error) {
	cfg = cfg.withDefaults()
	quiet.Do(func() {
		// It warns at every refresh that a node without peers has no peers.
		_ = logging.SetLogLevel("dht/RtRefreshManager", "error")
	})
	k, err := kad.New(h,
		kad.Mode(kad.ModeServer),
		kad.ProtocolPrefix(cfg.Prefix),
		kad.DisableValues(),
		kad.BucketSize(cfg.BucketSize),
		kad.Concurrency(3),
		kad.Resiliency(min(2, cfg.BucketSize)),
		kad.LookupCheckConcurrency(32),
		kad.Datastore(cfg.Datastore),
		kad.AddressFilter(cfg.AddrFilter),
		kad.BootstrapPeersFunc(cfg.Bootstrap),
		kad.ProviderManagerOpts(
			records.ProvideValidity(cfg.RecordTTL),
			records.ProviderAddrTTL(cfg.RecordTTL),
			records.CleanupInterval(cfg.RecordTTL/2),
		),
	)
	if err != nil {
		return nil, fmt.Errorf("start the DHT: %w", err)
	}
	d := &DHT{cfg: cfg, self: h.ID(), kad: k}
	d.own = newOwnRecords(cfg.RecordTTL, k.Provide)
	return d, nil
}

// Run renews the node's own records until ctx is done and returns nil when its goroutines have ended.
func (d *DHT) Run(ctx context.Context) error { return d.own.run(ctx) }

// Close leaves the table. Run must have returned.
func (d *DHT) Close() error { return d.kad.Close() }

// Peers returns the number of nodes in the routing table.
func (d *DHT) Peers() int { return d.kad.RoutingTable().Size() }

// Refresh looks for nodes near this one now instead of at the next interval; it does not wait.
func (d *DHT) Refresh() { d.kad.RefreshRoutingTable() }

// Find looks up holders of blob and calls found, one call at a time, as they are told. It asks for the zone's key and, when
// that is done or slow, for the global one too if it found fewer than three. It returns when all lookups have ended;
// the error is ctx's, or nil, also if nobody was found. Holders may be told more than once; this node never is.
func (d *DHT) Find(ctx context.Context, blob digest.Digest, found func([]peer.AddrInfo)) error {
	var (
		mu    sync.Mutex
		count int
	)
	tell := func(peers []peer.AddrInfo) {
		mu.Lock()
		defer mu.Unlock()
		count += len(peers)
		found(peers)
	}
	zoneDone := make(chan struct{})
	go func() {
		defer close(zoneDone)
		n := d.lookup(ctx, zoneKey(d.cfg.Zone, blob), tell)
		d.own.saw(blob, n)
	}()
	stagger := time.NewTimer(d.cfg.Stagger)
	defer stagger.Stop()
	select {
	case <-zoneDone:
	case <-stagger.C:
	case <-ctx.Done():
	}
	mu.Lock()
	enough := count >= 3
	mu.Unlock()
	if !enough && ctx.Err() == nil {
		d.lookup(ctx, globalKey(blob), tell)
	}
	<-zoneDone
	return ctx.Err()
}

// Provide announces this node as a holder of blob under the zone's key and, if global, the global one, and keeps the
// records alive until Withdraw. It returns when they are placed. Alone in the mesh it succeeds: the records are
// placed when somebody comes. An error means that they are not placed yet; Run tries again.
func (d *DHT) Provide(ctx context.Context, blob digest.Digest, global bool) error {
	var errs []error
	if d.cfg.Seed || d.own.holders(blob) < d.cfg.ZoneAnnouncers {
		errs = append(errs, d.own.provide(ctx, blob, zoneKey(d.cfg.Zone, blob)))
	}
	if global {
		errs = append(errs, d.own.provide(ctx, blob, globalKey(blob)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("announce %s: %w", blob, err)
	}
	return nil
}

// Withdraw stops renewing the records of blob; they run out by themselves.
func (d *DHT) Withdraw(blob digest.Digest) { d.own.withdraw(blob) }
