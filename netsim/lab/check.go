package lab

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meshd-project/meshd/netsim"
)

// Bounds of what one machine can be asked for.
const (
	maxNodes = 100
	maxZones = 200                  // addresses are 10.ZONE.0.0/16
	maxBytes = 64 << 30             // on all disks together
	minRate  = 10e3                 // bytes a second
	maxRTT   = 1 * time.Millisecond // within a zone: there is no delay there but the kernel's own
)

// Check reports what the lab cannot do of a scenario: the first such field, with its line.
func Check(s *netsim.Scenario) error {
	bytes := int64(0)
	for _, l := range s.Layers {
		bytes += int64(l.Size) * int64(l.Count)
	}
	for _, c := range []struct {
		bad   bool
		field string
		why   string
	}{
		{s.Nodes() > maxNodes, "zones", fmt.Sprintf("%d nodes, at most %d processes fit a machine", s.Nodes(), maxNodes)},
		{len(s.Zones) > maxZones, "zones", fmt.Sprintf("at most %d zones have addresses", maxZones)},
		{bytes*int64(s.Nodes()) > maxBytes, "layers", fmt.Sprintf("all nodes together would hold more than %v", netsim.Bytes(maxBytes))},
		{s.Pull.Unsized, "pull.unsized", "clients of the lab read the manifest, which has the sizes"},
		{s.Origin.Down, "origin.down", "nobody could push the image"},
		{s.Origin.NoRange, "origin.no_range", "the lab's registry knows ranges"},
		{s.Origin.PerConnection > 0, "origin.per_connection", "the router does not tell connections apart"},
		{s.Network.Loss > 0, "network.loss", "the router loses packets only when a queue is full"},
		{len(s.Liars) > 0, "liars", "processes keep the rules"},
		{len(s.Warm) > 0, "warm", "disks are empty at the start"},
		{s.Churn.Rate > 0, "churn", "is not there; use faults and arrivals"},
		{len(s.Swarm) > 0, "swarm", "the daemon's constants cannot be set from outside"},
	} {
		if c.bad {
			return refuse(s, c.field, c.why)
		}
	}
	for i, z := range s.Zones {
		if err := checkZone(s, fmt.Sprintf("zones[%d].", i), z); err != nil {
			return err
		}
	}
	for i, f := range s.Faults {
		if f.Origin {
			return refuse(s, fmt.Sprintf("faults[%d].origin", i), "the lab's registry stays")
		}
	}
	return nil
}

// checkZone refuses distances within a zone, and links on which not even acknowledgements get through.
func checkZone(s *netsim.Scenario, at string, z netsim.Zone) error {
	if time.Duration(z.RTT) > maxRTT {
		return refuse(s, at+"rtt", fmt.Sprintf("at most %v: within a zone there is no delay but the kernel's", maxRTT))
	}
	for _, c := range []struct {
		field string
		rate  netsim.Rate
		used  bool
	}{
		{"host.up", z.Host.Up, z.Hosts > 0},
		{"host.down", z.Host.Down, z.Hosts > 0},
		{"seed_host.up", z.SeedHost.Up, z.Seeds > 0},
		{"seed_host.down", z.SeedHost.Down, z.Seeds > 0},
		{"out", z.Out, len(s.Zones) > 1},
		{"in", z.In, len(s.Zones) > 1},
	} {
		if c.used && c.rate < minRate {
			return refuse(s, at+c.field, fmt.Sprintf("at least %v a second, or TCP cannot even acknowledge", netsim.Bytes(minRate)))
		}
	}
	return nil
}

func refuse(s *netsim.Scenario, field, why string) error {
	return s.Refuse(field, "cannot be had in the lab: %s", why)
}

// Ready returns the names of the ready-made scenarios that are made for the lab.
func Ready() []string {
	return slices.DeleteFunc(netsim.Ready(), func(name string) bool { return !strings.HasPrefix(name, "lab-") })
}
