package dht

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
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
	// Members says who is in the mesh. Default: nobody else is known.
	Members Members
	// BucketSize is Kademlia's k: the size of a bucket and the copies of a record. Default: 10 in a mesh of less than
	// 200 members, else 20, following its growth.
	BucketSize int
	// RecordTTL is how long a record is valid. Default 45 min.
	RecordTTL time.Duration
	// ZoneAnnouncers is the number of records under a zone key that is enough. Default 32.
	ZoneAnnouncers int
	// GlobalAnnouncers is the number of records of a zone under a global key that is enough. Default 3.
	GlobalAnnouncers int
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
	if c.Members == nil {
		c.Members = alone{}
	}
	if c.RecordTTL <= 0 {
		c.RecordTTL = 45 * time.Minute
	}
	if c.ZoneAnnouncers <= 0 {
		c.ZoneAnnouncers = 32
	}
	if c.GlobalAnnouncers <= 0 {
		c.GlobalAnnouncers = 3
	}
	if c.Stagger <= 0 {
		c.Stagger = 300 * time.Millisecond
	}
	return c
}

// DHT is the node's part in the table of provider records.
type DHT struct {
	cfg     Config
	self    peer.ID
	table   *table
	own     *ownRecords
	asked   requests
	lookups atomic.Int64
	looks   atomic.Int64
}

// New starts the node's part in the table on h, in server mode. It owns none of h.
func New(h host.Host, cfg Config) (*DHT, error) {
	cfg = cfg.withDefaults()
	quiet.Do(func() {
		// It warns at every refresh that a node without peers has no peers.
		_ = logging.SetLogLevel("dht/RtRefreshManager", "error")
	})
	d := &DHT{cfg: cfg, self: h.ID()}
	bucket := cfg.BucketSize
	if bucket <= 0 {
		bucket = bucketFor(cfg.Members.Count(), 0)
	}
	var err error
	if d.table, err = newTable(bucket, func(k int) (*kad.IpfsDHT, error) { return d.open(h, k) }); err != nil {
		return nil, err
	}
	d.own = newOwnRecords(cfg.RecordTTL, d.place, d.enough)
	return d, nil
}

// open starts a kad-dht with buckets of a size.
func (d *DHT) open(h host.Host, bucket int) (*kad.IpfsDHT, error) {
	return kad.New(h,
		kad.Mode(kad.ModeServer),
		kad.ProtocolPrefix(d.cfg.Prefix),
		kad.DisableValues(),
		kad.BucketSize(bucket),
		kad.Concurrency(3),
		kad.Resiliency(min(2, bucket)),
		kad.LookupCheckConcurrency(32),
		kad.Datastore(d.cfg.Datastore),
		kad.AddressFilter(d.addrs),
		kad.BootstrapPeersFunc(d.cfg.Bootstrap),
		kad.OnRequestHook(d.asked.count),
		kad.ProviderManagerOpts(
			records.ProvideValidity(d.cfg.RecordTTL),
			records.ProviderAddrTTL(d.cfg.RecordTTL),
			records.CleanupInterval(d.cfg.RecordTTL/2),
		),
	)
}

// maxAddrs is the number of addresses of a peer that are kept and told: what a provider says goes out with every answer.
const maxAddrs = 8

// addrs returns those of a peer's addresses that are of use.
func (d *DHT) addrs(all []ma.Multiaddr) []ma.Multiaddr {
	good := d.cfg.AddrFilter(all)
	return good[:min(len(good), maxAddrs)]
}

// Run renews the node's own records and fits the table to the mesh until ctx is done. It returns nil when its goroutines
// have ended.
func (d *DHT) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { d.watch(ctx) })
	return d.own.run(ctx)
}

// Close leaves the table. Run must have returned.
func (d *DHT) Close() error { return d.table.close() }

// Peers returns the number of nodes in the routing table.
func (d *DHT) Peers() int {
	k, done := d.table.use()
	defer done()
	return k.RoutingTable().Size()
}

// Refresh looks for nodes near this one now instead of at the next interval; it does not wait.
func (d *DHT) Refresh() {
	k, done := d.table.use()
	defer done()
	k.RefreshRoutingTable()
}

func (d *DHT) place(ctx context.Context, key cid.Cid) error {
	k, done := d.table.use()
	defer done()
	return k.Provide(ctx, key, true)
}

// Find looks up holders of blob and calls found, one call at a time, as they are told. It asks for the zone's key and, when
// that is done or slow, for the global one too if it found fewer than three; and if it found nobody, for those of
// the zone who hold a span of the blob. It returns when all lookups have ended;
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
	d.lookups.Add(1)
	zoneDone := make(chan struct{})
	go func() {
		defer close(zoneDone)
		d.lookup(ctx, zoneKey(d.cfg.Zone, blob), d.cfg.ZoneAnnouncers, tell)
	}()
	stagger := time.NewTimer(d.cfg.Stagger)
	defer stagger.Stop()
	select {
	case <-zoneDone:
	case <-stagger.C:
	case <-ctx.Done():
	}
	mu.Lock()
	enough, nobody := count >= 3, count == 0
	mu.Unlock()
	var spans sync.WaitGroup
	if nobody && ctx.Err() == nil {
		spans.Go(func() { d.findSpans(ctx, blob, tell) })
	}
	if !enough && ctx.Err() == nil {
		d.lookup(ctx, globalKey(blob), d.cfg.ZoneAnnouncers, tell)
	}
	<-zoneDone
	spans.Wait()
	return ctx.Err()
}

// Provide announces this node as a holder of blob under the zone's key, and under the global one, and keeps the records
// alive until Withdraw. It returns when they are placed. In a large zone they may be left to others (see What bounds the
// records), unless the node is a seed or, for the global key, global is set: then it returns at once. Alone in the mesh it
// succeeds: the records are placed when somebody comes. An error means that they are not placed yet; Run tries again.
func (d *DHT) Provide(ctx context.Context, blob digest.Digest, global bool) error {
	before, of := d.cfg.Members.Place(blob)
	near := record{key: zoneKey(d.cfg.Zone, blob), blob: blob, must: d.cfg.Seed}
	far := record{key: globalKey(blob), blob: blob, global: true, must: global}
	var errs []error
	for _, r := range []record{near, far} {
		var wait time.Duration
		if !r.must && before >= d.need(&r) {
			wait = lookAfter(of)
		}
		errs = append(errs, d.own.provide(ctx, r, wait))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("announce %s: %w", blob, err)
	}
	return nil
}

// lookAfter is how long a member of a zone of n waits before it looks whether others have announced a blob: long enough
// for those who do it at once, and so long that about eight of a zone look at a key in a second.
func lookAfter(n int) time.Duration {
	spread := time.Duration(n) * time.Second / 8
	return 3*time.Second + time.Duration(rand.Float64()*float64(spread))
}

// Withdraw stops renewing the records of blob; they run out by themselves.
func (d *DHT) Withdraw(blob digest.Digest) { d.own.withdraw(blob) }
