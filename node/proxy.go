package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/meshd-project/meshd/mirror/proxy"
	"github.com/meshd-project/meshd/seed/origin"
)

// ProxyRule says what the proxy does with some hosts. Its text is HOST[:PORT]=ACTION or /REGEXP/=ACTION.
type ProxyRule = proxy.Rule

// CAName begins the common name of the proxy's certificate authority.
const CAName = proxy.CAName

// dialTimeout bounds reaching a host for a client of the proxy.
const dialTimeout = 10 * time.Second

// openProxy makes the forward proxy before the mirror.
func (n *node) openProxy() (err error) {
	c := proxy.Config{Rules: n.cfg.Proxy.Rules, CA: n.ca, DialTimeout: dialTimeout, ConnState: n.answering.state}
	for _, r := range n.cfg.Origin.Registries {
		c.Registries = append(c.Registries, proxy.Registry{Name: r.Host, URLs: append([]string{r.URL}, r.URLs...)})
	}
	n.proxy, err = proxy.New(c, n.mirror, n.origin, n.dialForClient)
	return err
}

// dialForClient implements proxy.Dialer. The node's own ports are never reached, by whatever name.
func (n *node) dialForClient(ctx context.Context, address string, named bool) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, Control: func(network, address string, c syscall.RawConn) error {
		if err := n.notOwn(network, address, c); err != nil || named {
			return err
		}
		return origin.GuardClient(network, address, c)
	}}
	return d.DialContext(ctx, "tcp", address)
}

// notOwn is a dialer's Control that refuses this node's own ports.
func (n *node) notOwn(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	local, err := localAddrs()
	if err != nil {
		return err
	}
	if slices.Contains(n.ownPorts(), to.Port()) && origin.OwnAddress(to.Addr(), local) {
		return fmt.Errorf("%s is this node itself: no proxy leads there", address)
	}
	return nil
}

// ownPorts are the TCP ports that this node listens on.
func (n *node) ownPorts() []uint16 {
	var ports []uint16
	for _, l := range []net.Listener{n.mirrorListener, n.adminListener, n.dataListener} {
		if port, ok := ownPort(l); ok {
			ports = append(ports, port)
		}
	}
	for _, a := range n.host.Network().ListenAddresses() {
		if s, err := a.ValueForProtocol(multiaddr.P_TCP); err == nil {
			if p, err := netip.ParseAddrPort("0.0.0.0:" + s); err == nil {
				ports = append(ports, p.Port())
			}
		}
	}
	return ports
}

// localAddrs are this machine's addresses.
func localAddrs() ([]netip.Addr, error) {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("this machine's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range nets {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr())
		}
	}
	return out, nil
}
