package swarm

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Action is what the core asks of its driver. Actions are named in the imperative and are carried out in
// order; their outcomes come back as events.
type Action interface{ action() }

// GiveUpReason says why a blob's session ended without the blob.
type GiveUpReason uint8

const (
	GaveUpOrigin    GiveUpReason = 1 // the origin refused or failed and nobody else has it
	GaveUpCorrupt   GiveUpReason = 2 // the origin's own bytes do not match the digest
	GaveUpAbandoned GiveUpReason = 3 // no local reader for Config.Linger
	GaveUpStore     GiveUpReason = 4 // the store could not take it
)

// AnnounceState is what a node announces of a blob.
type AnnounceState uint8

const (
	Importing AnnounceState = 1 // it is on its way into this zone
	Holding   AnnounceState = 2 // this node has it whole
)

type (
	// Send sends a message; it is dropped if the peer cannot be reached (MemberLost tells).
	Send struct {
		To  PeerID
		Msg Message
	}
	// FindProviders asks discovery for holders of a blob, cheapest source first: gossip, the zone's DHT
	// key, the global key. Answered by ProvidersFound.
	FindProviders struct{ Digest digest.Digest }
	// Announce tells gossip (and, when Holding, the DHT) about a blob.
	Announce struct {
		Digest digest.Digest
		State  AnnounceState
		Global bool // also under the global key
	}
	// OpenBlob asks the store for room for a blob whose size is now known. Answered by Held, with what an
	// earlier run left, or OpenFailed.
	OpenBlob struct {
		Digest digest.Digest
		Size   int64
	}

	// Window says which pieces of a blob that is not kept the driver holds in memory, from Unkept on: those of Now; what it
	// holds besides it forgets. A fetch waits before a piece of Later that is not in Now; what is in neither it skips.
	Window struct {
		Digest     digest.Digest
		Now, Later Bitmap
	}

	// RequestPiece asks a peer for a piece. It ends in PieceArrived or PieceFailed, unless cancelled.
	RequestPiece struct {
		To      PeerID
		Digest  digest.Digest
		Piece   PieceIndex
		Timeout time.Duration // without an end within this: PieceFailed, FailedTimeout
	}
	// CancelPiece ends a request; no event follows, one that is under way already may still come.
	CancelPiece struct {
		To     PeerID
		Digest digest.Digest
		Piece  PieceIndex
	}
	// ServePiece lets upload Xfer go. Ends in PieceServed.
	ServePiece struct{ Xfer uint64 }
	// RefusePiece answers upload Xfer with busy. No event follows.
	RefusePiece struct {
		Xfer uint64
		Wait time.Duration // ask again after this; 0: this node does not have it
		Load uint8
	}

	// FetchOrigin reads Count pieces from First out of the origin in one request; Count 0 is to the end, and
	// the only form while the size is unknown unless Bytes is set.
	FetchOrigin struct {
		Digest digest.Digest
		Fetch  uint64
		Origin OriginRef
		First  PieceIndex
		Count  uint32
		Bytes  int64 // with an unknown size: read just this many bytes from the start; 0 = no limit
	}
	// StopOrigin ends a fetch; pieces of it that were read already may still be told. No OriginDone follows.
	StopOrigin struct {
		Digest digest.Digest
		Fetch  uint64
	}

	// Await says that another node reads a blob of unknown size out of the origin: it may take long, and is worth waiting for.
	// It is repeated while an arbiter says so, every few seconds.
	Await struct {
		Digest digest.Digest
		Reader PeerID
	}

	// Verify has the whole blob checked against its digest and kept. Answered by Verified or VerifyFailed.
	Verify struct{ Digest digest.Digest }
	// Discard drops all pieces of an incomplete blob: their proof has failed. The blob stays open for new ones.
	Discard struct{ Digest digest.Digest }
	// Distrust has the driver refuse pieces of a blob that rest on Attester's word or, of Strangers, on that of anybody who
	// is no member known here: PieceFailed with FailedDistrusted, nothing stored. It lasts until the session ends.
	Distrust struct {
		Digest    digest.Digest
		Attester  PeerID
		Strangers bool
	}
	// GiveUp ends a session: its readers fail with the reason, what is proven stays on disk.
	GiveUp struct {
		Digest digest.Digest
		Reason GiveUpReason
	}
	// Quarantine says that the core asks nothing of a peer until a time; a time that has come ends it. With Refuse it is isolated: the driver refuses
	// its attestations and requests.
	Quarantine struct {
		Peer  PeerID
		Until Time
		Why   Failure

		Refuse bool
	}
)

func (Send) action()          {}
func (FindProviders) action() {}
func (Announce) action()      {}
func (OpenBlob) action()      {}
func (Window) action()        {}
func (RequestPiece) action()  {}
func (CancelPiece) action()   {}
func (ServePiece) action()    {}
func (RefusePiece) action()   {}
func (FetchOrigin) action()   {}
func (StopOrigin) action()    {}
func (Await) action()         {}
func (Verify) action()        {}
func (Discard) action()       {}
func (Distrust) action()      {}
func (GiveUp) action()        {}
func (Quarantine) action()    {}
