package node

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/meshd-project/meshd/node/topology"
)

const (
	peersKept     = 64
	peersInterval = 5 * time.Second
)

// peersText lists connected members for the way back in after a restart, seeds and relays first: they stay longest at
// their addresses. It is nil while nobody is connected, so that the file keeps those who were.
func peersText(members []topology.Member) []byte {
	members = slices.DeleteFunc(slices.Clone(members), func(m topology.Member) bool { return !m.Connected })
	weight := func(m topology.Member) int {
		switch {
		case m.Seed:
			return 0
		case m.Relay:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(members, func(a, b topology.Member) int { return cmp.Compare(weight(a), weight(b)) })
	var b bytes.Buffer
	for _, m := range members[:min(len(members), peersKept)] {
		addrs, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: m.ID, Addrs: m.Addrs})
		if err != nil {
			continue
		}
		for _, a := range addrs {
			fmt.Fprintln(&b, a)
		}
	}
	return b.Bytes()
}
