package node

import (
	"testing"
	"time"

	"github.com/meshd-project/meshd/node/topology"
)

func TestPeerSaysWhereItsRTTIsFrom(t *testing.T) {
	now := time.Now()
	for _, row := range []struct {
		name string
		m    topology.Member
		want Peer // RTT, Estimated, Rounds, Distrust
		aged bool
	}{
		{"unknown", topology.Member{}, Peer{}, false},
		{"estimated", topology.Member{Estimate: 12 * time.Millisecond, Doubt: 0.2}, Peer{RTT: 12, Estimated: true}, false},
		{"measured", topology.Member{RTT: 1500 * time.Microsecond, Rounds: 3, Measured: now.Add(-time.Minute)}, Peer{RTT: 1.5, Rounds: 3}, true},
		{"liar", topology.Member{RTT: time.Millisecond, Rounds: 9, Measured: now.Add(-time.Minute), Distrust: true}, Peer{RTT: 1, Rounds: 9, Distrust: true}, true},
	} {
		got := peerOf(row.m)
		if got.RTT != row.want.RTT || got.Estimated != row.want.Estimated || got.Rounds != row.want.Rounds || got.Distrust != row.want.Distrust {
			t.Errorf("%s: got %+v, want %+v", row.name, got, row.want)
		}
		if aged := got.RTTAge >= 60; aged != row.aged {
			t.Errorf("%s: age %v", row.name, got.RTTAge)
		}
	}
}
