package dht

import (
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"
)

// Members says what is known of the mesh. Its methods may be called from any goroutine and do not block.
type Members interface {
	// Count returns the number of members known of all zones, this node among them.
	Count() int
	// Place returns how many members of the own zone come before this node in an order that all of them compute alike
	// for a blob, and how many members the zone has, this node among them.
	Place(blob digest.Digest) (before, of int)
	// Held returns how many other members of the own zone said lately that they hold a blob, as far as that is known:
	// those that come first by Place say so, the others leave it to them.
	Held(blob digest.Digest) int
	// Near reports whether a peer is a member of the own zone.
	Near(peer.ID) bool
}

// alone knows nobody: every record is placed at once.
type alone struct{}

func (alone) Count() int                     { return 1 }
func (alone) Place(digest.Digest) (int, int) { return 0, 1 }
func (alone) Held(digest.Digest) int         { return 0 }
func (alone) Near(peer.ID) bool              { return false }
