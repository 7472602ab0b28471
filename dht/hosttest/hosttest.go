package hosttest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"flag"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/marcopolo/simnet"
)

var seed = flag.Uint64("hosts", 1, "seed of the peer ids of simulated hosts")

// New starts n hosts, each behind a link of so many Mbit/s either way and the latency in all between any two; call it
// within a bubble. The caller closes the hosts, and then the network by stop.
func New(t testing.TB, n, mbps int, latency time.Duration) (hosts []host.Host, stop func()) {
	t.Helper()
	if underRace {
		old := runtime.GOMAXPROCS(1)
		t.Cleanup(func() { runtime.GOMAXPROCS(old) })
	}
	t.Logf("peer ids of -hosts=%d", *seed)
	link := simnet.LinkSettings{BitsPerSecond: mbps * simlibp2p.OneMbps}
	net := &simnet.Simnet{LatencyFunc: simnet.StaticLatency(latency)}
	for i := range n {
		h, err := libp2p.New(
			libp2p.Identity(key(t, i)),
			libp2p.ListenAddrStrings(fmt.Sprintf("/ip4/%s/udp/8000/quic-v1", simnet.IntToPublicIPv4(i))),
			simlibp2p.QUICSimnet(net, simnet.NodeBiDiLinkSettings{Downlink: link, Uplink: link}),
			libp2p.DisableIdentifyAddressDiscovery(), // it never lets a bubble come to rest
			libp2p.ResourceManager(&network.NullResourceManager{}),
		)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	net.Start()
	return hosts, net.Close
}

// key returns the key of host i of a test.
func key(t testing.TB, i int) crypto.PrivKey {
	t.Helper()
	from := sha256.Sum256(fmt.Appendf(nil, "%d/%s/%d", *seed, t.Name(), i))
	std := ed25519.NewKeyFromSeed(from[:])
	k, _, err := crypto.KeyPairFromStdKey(&std)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
