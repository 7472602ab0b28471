package origin

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
)

// reach is a set of kinds of addresses.
type reach uint8

const (
	public   reach = 1 << iota
	private        // RFC 1918, RFC 4193, RFC 6598: somebody's own network
	loopback       // this machine
	local          // link-local, and the metadata services of clouds
)

func (r reach) String() string {
	if r == 0 {
		return "unusable"
	}
	var names []string
	for i, n := range []string{"public", "private", "loopback", "link-local"} {
		if r&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, "|")
}

var (
	shared = netip.MustParsePrefix("100.64.0.0/10")
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	thisV4 = netip.MustParsePrefix("0.0.0.0/8")

	// metadata services that do not live in 169.254.0.0/16: EC2 over IPv6, Alibaba, Azure's wire server, Oracle.
	metadata = []netip.Addr{
		netip.MustParseAddr("fd00:ec2::254"),
		netip.MustParseAddr("100.100.100.200"),
		netip.MustParseAddr("168.63.129.16"),
		netip.MustParseAddr("192.0.0.192"),
	}
)

// kindOf returns the one kind of an address; 0 for those that nothing can be fetched from.
func kindOf(a netip.Addr) reach {
	a = a.Unmap().WithZone("")
	if nat64.Contains(a) { // the IPv4 address is in the last four bytes
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	for _, m := range metadata {
		if a == m {
			return local
		}
	}
	switch {
	case a.IsLoopback(), a.IsUnspecified(), thisV4.Contains(a): // 0.0.0.0 leads to this machine
		return loopback
	case a.IsLinkLocalUnicast():
		return local
	case a.IsPrivate(), shared.Contains(a):
		return private
	case a.IsGlobalUnicast():
		return public
	}
	return 0
}

// kindOfConn is kindOf the remote end of a connection.
func kindOfConn(addr net.Addr) reach {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return 0
	}
	return kindOf(ap.Addr())
}

// guard refuses addresses outside the set. It is a net.Dialer's Control: it sees each address that is about to be
// connected to, after name resolution.
func (r reach) guard(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: address %q", ErrRefused, address)
	}
	if kind := kindOf(ap.Addr()); kind&r == 0 {
		return fmt.Errorf("%w: %s is a %s address (name the registry in the configuration to allow it)", ErrRefused, ap.Addr(), kind)
	}
	return nil
}
