package node

import (
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// narrow replaces unspecified addresses by loopback: without a mesh key nobody else is to reach the node.
func narrow(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	out := make([]multiaddr.Multiaddr, len(addrs))
	for i, a := range addrs {
		out[i] = a
		if ip, err := manet.ToIP(a); err == nil && ip.IsUnspecified() {
			_, rest := multiaddr.SplitFirst(a)
			lo := manet.IP4Loopback
			if ip.To4() == nil {
				lo = manet.IP6Loopback
			}
			out[i] = lo.Encapsulate(multiaddr.Multiaddr(rest))
		}
	}
	return out
}

// narrowHostPort does the same for host:port.
func narrowHostPort(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		if ip != nil && ip.To4() == nil {
			return net.JoinHostPort("::1", port)
		}
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// addrBook decides which addresses are worth telling and keeping. Addresses of container bridges exist on every
// host and lead back to oneself; loopback addresses do too, unless loopback is all that this node has.
type addrBook struct {
	explicit []net.IP // listened on by name: always told

	mu      sync.Mutex
	bridges map[string]bool // addresses of bridge interfaces
	read    time.Time
	real    bool // the node has an address besides loopback
}

const interfacesTTL = 30 * time.Second // between two reads of the interfaces

func newAddrBook(listen []multiaddr.Multiaddr) *addrBook {
	b := &addrBook{}
	for _, a := range listen {
		ip, err := manet.ToIP(a)
		if err != nil || ip.IsUnspecified() {
			continue
		}
		b.explicit = append(b.explicit, ip)
		b.real = b.real || !ip.IsLoopback()
	}
	return b
}

// own filters the addresses that the host resolved from what it listens on: libp2p's AddrsFactory.
func (b *addrBook) own(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bridges == nil || time.Since(b.read) > interfacesTTL {
		b.bridges, b.read = bridgeAddrs(), time.Now()
	}
	var good, loopback []multiaddr.Multiaddr
	for _, a := range addrs {
		ip, err := manet.ToIP(a)
		switch {
		case err != nil || ip.IsLinkLocalUnicast():
		case slices.ContainsFunc(b.explicit, ip.Equal):
			good = append(good, a)
		case ip.IsLoopback():
			loopback = append(loopback, a)
		case !b.bridges[ip.String()]:
			good = append(good, a)
		}
	}
	b.real = slices.ContainsFunc(good, func(a multiaddr.Multiaddr) bool { return !manet.IsIPLoopback(a) })
	if len(good) == 0 {
		return loopback
	}
	return good
}

// others filters the addresses of other nodes: TCP only, and loopback only while this node has nothing else.
func (b *addrBook) others(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	b.mu.Lock()
	dropLoopback := b.real
	b.mu.Unlock()
	out := make([]multiaddr.Multiaddr, 0, len(addrs))
	for _, a := range addrs {
		ip, err := manet.ToIP(a)
		if err != nil || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || dropLoopback && ip.IsLoopback() {
			continue
		}
		if len(a) == 2 && a[1].Protocol().Code == multiaddr.P_TCP {
			out = append(out, a)
		}
	}
	return out
}

// bridgeAddrs returns the addresses of interfaces that container and VM software makes on every host.
func bridgeAddrs() map[string]bool {
	out := make(map[string]bool)
	ifaces, err := net.Interfaces()
	if err != nil {
		return out
	}
	for _, i := range ifaces {
		if !isBridge(i.Name) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				out[n.IP.String()] = true
			}
		}
	}
	return out
}

func isBridge(name string) bool {
	for _, prefix := range []string{"docker", "br-", "podman", "cni", "virbr", "lxcbr", "lxdbr", "veth", "nerdctl"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
