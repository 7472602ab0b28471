package lab

import (
	"fmt"
	"time"

	"github.com/meshd-project/meshd/netsim"
)

// Bounds of what one machine can be asked for.
const (
	maxNodes = 100
	maxZones = 200                  // addresses are 10.ZONE.0.0/16
	maxBytes = 64 << 30             // on all disks together
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
		if time.Duration(z.RTT) > maxRTT {
			return refuse(s, fmt.Sprintf("zones[%d].rtt", i), fmt.Sprintf("at most %v: within a zone there is no delay but the kernel's", maxRTT))
		}
	}
	for i, f := range s.Faults {
		if f.Origin {
			return refuse(s, fmt.Sprintf("faults[%d].origin", i), "the lab's registry stays")
		}
	}
	return nil
}

func refuse(s *netsim.Scenario, field, why string) error {
	return s.Refuse(field, "cannot be had in the lab: %s", why)
}
