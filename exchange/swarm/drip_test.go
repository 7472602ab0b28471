package swarm_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/swarm/swarmtest"
)

const drop = 16 << 10 // bytes a second

// Three of ten nodes, one of them a seed, say that they have everything, keep every unit for themselves as arbiters, and send
// what they are asked for drop by drop. Once one node has seen what the origin gives, nobody waits for them any more; each byte
// still leaves the origin once.
func TestDrippers(t *testing.T) {
	for i := range 12 { // of other ranks each time
		net := swarmtest.New(6 * mib)
		net.Digest = digest.FromString(fmt.Sprint("blob ", i))
		var honest []*swarmtest.Node
		for k, zone := range []string{"a", "a", "a", "a", "b", "b", "b"} {
			honest = append(honest, net.Add(zone, k == 0 || k == 4))
		}
		for k, zone := range []string{"a", "a", "b"} {
			net.Add(zone, k == 0).Drip = drop
		}
		for _, nd := range honest {
			nd.Want(-1)
		}
		net.Run(5 * time.Minute)
		var last time.Duration
		for _, nd := range honest { // twice in each zone: the drippers of the other are known by what others there do
			took := time.Duration(nd.Done)
			if last = max(last, took); took == 0 || took > 4*net.Config.DripTime+3*time.Second {
				t.Errorf("blob %d: %s took %v (0: it has not got it)", i, nd.ID, took)
			}
		}
		origin, zones := net.Copies()
		t.Logf("blob %d: the last has it at %v; copies from the origin %.3f, into zones %v", i, last.Round(time.Millisecond), origin, zones)
		if origin > 1.001 {
			t.Errorf("blob %d: the origin sent %.3f copies", i, origin)
		}
		for z, n := range zones {
			if n > 1.5 {
				t.Errorf("blob %d: %.2f copies came into zone %s", i, n, z)
			}
		}
	}
}

// alone is a node that wants a blob of 4 MiB, which only one that drips has, and the origin.
func alone(zone string) (*swarmtest.Net, *swarmtest.Node) {
	net := swarmtest.New(4 * mib)
	nd := net.Add("a", false)
	net.Add(zone, false).Drip = drop
	nd.Want(-1)
	return net, nd
}

// One that drips beside the origin alone is waited for until it is known to.
func TestDripperBesideTheOrigin(t *testing.T) {
	net, nd := alone("a")
	net.Run(5 * time.Minute)
	if took := time.Duration(nd.Done); took == 0 || took > net.Config.DripTime+time.Second {
		t.Errorf("it took %v (0: it has not got it)", took)
	}
	if origin, _ := net.Copies(); origin > 1.001 {
		t.Errorf("the origin sent %.3f copies", origin)
	}
}

// From one of another zone each byte comes once, and none from the origin: the pipe between the zones may be thin.
func TestThinPipeIsWaitedFor(t *testing.T) {
	net, nd := alone("b")
	net.Run(10 * time.Minute)
	if nd.Done == 0 || nd.FromOrigin > 0 || nd.Duplicate > 0 || len(nd.Shunned) > 0 {
		t.Errorf("done at %v, %d bytes from the origin, %d twice, shuns %v", time.Duration(nd.Done), nd.FromOrigin, nd.Duplicate, nd.Shunned)
	}
}

// One that drips is all that there is: it is waited for, and not blamed.
func TestNobodyButADripper(t *testing.T) {
	net, nd := alone("a")
	net.Origin.Fail = swarm.OriginUnreachable
	net.Run(10 * time.Minute)
	if nd.Done == 0 || nd.FromOrigin > 0 || len(nd.Shunned) > 0 {
		t.Errorf("done at %v, %d bytes from the origin, shuns %v", time.Duration(nd.Done), nd.FromOrigin, nd.Shunned)
	}
}

// The origin shows what is possible, and is lost: the one that drips is believed again, for there is nobody else.
func TestDripperIsForgiven(t *testing.T) {
	net, nd := alone("a")
	net.Stepped = func(*swarmtest.Node, swarm.Event) {
		if nd.FromOrigin > 0 {
			net.Origin.Fail = swarm.OriginRefused
		}
	}
	net.Run(10 * time.Minute)
	if nd.Done == 0 || nd.FromOrigin == 0 || nd.FromOrigin > mib || len(nd.Shunned) != 2 {
		t.Errorf("done at %v, %d bytes from the origin, quarantine begun and ended: %v", time.Duration(nd.Done), nd.FromOrigin, nd.Shunned)
	}
}

// Behind a narrow link everybody seems to drip, the origin too. Nobody is blamed for it, and little is asked of the origin.
func TestNarrowLinkIsNobodysFault(t *testing.T) {
	net := swarmtest.New(16 * mib)
	for i := range 4 {
		net.Add("a", i == 0)
	}
	nodes := net.Nodes()
	nodes[0].Want(-1)
	net.Run(time.Minute)
	net.Rate = 48 << 10
	for _, nd := range nodes[1:] {
		nd.Thin = net.Rate
		nd.Want(-1)
	}
	net.Run(time.Hour)
	for _, nd := range nodes {
		if nd.Done == 0 || len(nd.Shunned) > 0 || nd.Duplicate > 4*mib {
			t.Errorf("%s: done at %v, shuns %v, %d bytes twice", nd.ID, time.Duration(nd.Done), nd.Shunned, nd.Duplicate)
		}
	}
	if origin, _ := net.Copies(); origin > 1.1 {
		t.Errorf("the origin sent %.3f copies", origin)
	}
}
