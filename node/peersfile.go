package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/meshd-project/meshd/node/topology"
)

const (
	peersKept     = 64
	peersInterval = 5 * time.Second
)

// keepPeers writes the members connected to a file, for the way back in after a restart, until ctx is done, and
// once more then. While nobody is connected the file is left as it is.
func keepPeers(ctx context.Context, path string, members func() []topology.Member) error {
	tick := time.NewTicker(peersInterval)
	defer tick.Stop()
	last := ""
	write := func() {
		text := peersText(members())
		if text == "" || text == last {
			return
		}
		if err := writeFile(path, []byte(text), 0o600); err != nil {
			log.Warnw("members not written down", "err", err)
			return
		}
		last = text
	}
	for {
		select {
		case <-ctx.Done():
			write()
			return nil
		case <-tick.C:
			write()
		}
	}
}

// peersText lists connected members, seeds and relays first: they stay longest at their addresses.
func peersText(members []topology.Member) string {
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
	var b strings.Builder
	for _, m := range members[:min(len(members), peersKept)] {
		addrs, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: m.ID, Addrs: m.Addrs})
		if err != nil {
			continue
		}
		for _, a := range addrs {
			fmt.Fprintln(&b, a)
		}
	}
	return b.String()
}
