package node

import (
	"errors"
	"math"
	"net/netip"
	"time"

	coreconnmgr "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/x/rate"
	"github.com/multiformats/go-multiaddr"

	"github.com/meshd-project/meshd/exchange/pace"
)

const userAgent = "meshd"

// muxers are the stream multiplexers offered, also in TLS's protocol negotiation.
var muxers = []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}

// hostConfig is what newHost needs.
type hostConfig struct {
	key      crypto.PrivKey
	keys     *meshKeys
	listen   []multiaddr.Multiaddr
	book     *addrBook
	gate     coreconnmgr.ConnectionGater // nil: everybody with the key
	maxPeers int
	limits   *pace.Limits // nil: none
}

// newHost wires a libp2p host of just TCP, TLS and yamux under the mesh key: no relay, no NAT mapping, no address
// discovery, no QUIC. libp2p.New would link all of these (11 MB of binary). It listens on every address or fails.
func newHost(c hostConfig) (_ host.Host, err error) {
	if c.limits == nil {
		c.limits = new(pace.Limits)
	}
	id, err := peer.IDFromPrivateKey(c.key)
	if err != nil {
		return nil, err
	}
	ps, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	var closers []func() error
	closers = append(closers, ps.Close)
	defer func() {
		for i := len(closers) - 1; err != nil && i >= 0; i-- {
			err = errors.Join(err, closers[i]())
		}
	}()
	if err := errors.Join(ps.AddPrivKey(id, c.key), ps.AddPubKey(id, c.key.GetPublic())); err != nil {
		return nil, err
	}
	rm, err := newResourceManager(c.maxPeers)
	if err != nil {
		return nil, err
	}
	closers = append(closers, rm.Close)
	bus := eventbus.NewBus()
	sw, err := swarm.NewSwarm(id, ps, bus,
		swarm.WithConnectionGater(c.gate),
		swarm.WithResourceManager(rm),
		swarm.WithDialTimeout(10*time.Second),
		swarm.WithDialTimeoutLocal(5*time.Second),
		swarm.WithUDPBlackHoleSuccessCounter(nil),
		swarm.WithIPv6BlackHoleSuccessCounter(nil),
		swarm.WithMetrics(controlBytes{limits: c.limits}),
	)
	if err != nil {
		return nil, err
	}
	closers = append(closers, sw.Close)
	if err := addTransport(sw, c, rm); err != nil {
		return nil, err
	}
	cm, err := connmgr.NewConnManager(c.maxPeers, c.maxPeers+c.maxPeers/4, connmgr.WithGracePeriod(time.Minute))
	if err != nil {
		return nil, err
	}
	closers = append(closers, cm.Close)
	for _, a := range c.listen {
		if err := sw.Listen(a); err != nil {
			return nil, listenError("p2p-addr", a.String(), err)
		}
	}
	h, err := basichost.NewHost(sw, &basichost.HostOpts{
		EventBus: bus, ConnManager: cm, AddrsFactory: c.book.own, EnablePing: true, UserAgent: userAgent,
	})
	if err != nil {
		return nil, err
	}
	h.Start()
	return h, nil
}

func addTransport(sw *swarm.Swarm, c hostConfig, rm network.ResourceManager) error {
	security, err := libp2ptls.New(libp2ptls.ID, c.key, muxers)
	if err != nil {
		return err
	}
	up, err := upgrader.New([]sec.SecureTransport{security}, muxers, nil, rm, c.gate) // privateUpgrader has the keys
	if err != nil {
		return err
	}
	t, err := tcp.NewTCPTransport(&privateUpgrader{up, c.keys}, rm, nil, tcp.DisableReuseport(), tcp.WithConnectionTimeout(5*time.Second))
	if err != nil {
		return err
	}
	return sw.AddTransport(&privateTransport{t, c.keys})
}

// newResourceManager bounds what all peers together and one peer may take. libp2p's own bounds stop a seed at 252
// inbound connections and at 8 from one address; here whoever has the mesh key is trusted with a fair share.
func newResourceManager(maxPeers int) (network.ResourceManager, error) {
	conns := rcmgr.LimitVal(2*maxPeers + 64) // two nodes that dial each other at once have two for a while
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: conns, ConnsInbound: conns, ConnsOutbound: conns, FD: conns,
			Streams: conns * 64, StreamsInbound: conns * 48, StreamsOutbound: conns * 48,
			Memory: rcmgr.LimitVal64(max(256<<20, int64(maxPeers)*(1<<20))),
		},
		Transient: rcmgr.ResourceLimits{ // before the handshake and protocol are done
			Conns: conns, ConnsInbound: conns, ConnsOutbound: conns, FD: conns,
			Streams: conns * 8, StreamsInbound: conns * 8, StreamsOutbound: conns * 8, Memory: 128 << 20,
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: 8, ConnsInbound: 8, ConnsOutbound: 8, FD: 8,
			Streams: 512, StreamsInbound: 256, StreamsOutbound: 512, Memory: 64 << 20,
		},
	}
	all4, all6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	return rcmgr.NewResourceManager(
		rcmgr.NewFixedLimiter(limits.Build(rcmgr.InfiniteLimits)),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithNetworkPrefixLimit(
			[]rcmgr.NetworkPrefixLimit{{Network: all4, ConnCount: math.MaxInt}},
			[]rcmgr.NetworkPrefixLimit{{Network: all6, ConnCount: math.MaxInt}},
		),
		rcmgr.WithConnRateLimiters(&rate.Limiter{GlobalLimit: rate.Limit{}}), // none: many nodes start at once
	)
}
