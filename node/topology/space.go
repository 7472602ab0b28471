package topology

import (
	"crypto/sha256"
	"math"
	"time"

	"github.com/hashicorp/serf/coordinate"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/meshd-project/meshd/dht/gossip"
)

const (
	usableError = 0.5                   // of a coordinate; above it none is used
	maxStep     = 25 * time.Millisecond // that one sample moves this node by
	leastRTT    = 2 * time.Millisecond  // what shorter ones count as: below, noise would drown all trust
	maxDoubt    = 0.05                  // that one sample adds to this node's error
	maxPull     = time.Second           // a coordinate that is off by more is nonsense
	minClaim    = 0.05                  // error taken for those who claim less
	distrustAt  = 3                     // samples against a peer's coordinate until it is not used
	maxStrikes  = 6
	offFactor   = 3 // an estimate contradicts an RTT if it is off by this factor and offSlack
	offSlack    = 5 * time.Millisecond
)

// space is this node's place in the space of round trips (Vivaldi). It is not safe for concurrent use.
type space struct{ client *coordinate.Client }

// newSpace starts close to the origin, in a direction of the node's own: from the very same point nobody can tell
// which way to move.
func newSpace(self peer.ID) *space {
	conf := coordinate.DefaultConfig()
	conf.AdjustmentWindowSize = 0
	c, err := coordinate.NewClient(conf)
	if err != nil {
		panic(err) // the dimensions are a constant
	}
	at := c.GetCoordinate()
	sum := sha256.Sum256([]byte(self))
	for i := range at.Vec {
		at.Vec[i] = (float64(sum[i]) - 127.5) * 1e-6
	}
	if err := c.SetCoordinate(at); err != nil {
		panic(err) // it is one of the client's own
	}
	return &space{c}
}

// own returns this node's coordinate.
func (s *space) own() gossip.Coordinate {
	at := s.client.GetCoordinate()
	c := gossip.Coordinate{Height: float32(at.Height), Error: float32(min(at.Error, 1.5))}
	for i := range c.Vec {
		c.Vec[i] = float32(at.Vec[i])
	}
	return c
}

// sample takes in a round to a peer that says it stands at said. strikes, the peer's own, counts what speaks against it.
func (s *space) sample(id peer.ID, said *gossip.Coordinate, rtt time.Duration, strikes *int) {
	if said == nil || rtt <= 0 {
		return
	}
	other := fromGossip(said)
	before := s.client.GetCoordinate()
	dist := before.DistanceTo(other)
	switch {
	case before.Error > usableError: // all there is to learn from
	case other.Error > usableError:
		return
	case contradicts(dist, rtt):
		*strikes = min(*strikes+1, maxStrikes)
	default:
		*strikes = max(*strikes-1, 0)
	}
	if *strikes >= distrustAt || max(dist-rtt, rtt-dist) > maxPull {
		return
	}
	other.Error = max(other.Error, minClaim)
	after, err := s.client.Update(string(id), other, max(rtt, leastRTT))
	if err != nil { // an RTT of more than 10 s
		return
	}
	s.bound(before, after)
}

// bound takes back what a sample changed beyond maxStep and maxDoubt.
func (s *space) bound(before, after *coordinate.Coordinate) {
	step := maxStep.Seconds()
	var moved float64
	for i := range after.Vec {
		moved += (after.Vec[i] - before.Vec[i]) * (after.Vec[i] - before.Vec[i])
	}
	if moved = math.Sqrt(moved); moved > step {
		for i := range after.Vec {
			after.Vec[i] = before.Vec[i] + (after.Vec[i]-before.Vec[i])*step/moved
		}
	}
	after.Height = min(max(after.Height, before.Height-step, coordinate.DefaultConfig().HeightMin), before.Height+step)
	after.Error = min(after.Error, before.Error+maxDoubt)
	s.client.SetCoordinate(after) //nolint:errcheck // a valid one with a bounded change is valid
}

// estimate is the RTT to who says that it stands at said and the error of the two coordinates together; 0 if either
// is not good enough.
func (s *space) estimate(said *gossip.Coordinate, strikes int) (rtt time.Duration, error float64) {
	if said == nil || strikes >= distrustAt {
		return 0, 0
	}
	own, other := s.client.GetCoordinate(), fromGossip(said)
	if own.Error > usableError || other.Error > usableError {
		return 0, 0
	}
	return max(own.DistanceTo(other), time.Microsecond), own.Error + max(other.Error, minClaim)
}

// forget drops what is kept of a peer.
func (s *space) forget(id peer.ID) { s.client.ForgetNode(string(id)) }

// contradicts reports whether an estimate and a measured RTT cannot both be right.
func contradicts(estimate, rtt time.Duration) bool {
	return estimate > offFactor*rtt+offSlack || rtt > offFactor*estimate+offSlack
}

func fromGossip(c *gossip.Coordinate) *coordinate.Coordinate {
	out := &coordinate.Coordinate{
		Vec: make([]float64, len(c.Vec)), Height: float64(c.Height), Error: float64(c.Error),
	}
	for i, f := range c.Vec {
		out.Vec[i] = float64(f)
	}
	return out
}
