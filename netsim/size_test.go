package netsim

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
)

func TestMessageSizeIsThatOfTheWire(t *testing.T) {
	d := digest.FromString("x")
	const size = 300 << 20
	some := swarm.NewBitmap(swarm.LayoutOf(size).Pieces())
	some.Set(3)
	id := peerID(1, 4)
	many := []swarm.Units{{First: 1, Count: 2}, {First: 200, Count: 1}, {First: 100_000, Count: 300}}
	var members []swarm.MemberRef
	for i := range 200 {
		members = append(members, swarm.MemberRef{ID: peerID(1, i), Zone: "zone"})
	}
	for _, m := range []swarm.Message{
		swarm.Hello{Digest: d, Size: -1},
		swarm.Hello{Digest: d, Size: size, Want: true, Have: swarm.NewBitmap(some.Len())},
		swarm.Hello{Digest: d, Size: size, Have: swarm.FullBitmap(some.Len())},
		swarm.Hello{Digest: d, Size: size, Have: some},
		swarm.Have{Digest: d, Load: 3, Pieces: many},
		swarm.Bye{Digest: d},
		swarm.Join{Digest: d, Want: true},
		swarm.Members{Digest: d},
		swarm.Members{Digest: d, Peers: members},
		swarm.Want{Digest: d, Size: size, Origin: originRef},
		swarm.Refuse{Digest: d, Kind: swarm.OriginNotFound},
		swarm.Claim{Digest: d, Scope: swarm.ScopeZone, State: swarm.ClaimWant, Units: many},
		swarm.Verdict{Digest: d, Scope: swarm.ScopeOrigin, Granted: many, Denied: []swarm.Denial{{Units: many[2], Holder: id, Done: true}}},
	} {
		frame, err := wire.AppendMessage(nil, m)
		if err != nil {
			t.Fatalf("%T: %v", m, err)
		}
		if got := messageSize(m); got != len(frame) {
			t.Errorf("%T: size %d, the wire has %d", m, got, len(frame))
		}
	}
}
