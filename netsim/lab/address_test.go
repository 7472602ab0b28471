package lab

import (
	"net"
	"testing"
)

// The addresses that hosts get lead back to their zones.
func TestAddresses(t *testing.T) {
	seen := map[string]bool{}
	for zone := range maxZones {
		for _, n := range []int{0, 1, 249, 250, maxNodes - 1} {
			a := hostAddress(zone, n)
			if got, ok := port([4]byte(a), maxZones); !ok || got != zone {
				t.Errorf("%v is in zone %d, want %d", a, got, zone)
			}
			if a.Equal(gateway(zone)) {
				t.Errorf("host %d of zone %d has the gateway's address", n, zone)
			}
			seen[a.String()] = true
		}
	}
	if len(seen) != maxZones*5 {
		t.Errorf("%d different addresses", len(seen))
	}
	if got, ok := port([4]byte(registryAddress()), 3); !ok || got != 3 {
		t.Errorf("the registry is at port %d", got)
	}
	if _, ok := port([4]byte(net.IPv4(10, 4, 0, 1).To4()), 3); ok {
		t.Error("a zone that is not there has a port")
	}
}
