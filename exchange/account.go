package exchange

import (
	"sync/atomic"
)

// Sources are bytes by where they came from or went to.
type Sources struct {
	Disk      int64 `json:"disk"`       // in: read by local clients of blobs that were here whole before they asked
	Zone      int64 `json:"zone"`       // peers of the own zone
	OtherZone int64 `json:"other_zone"` // peers of other zones
	Origin    int64 `json:"origin"`     // registries
}

// account counts bytes by source.
type account struct{ disk, zone, otherZone, origin atomic.Int64 }

func (a *account) sources() Sources {
	return Sources{Disk: a.disk.Load(), Zone: a.zone.Load(), OtherZone: a.otherZone.Load(), Origin: a.origin.Load()}
}

// peer returns the counter for a peer.
func (a *account) peer(sameZone bool) *atomic.Int64 {
	if sameZone {
		return &a.zone
	}
	return &a.otherZone
}

// accounts are the node's sums since its start.
type accounts struct {
	in, out        account
	originRequests atomic.Int64
	duplicate      atomic.Int64
	clients        atomic.Int64
	streamed       atomic.Int64
}
