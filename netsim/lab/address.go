package lab

import "net"

// Addresses: 10.(1+zone).0.1 is the zone's bridge, 10.(1+zone).(1+n/250).(1+n%250) its n-th node.
const registryNet = 255

func gateway(zone int) net.IP { return net.IPv4(10, byte(1+zone), 0, 1).To4() }

func hostAddress(zone, n int) net.IP {
	return net.IPv4(10, byte(1+zone), byte(1+n/250), byte(1+n%250)).To4()
}

func registryAddress() net.IP { return net.IPv4(10, registryNet, 0, 1).To4() }

// port returns the port of the fabric behind which an address is.
func port(addr [4]byte, zones int) (int, bool) {
	switch {
	case addr[0] != 10:
	case addr[1] == registryNet:
		return zones, true
	case addr[1] >= 1 && int(addr[1]) <= zones:
		return int(addr[1]) - 1, true
	}
	return 0, false
}
