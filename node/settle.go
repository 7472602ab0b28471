package node

import (
	"context"
	"os"
	"time"

	"github.com/meshd-project/meshd/mirror"
	"github.com/meshd-project/meshd/node/topology"
)

const (
	settleLimit  = 3 * time.Second        // from the start, if nobody is found
	settleFirst  = 300 * time.Millisecond // from the first member on, for the others of its roster to be connected
	settleOthers = time.Second            // from the first member on, if some of its roster do not answer
	settlePoll   = 20 * time.Millisecond
)

// settle returns when this node has found the mesh that it was told of, within reason: a node that has just started
// and does not know its peers yet would read from the origin what they hold or are about to read.
func settle(ctx context.Context, members func() []topology.Member) {
	start := time.Now()
	var first time.Time
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	for {
		all, some := true, false
		for _, m := range members() {
			all, some = all && m.Connected, some || m.Connected
		}
		now := time.Now()
		if some && first.IsZero() {
			first = now
		}
		switch {
		case first.IsZero():
			if now.Sub(start) >= settleLimit {
				return
			}
		case all && now.Sub(first) >= settleFirst, now.Sub(first) >= settleOthers:
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// measured takes members for connected only once it is known how far they are.
func measured(members []topology.Member) []topology.Member {
	for i := range members {
		members[i].Connected = members[i].Connected && members[i].RTT > 0
	}
	return members
}

// mayFind reports whether there is a way to members to be tried: a bootstrap given, or members of an earlier run.
func (n *node) mayFind() bool {
	_, err := os.Stat(n.path(PeersFile))
	return len(n.cfg.P2P.Bootstrap) > 0 || err == nil
}

// settledBlobs holds back blobs that are not on disk until settled is closed.
type settledBlobs struct {
	mirror.Blobs
	settled <-chan struct{}
}

func (b settledBlobs) Open(ctx context.Context, w mirror.BlobWant) (mirror.Blob, error) {
	if _, here := b.Stat(w.Digest); !here {
		select {
		case <-b.settled:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return b.Blobs.Open(ctx, w)
}
