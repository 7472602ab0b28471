package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/dht"
	"github.com/meshd-project/meshd/dht/gossip"
	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/pace"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/mirror"
	"github.com/meshd-project/meshd/mirror/gateway"
	"github.com/meshd-project/meshd/mirror/proxy"
	"github.com/meshd-project/meshd/node/files"
	"github.com/meshd-project/meshd/node/topology"
	"github.com/meshd-project/meshd/node/trust"
	"github.com/meshd-project/meshd/seed/notify"
	"github.com/meshd-project/meshd/seed/origin"
	"github.com/meshd-project/meshd/seed/preheat"
	"github.com/meshd-project/meshd/seed/storage"
)

// node is the parts of a running meshd, all made by start.
type node struct {
	cfg       Config
	limits    *pace.Limits // of all lives
	zone      zone
	key       crypto.PrivKey
	meshKeys  *meshKeys
	gate      *trust.Gate
	evidence  *evidence
	allowText []byte // of the allow list in force; keepAllow owns it
	book      *addrBook
	started   time.Time              // of the first life
	state     atomic.Pointer[string] // why the node is not ready; nil when it is
	settled   chan struct{}          // closed when the mesh has been found, or not in time

	nextZone  atomic.Pointer[string] // found, and in effect from the next life on
	zoneMoved chan struct{}          // capacity 1
	answering *answering             // clients of the mirror
	idlePoll  time.Duration
	moveWait  time.Duration
	again     atomic.Bool        // another life follows
	endLife   context.CancelFunc // set by run

	sockets                                     map[string]socket // by flag; they outlive the listeners
	mirrorListener, adminListener, dataListener net.Listener

	store     *store.Store
	storage   *storage.Tier // nil: none
	origin    *origin.Client
	host      host.Host
	dht       *dht.DHT
	gossip    *gossip.Gossip
	topology  *topology.Map
	files     *files.Files
	exchange  *exchange.Exchange
	bootstrap *bootstrapper
	direct    *directBlobs
	mirror    *mirror.Mirror
	preheat   *preheat.Manager
	news      *notify.Notifier
	ca        *proxy.CA
	proxy     *proxy.Proxy
	gateway   *gateway.Handler

	mirrorServer, adminServer *http.Server
	preheatServer             *http.Server // nil without --preheat-addr
	preheatListener           net.Listener

	closers []func() error // in the order of making
}

// Run runs a node until ctx is done, drains it and returns nil; an error says what kept it from starting or broke
// it. When the node is up, DataDir/peer.addr holds its dialable address and /readyz says so.
//
// A node that finds out that it stands in another zone than it thought, with --zone and --zone-from not given, stops
// and starts again in that zone once nothing is being pulled; clients that come meanwhile wait in the listen queue.
//
// It starts, in this order: the data dir with identity, keys and the proxy's CA; the zone; the listeners of mirror, admin
// and data port; the store; the registry client; the host; gossip, DHT, topology, exchange; the mirror.
//
// It stops thus: readiness goes red and peer.addr disappears; mirror and proxy take no new requests and finish what
// runs, within DrainTimeout; gossip says goodbye, the finding of members ends; the exchange ends its transfers;
// the admin server ends; then everything is closed in the reverse order of its making: DHT, host, registry client,
// store, listeners.
func Run(ctx context.Context, cfg Config) error {
	n, err := start(cfg)
	if err != nil {
		return err
	}
	return n.live(ctx)
}

// live is run, and again in another zone each time that the node finds one.
func (n *node) live(ctx context.Context) (err error) {
	for err == nil {
		if err = n.run(ctx); err != nil && n.again.CompareAndSwap(true, false) {
			return errors.Join(err, n.closeSockets())
		}
		if err != nil || !n.again.Load() {
			return err
		}
		n, err = n.next()
	}
	return err
}

// start makes all parts and opens all listeners, but serves nobody yet. On an error nothing is left open.
func start(cfg Config) (*node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return begin(&node{cfg: cfg, limits: newLimits(cfg), started: time.Now(), idlePoll: idlePoll, moveWait: moveWait})
}

// next begins the next life of a node that has ended one.
func (n *node) next() (*node, error) {
	return begin(&node{cfg: n.cfg, limits: n.limits, started: n.started, sockets: n.sockets, idlePoll: n.idlePoll, moveWait: n.moveWait})
}

