package node

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// defaultP2PPort is the port assumed where a bootstrap spec names none.
const defaultP2PPort = 65003

// bootstrapKind is one way to find members.
type bootstrapKind uint8

const (
	bootstrapAddr bootstrapKind = iota + 1
	bootstrapDNS
	bootstrapFile
	bootstrapMDNS
)

// bootstrapSpec is a parsed --bootstrap. Which fields count depends on kind.
type bootstrapSpec struct {
	kind bootstrapKind
	addr multiaddr.Multiaddr // Addr: without /p2p/ID
	id   peer.ID             // Addr: "" when the multiaddr names none
	name string              // DNS: host name
	port int                 // DNS
	path string              // File
}

func parseBootstrap(s string) (bootstrapSpec, error) {
	scheme, rest, _ := strings.Cut(s, ":")
	switch {
	case s == "mdns":
		return bootstrapSpec{kind: bootstrapMDNS}, nil
	case scheme == "file" && rest != "":
		return bootstrapSpec{kind: bootstrapFile, path: rest}, nil
	case scheme == "dns" && rest != "":
		return parseBootstrapDNS(rest)
	case strings.HasPrefix(s, "/"):
		return parseBootstrapAddr(s)
	}
	return bootstrapSpec{}, fmt.Errorf("%q: want a multiaddr, dns:NAME, file:PATH or mdns", s)
}

func parseBootstrapDNS(rest string) (bootstrapSpec, error) {
	spec := bootstrapSpec{kind: bootstrapDNS, name: rest, port: defaultP2PPort}
	if host, port, err := net.SplitHostPort(rest); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return bootstrapSpec{}, fmt.Errorf("dns:%s: the port is not 1 to 65535", rest)
		}
		spec.name, spec.port = host, int(n)
	}
	if spec.name == "" || strings.ContainsAny(spec.name, "/: ") {
		return bootstrapSpec{}, fmt.Errorf("dns:%s: not a host name", rest)
	}
	return spec, nil
}

// parseBootstrapAddr takes /ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT with or without /p2p/ID, and /dnsaddr/NAME.
func parseBootstrapAddr(s string) (bootstrapSpec, error) {
	a, err := multiaddr.NewMultiaddr(s)
	if err != nil {
		return bootstrapSpec{}, fmt.Errorf("%q is not a multiaddr: %w", s, err)
	}
	transport, id := peer.SplitAddr(a)
	spec := bootstrapSpec{kind: bootstrapAddr, addr: transport, id: id}
	if len(transport) == 0 {
		return bootstrapSpec{}, fmt.Errorf("%q has no address", s)
	}
	first := transport[0].Protocol().Code
	if first == multiaddr.P_DNSADDR && len(transport) == 1 {
		return spec, nil
	}
	switch first {
	case multiaddr.P_IP4, multiaddr.P_IP6, multiaddr.P_DNS, multiaddr.P_DNS4, multiaddr.P_DNS6:
		if len(transport) == 2 && transport[1].Protocol().Code == multiaddr.P_TCP {
			return spec, nil
		}
	}
	return bootstrapSpec{}, fmt.Errorf("%q: want /ip4/ADDR/tcp/PORT[/p2p/ID], /dns4/NAME/tcp/PORT[/p2p/ID] or /dnsaddr/NAME", s)
}
