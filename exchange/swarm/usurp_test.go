package swarm_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm/swarmtest"
)

// Three of ten nodes, one of them a seed, say that they have everything, keep every unit for themselves as arbiters, and are
// always busy. Nobody would go to the origin for what somebody has: after Config.LastResort without a byte they are not believed.
func TestUsurpers(t *testing.T) {
	for i := range 12 { // of other ranks each time
		net := swarmtest.New(6 * mib)
		net.Digest = digest.FromString(fmt.Sprint("blob ", i))
		var honest []*swarmtest.Node
		for k, zone := range []string{"a", "a", "a", "a", "b", "b", "b"} {
			honest = append(honest, net.Add(zone, k == 0 || k == 4))
		}
		for k, zone := range []string{"a", "a", "b"} {
			net.Add(zone, k == 0).Usurp = true
		}
		for _, nd := range honest {
			nd.Want(-1)
		}
		net.Run(time.Minute)
		for _, nd := range honest {
			if took := time.Duration(nd.Done); took == 0 || took > net.Config.LastResort+5*time.Second {
				t.Errorf("blob %d: %s took %v (0: it has not got it)", i, nd.ID, took)
			}
		}
		if copies, _ := net.Copies(); copies > 1.01 {
			t.Errorf("blob %d: the origin sent %.2f copies", i, copies)
		}
	}
}
