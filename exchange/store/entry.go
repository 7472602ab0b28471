package store

import (
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// state is where a blob is in its life.
type state uint8

const (
	stateBusy     state = iota // Begin or Put is at work on its files
	stateLive                  // a Partial is open
	statePartial               // some pieces on disk, nobody at work
	stateComplete              // a file in blobs/
)

// entry is what the store knows of one digest.
type entry struct {
	digest digest.Digest

	// Guarded by Store.mu.
	layout    layout
	mediaType string
	state     state
	shelved   bool      // its bytes lie on the shelf (shelf.go), not in blobs/; it has no room here then
	refs      int       // open Blobs
	partial   *Partial  // not closed yet; may be committed already
	used      time.Time // for LRU
	stamped   time.Time // value of used that the sidecar's mtime tells
	scrubbed  time.Time // when it was last hashed from end to end, or begun to be; zero: by an earlier run
	claimed   int64     // statePartial: bytes that the journal claims
	promised  int64     // bytes of the layout for which no block was set aside yet

	// Guarded by load, which is held while the ledger is read or computed.
	load   sync.Mutex
	ledger *ledger // nil until the first Get
}

// content is the digest that the bytes must have.
func (e *entry) content() digest.Digest {
	d, _ := Content(e.digest)
	return d
}

// idle reports whether the entry may be deleted. Store.mu must be held.
func (e *entry) idle() bool {
	return e.refs == 0 && e.partial == nil && (e.state == statePartial || e.state == stateComplete)
}

// info describes an entry. Store.mu must be held.
func (s *Store) info(e *entry) Info {
	i := Info{
		Digest: e.digest, Size: e.layout.size, PieceSize: e.layout.pieceSize, MediaType: e.mediaType,
		Complete: e.state == stateComplete, InUse: !e.idle(), Pinned: s.isPinned(e.digest), Used: e.used,
	}
	switch {
	case i.Complete:
		i.Have = i.Size
	case e.partial != nil:
		i.Have = e.partial.Held()
	default:
		i.Have = e.claimed
	}
	return i
}

// Info describes a blob.
type Info struct {
	Digest    digest.Digest
	Size      int64 // bytes
	PieceSize int64 // bytes
	Complete  bool
	Have      int64 // bytes held; of a closed partial those it claims, unproven
	MediaType string
	InUse     bool // neither Delete nor eviction touches it
	Pinned    bool // the same, by a pin
	Used      time.Time
}

// Usage sums up the store.
type Usage struct {
	Bytes    int64 // of all blobs, arriving ones at their full size
	Capacity int64 // 0: no bound
	Shelved  int64 // of blobs that lie on the shelf, not in Bytes
	Pinned   int64 // of Bytes
	Blobs    int   // complete ones
	Partials int   // all others
}
