package lab

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/meshd-project/meshd/netsim"
)

// registrySend bounds what the kernel takes of the registry for a connection before it is sent: what the registry counts as
// written, and what a client that dies never gets.
const registrySend = "4096 65536 524288" // bytes: least, at first, most

const (
	mtu       = 1500
	tunName   = "wan"
	cardName  = "eth0"
	hostQueue = 50 * time.Millisecond // what the queue of a card holds, at its rate
	hostBurst = 5 * time.Millisecond  // what a card may send at once
	minBurst  = 16 << 10              // bytes
	tunQueue  = 2000                  // packets that wait for the router
)

// wires are the namespaces of a lab and what connects them. One goroutine builds and closes them; slow and unplug may be
// called by any in between.
type wires struct {
	zones    []*namespace // a bridge for the cards of its hosts, and a TUN device to the router
	hosts    []*namespace
	cards    []card // of hosts
	registry *namespace
	tuns     []tun.Device // of the zones and, behind them, of the registry

	mu sync.Mutex // held while cards change
}

// card is the network card of a host.
type card struct {
	zone            int
	inside, outside netlink.Link // the host's end, the bridge's end
	up, down        float64      // bytes a second
}

// lay makes all namespaces and links of a scenario. The caller closes the wires, also after an error.
func (w *wires) lay(s *netsim.Scenario, p *netsim.Script) error {
	for z := range s.Zones {
		if err := w.layZone(z); err != nil {
			return fmt.Errorf("lay zone %s: %w", s.Zones[z].Name, err)
		}
	}
	inZone := make([]int, len(s.Zones))
	for _, n := range p.Nodes {
		if err := w.layHost(n, inZone[n.Zone]); err != nil {
			return fmt.Errorf("lay host %s: %w", n.Name, err)
		}
		inZone[n.Zone]++
	}
	if err := w.layRegistry(); err != nil {
		return fmt.Errorf("lay the registry: %w", err)
	}
	return nil
}

func (w *wires) layZone(z int) error {
	ns, err := newNamespace()
	if err != nil {
		return err
	}
	w.zones = append(w.zones, ns)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "hosts", MTU: mtu}}
	if err := ns.Links.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add a bridge: %w", err)
	}
	return errors.Join(ns.up(bridge, gateway(z), 16), w.openTUN(ns, nil))
}

func (w *wires) layRegistry() error {
	var err error
	if w.registry, err = newNamespace(); err != nil {
		return err
	}
	return errors.Join(w.registry.set("ipv4/tcp_wmem", registrySend), w.openTUN(w.registry, registryAddress()))
}

// openTUN makes the device through which a namespace reaches the others: everything that is not its own goes there.
func (w *wires) openTUN(ns *namespace, addr net.IP) error {
	err := ns.Do(func() error {
		dev, err := createTUN()
		if err != nil {
			return err
		}
		w.tuns = append(w.tuns, dev)
		return nil
	})
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	link, err := ns.Links.LinkByName(tunName)
	if err != nil {
		return fmt.Errorf("find the TUN device: %w", err)
	}
	if err := errors.Join(ns.Links.LinkSetMTU(link, mtu), ns.Links.LinkSetTxQLen(link, tunQueue), ns.up(link, addr, 32)); err != nil {
		return err
	}
	return ns.route(link, everywhere(), nil)
}

// createTUN opens a device with segmentation offload in the namespace of the calling thread, without the listeners of
// tun.CreateTUN, which assume that the process stays there.
func createTUN() (tun.Device, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq(tunName)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	dev, _, err := tun.CreateUnmonitoredTUNFromFD(fd)
	return dev, err
}

// layHost makes a host's namespace and its card, the other end of which is at the zone's bridge.
func (w *wires) layHost(n netsim.Node, i int) error {
	ns, err := newNamespace()
	if err != nil {
		return err
	}
	w.hosts = append(w.hosts, ns)
	zone := w.zones[n.Zone]
	bridge, err := zone.Links.LinkByName("hosts")
	if err != nil {
		return fmt.Errorf("find the bridge: %w", err)
	}
	c := card{zone: n.Zone, up: float64(n.Up), down: float64(n.Down)}
	name := fmt.Sprintf("h%d", i)
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu, MasterIndex: bridge.Attrs().Index},
		PeerName:  cardName, PeerNamespace: ns.FD(),
	}
	if err := zone.Links.LinkAdd(pair); err != nil {
		return fmt.Errorf("add a veth pair: %w", err)
	}
	if c.outside, err = zone.Links.LinkByName(name); err != nil {
		return err
	}
	if c.inside, err = ns.Links.LinkByName(cardName); err != nil {
		return err
	}
	w.cards = append(w.cards, c)
	near := &net.IPNet{IP: net.IPv4(10, byte(1+n.Zone), 0, 0).To4(), Mask: net.CIDRMask(16, 32)}
	return errors.Join(
		zone.up(c.outside, nil, 0), ns.up(c.inside, hostAddress(n.Zone, i), 32), w.shape(len(w.cards)-1),
		ns.route(c.inside, near, nil), ns.route(c.inside, everywhere(), gateway(n.Zone)),
	)
}

func everywhere() *net.IPNet { return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)} }

// route sends packets to dst out of a link, straight or by way of a gateway.
func (n *namespace) route(link netlink.Link, dst *net.IPNet, gateway net.IP) error {
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: gateway, Congctl: congestion}
	if gateway == nil {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := n.Links.RouteAdd(r); err != nil {
		return fmt.Errorf("route %v to %s with TCP congestion control %s: %w", dst, link.Attrs().Name, congestion, err)
	}
	return nil
}

// slow multiplies the rates of a host's card.
func (w *wires) slow(host int, factor float64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cards[host].up *= factor
	w.cards[host].down *= factor
	return w.shape(host)
}

// unplug takes a host's card off its zone for good.
func (w *wires) unplug(host int) error {
	c := &w.cards[host]
	return w.zones[c.zone].Links.LinkSetDown(c.outside)
}

// up gives a link an address, if there is one, and sets it up.
func (n *namespace) up(link netlink.Link, addr net.IP, bits int) error {
	if addr != nil {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: addr, Mask: net.CIDRMask(bits, 32)}}
		if err := n.Links.AddrAdd(link, a); err != nil {
			return fmt.Errorf("give %s the address %v: %w", link.Attrs().Name, addr, err)
		}
	}
	if err := n.Links.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// shape sets both ends of a host's card to its rates.
func (w *wires) shape(host int) error {
	c := &w.cards[host]
	return errors.Join(w.hosts[host].tbf(c.inside, c.up), w.zones[c.zone].tbf(c.outside, c.down))
}

// tbf has a link send at most so many bytes a second; 0 is no limit.
func (n *namespace) tbf(link netlink.Link, rate float64) error {
	if rate <= 0 {
		return nil
	}
	burst := max(uint32(rate*hostBurst.Seconds()), minBurst)
	q := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       uint64(rate),
		Limit:      uint32(rate*hostQueue.Seconds()) + burst,
		Buffer:     netlink.Xmittime(uint64(rate), burst),
	}
	if err := n.Links.QdiscReplace(q); err != nil {
		return fmt.Errorf("shape %s with tbf (kernel module sch_tbf): %w", link.Attrs().Name, err)
	}
	return nil
}

// close lets go of everything; what nobody is in any more is gone then.
func (w *wires) close() {
	for _, dev := range w.tuns {
		_ = dev.Close() // it cannot fail in a way that leaves it open
	}
	for _, ns := range append(append(w.hosts, w.zones...), w.registry) {
		if ns != nil {
			ns.Close()
		}
	}
}