// begin makes the parts of n.
func begin(n *node) (_ *node, err error) {
	n.settled, n.zoneMoved = make(chan struct{}), make(chan struct{}, 1)
	n.answering = newAnswering(maxMirrorConns)
	n.notReady("starting")
	n.closeLater(n.closeSockets)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	for _, step := range []func() error{
		n.openDataDir, n.openTrust, n.openZone, n.listen, n.openStore, n.openStorage, n.openOrigin, n.openHost, n.openMesh, n.openExchange, n.openFronts,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// closeLater has something closed when the node ends.
func (n *node) closeLater(f func() error) { n.closers = append(n.closers, f) }

// close closes everything in the reverse order of its making.
func (n *node) close() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	n.closers = nil
	return errors.Join(errs...)
}

func (n *node) path(name string) string { return filepath.Join(n.cfg.DataDir, name) }

func (n *node) openDataDir() (err error) {
	if err := os.MkdirAll(n.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	if err := closeDir(n.cfg.DataDir); err != nil {
		return err
	}
	if n.key, err = loadIdentity(n.cfg.DataDir); err != nil {
		return err
	}
	if n.cfg.P2P.MeshKey == "" && len(n.cfg.P2P.Bootstrap) > 0 {
		log.Warnw("--bootstrap without --mesh-key: this node has a key of its own and can join nobody")
	}
	if n.meshKeys, err = openMeshKeys(n.cfg.P2P.MeshKey, n.cfg.DataDir); err != nil {
		return err
	}
	n.ca, err = loadCA(n.cfg.DataDir, n.started)
	return err
}

// listen opens the TCP listeners, so that an address that is taken stops the start before anything else happens.
func (n *node) listen() (err error) {
	if n.sockets == nil {
		n.sockets = make(map[string]socket)
	}
	data := n.cfg.Exchange.DataAddr
	if n.cfg.P2P.MeshKey == "" {
		data = narrowHostPort(data)
	}
	for _, l := range []struct {
		flag, addr string
		to         *net.Listener
	}{
		{"mirror-addr", n.cfg.Mirror.Addr, &n.mirrorListener},
		{"admin-addr", n.cfg.Admin.Addr, &n.adminListener},
		{"data-addr", data, &n.dataListener},
		{"preheat-addr", n.cfg.Preheat.Addr, &n.preheatListener},
	} {
		if l.addr == "" {
			continue
		}
		open := n.sockets[l.flag]
		if open == nil {
			if open, err = listen(l.flag, l.addr); err != nil {
				return err
			}
			n.sockets[l.flag] = open
		}
		if *l.to, err = keep(open); err != nil {
			return err
		}
		n.closeLater((*l.to).Close)
	}
	return nil
}

// closeSockets closes the listening sockets, unless another life follows.
func (n *node) closeSockets() error {
	if n.again.Load() {
		return nil
	}
	var errs []error
	for _, s := range n.sockets {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func (n *node) openStore() (err error) {
	n.store, err = store.Open(n.cfg.Store.store(n.path(BlobDir)))
	if err != nil {
		return fmt.Errorf("open the store (--data-dir, --containerd-content): %w", err)
	}
	n.closeLater(n.store.Close)
	return nil
}

func (n *node) openOrigin() (err error) {
	c := origin.Config{Registries: make(map[string]origin.Registry)}
	for _, r := range n.cfg.Origin.Registries {
		c.Registries[r.Host] = origin.Registry{
			URL: r.URL, URLs: r.URLs, Mirrors: r.Mirrors, CA: r.CA, Cert: r.Cert, Key: r.Key,
			Credentials: r.Credentials, Insecure: r.Insecure,
		}
	}
	if n.origin, err = origin.New(c); err != nil {
		return fmt.Errorf("--registry: %w", err)
	}
	n.closeLater(n.origin.Close)
	return nil
}

func (n *node) openHost() (err error) {
	var listen []multiaddr.Multiaddr
	for _, s := range n.cfg.P2P.Addrs {
		a, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			return fmt.Errorf("--p2p-addr: %w", err)
		}
		listen = append(listen, a)
	}
	if n.cfg.P2P.MeshKey == "" {
		listen = narrow(listen)
	}
	n.book = newAddrBook(listen)
	n.host, err = newHost(hostConfig{key: n.key, keys: n.meshKeys, listen: listen, book: n.book, gate: n.gate, maxPeers: n.cfg.P2P.MaxPeers, limits: n.limits})
	if err != nil {
		return fmt.Errorf("start the libp2p host: %w", err)
	}
	n.closeLater(n.host.Close)
	return nil
}

// openMesh makes the parts that know who is there.
func (n *node) openMesh() (err error) {
	n.topology = topology.New(n.host, topology.Config{
		Zone: n.zone.name, Inferred: n.zone.inferred(), ZoneWindow: n.cfg.Topology.ZoneWindow, Moved: n.moved,
		Up:   func(m topology.Member) { n.exchange.SetMember(exchangeMember(m)) },
		Down: func(id peer.ID) { n.exchange.RemoveMember(id) },
	})
	dataHost, dataPort, err := dataAddr(n.dataListener)
	if err != nil {
		return err
	}
	n.gossip, err = gossip.New(n.host, gossip.Config{
		Zone: n.zone.name, Inferred: n.zone.inferred(), Seed: n.cfg.Seed, DataHost: dataHost, DataPort: dataPort,
		Interval: n.cfg.Gossip.PresenceInterval, Coordinate: n.topology.Coordinate, AddrFilter: n.book.others,
		Changed: n.changed, Lost: n.topology.Lost, Turned: n.turned,
	})
	if err != nil {
		return err
	}
	n.closeLater(n.gossip.Close)
	n.dht, err = dht.New(n.host, dht.Config{
		Zone: n.zone.name, Seed: n.cfg.Seed, Members: n.gossip, RecordTTL: n.cfg.DHT.RecordTTL,
		AddrFilter: n.book.others, Bootstrap: n.connectedPeers,
	})
	if err != nil {
		return err
	}
	n.closeLater(n.dht.Close)
	probe, err := newProber(n.key, n.meshKeys)
	if err != nil {
		return err
	}
	n.bootstrap, err = newBootstrapper(n.host, probe, n.cfg.P2P.Bootstrap, n.path(PeersFile),
		n.cfg.P2P.BootstrapInterval, n.topology.Connected)
	return err
}

func (n *node) openExchange() (err error) {
	if err := n.openFiles(); err != nil {
		return err
	}
	n.exchange, err = exchange.New(exchange.Config{
		Key: n.key, Zone: n.zone.name, Seed: n.cfg.Seed, Transport: exchange.TCP{Listener: n.dataListener},
		Plaintext: n.cfg.Exchange.DataPlaintext, Limits: n.limits, SpoolDir: n.cfg.DataDir, Seal: n.files.Seal,
		Admit: n.gate.Admits, Evidence: n.evidence.keep,
	}, n.host, n.store, n.behindBucket(exchangeOrigin{n.origin, n.cfg.Mirror.DefaultRegistry, n.files}), n.dht, n.gossip)
	if err != nil {
		return err
	}
	n.files.Use(n.exchange)
	n.store.OnEvict(func(d digest.Digest) { n.dht.Withdraw(d) })
	return nil
}

// openFronts makes the mirror and the admin API.
func (n *node) openFronts() error {
	mc := n.cfg.Mirror.mirror()
	if err := mc.Validate(); err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	n.direct = newDirectBlobs(settledBlobs{meshBlobs{n.exchange, n.cfg.Mirror.RangeRest}, n.settled}, n.origin, n.limits)
	n.mirror = mirror.New(mc, n.direct, documents{n.store}, mirrorOrigin{n.origin})
	n.closeLater(n.mirror.Close)
	n.mirror.Restore(readTags(n.path(TagsFile)))
	if err := n.openProxy(); err != nil {
		return err
	}
	n.mirrorServer = mirror.NewServer(n.withGateway(n.proxy))
	n.answering.bound(n.mirrorServer)
	if err := n.openPreheat(); err != nil {
		return err
	}
	return n.openAdmin()
}

// turned tells the core of this node's own part as a relay.
func (n *node) turned(relay bool) {
	n.exchange.SetMember(exchange.Member{
		ID: n.host.ID(), Zone: n.zone.name, Seed: n.cfg.Seed, Relay: relay || n.cfg.Seed,
	})
}

// connectedPeers are where the routing table starts from.
func (n *node) connectedPeers() []peer.AddrInfo {
	var out []peer.AddrInfo
	for _, m := range n.topology.Members() {
		if m.Connected {
			out = append(out, peer.AddrInfo{ID: m.ID, Addrs: m.Addrs})
		}
	}
	return out
}

func exchangeMember(m topology.Member) exchange.Member {
	return exchange.Member{ID: m.ID, Zone: m.Zone, Seed: m.Seed, Relay: m.Relay, RTT: m.Distance(), DataAddr: m.DataAddr}
}

// dataAddr is what members are told of the data port; host is "" if it listens on every address.
func dataAddr(l net.Listener) (host string, port uint16, err error) {
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return "", 0, fmt.Errorf("--data-addr: %s is not a TCP address", l.Addr())
	}
	if !a.IP.IsUnspecified() {
		host = a.AddrPort().Addr().Unmap().WithZone("").String()
	}
	return host, uint16(a.Port), nil
}
