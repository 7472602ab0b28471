package swarm

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Event is something that happened; the driver hands it to Step. Events are named in the past.
type Event interface{ event() }

// Class is the priority of a want.
type Class uint8

const (
	Background Class = 0 // preheat, a seed filling up for its zone
	Foreground Class = 1 // a local client waits
)

// OriginErrorKind classifies why the origin did not deliver, for the decision who tries next.
type OriginErrorKind uint8

const (
	OriginUnreachable  OriginErrorKind = 1 // no connection, time-out, 5xx, cut off: another try may work
	OriginUnauthorized OriginErrorKind = 2 // 401 or 403: with these credentials nobody gets it
	OriginNotFound     OriginErrorKind = 3 // 404
	OriginThrottled    OriginErrorKind = 4 // 429: wait for RetryAfter
	OriginRefused      OriginErrorKind = 5 // this node does not fetch from that registry for peers
	OriginNoRange      OriginErrorKind = 6 // a range was asked for and the whole blob came: it was not read
	OriginInvalid      OriginErrorKind = 7 // nonsense: sizes that contradict each other, a short body with a clean end
)

// Failure says why a piece did not come from a peer.
type Failure uint8

const (
	FailedBusy     Failure = 1 // refused for load; not a fault
	FailedTimeout  Failure = 2
	FailedReset    Failure = 3 // connection refused or cut
	FailedNotFound Failure = 4 // the peer no longer has it
	FailedProtocol Failure = 5 // wrong length, wrong size, unreadable answer
	FailedHash     Failure = 6 // the bytes do not match the attested hash: the sender lied or corrupts
	// FailedDistrusted: the piece rests on the word of a node that the core named in Distrust or Quarantine.
	// Not the sender's fault.
	FailedDistrusted Failure = 7
	// FailedAttestation is the reason to quarantine a node whose signed hashes proved wrong.
	FailedAttestation Failure = 8
	// FailedWant: it asked a seed for a blob that its origin does not have.
	FailedWant Failure = 9
	// FailedBoast: it has not what it says, and says so again.
	FailedBoast Failure = 10
	// FailedMute: it accepts requests and does not begin to send, time after time.
	FailedMute Failure = 11
	// FailedDrip: its bytes drip while those of others come quickly.
	FailedDrip Failure = 12
)

type (
	// Member is a node of the mesh, seen or changed. It may be repeated at any time.
	Member struct {
		ID    PeerID
		Zone  string
		Seed  bool
		Relay bool          // member of the backbone topic
		RTT   time.Duration // measured minimum; 0 while unknown
	}
	// MemberLost says that the connection to a peer broke or that it left.
	MemberLost struct{ ID PeerID }
	// Received is a message from a peer.
	Received struct {
		From PeerID
		Msg  Message
	}

	// Wanted asks for a blob. It may be repeated; the highest Class counts. Size is -1 while unknown; it is a
	// hint that peers and the origin may correct. A Private blob needs the local client's credentials at the
	// origin: no seed is asked.
	Wanted struct {
		Digest  digest.Digest
		Size    int64
		Origin  OriginRef
		Class   Class
		Private bool
		// Sparse: only what local readers cover is to be brought in. It needs Size. A want that is not sparse has the
		// session bring in the whole.
		Sparse bool
	}
	// Reading says that local reader Reader (unique in the blob) is blocked at byte Off and will read up to
	// End (exclusive; -1 = to the end). Repeated as the reader moves on by a piece or more.
	Reading struct {
		Digest   digest.Digest
		Reader   uint64
		Off, End int64
	}
	// ReadClosed says that a local reader is gone.
	ReadClosed struct {
		Digest digest.Digest
		Reader uint64
	}
	// Unwanted says that a background want was withdrawn. The session ends if nobody else has an interest in it: no local
	// reader, no client that left a moment ago, no peer that asked this node as a seed.
	Unwanted struct{ Digest digest.Digest }
	// Held says what the local store holds: the answer to OpenBlob, and told before the first message about
	// a blob that the store has.
	Held struct {
		Digest digest.Digest
		Size   int64
		Have   Bitmap
	}
	// OpenFailed says that the store cannot take a blob: the answer to OpenBlob where there is no room, and at
	// any later time when a piece or the whole could not be written.
	OpenFailed struct{ Digest digest.Digest }
	// Unkept says that the store has no room for a blob that local readers wait for, or could not write a piece of it: the
	// session goes on for them through memory, of which Window says what is held. It has Have, which stays. If the whole was
	// proven and could not be made durable, what is on disk is Suspect: nobody but local readers, who check it, gets any of
	// it, and it is told again, with less, when some of it turns out to be lost.
	Unkept struct {
		Digest  digest.Digest
		Size    int64
		Have    Bitmap
		Suspect bool
	}
	// Dropped says that the local store no longer holds a blob.
	Dropped struct{ Digest digest.Digest }
	// ProvidersFound answers FindProviders, any number of times; Done is set on the last.
	ProvidersFound struct {
		Digest digest.Digest
		Peers  []MemberRef
		Done   bool
	}

	// PieceRequested says that a peer asks for a piece; answered by ServePiece or RefusePiece for Xfer.
	PieceRequested struct {
		From   PeerID
		Digest digest.Digest
		Piece  PieceIndex
		Xfer   uint64
	}
	// PieceServed says that upload Xfer ended, well or not, or that its requester went away while queued.
	PieceServed struct {
		Xfer uint64
		OK   bool
	}
	// PieceStarted says that the first bytes of a piece came: the request no longer waits at its provider.
	PieceStarted struct {
		Digest digest.Digest
		Piece  PieceIndex
		From   PeerID
	}
	// PieceDrips says that for Config.DripTime the bytes of a piece have come at less than Config.DripRate, and that it was not
	// this node that held them up. Once for a request.
	PieceDrips struct {
		Digest digest.Digest
		Piece  PieceIndex
		From   PeerID
	}
	// PieceArrived says that a piece came from a peer, matched its attested hash and is stored.
	PieceArrived struct {
		Digest   digest.Digest
		Piece    PieceIndex
		From     PeerID
		Hash     Hash
		Attester PeerID
		Took     time.Duration // from request to last byte
		Passed   bool          // of a blob that is not kept: the readers have it, and it is held no more
	}
	// PieceFailed says that a request ended without a piece.
	PieceFailed struct {
		Digest digest.Digest
		Piece  PieceIndex
		From   PeerID
		Why    Failure
		Wait   time.Duration // with FailedBusy: ask again after this
		Load   uint8         // with FailedBusy
	}

	// OriginSized says what the origin's answer told of the blob, before its first byte.
	OriginSized struct {
		Digest digest.Digest
		Fetch  uint64
		Size   int64
		// Ranges says that the range asked for is coming; false: the whole blob is, and is read to its end
		// whatever was asked for.
		Ranges bool
	}
	// OriginPiece says that a piece from the origin is stored, its hash attested by this node.
	OriginPiece struct {
		Digest digest.Digest
		Fetch  uint64
		Piece  PieceIndex
		Hash   Hash
		Passed bool // as with PieceArrived
	}
	// OriginDone says that a fetch ended after its last piece.
	OriginDone struct {
		Digest digest.Digest
		Fetch  uint64
	}
	// OriginFailed says that a fetch ended early.
	OriginFailed struct {
		Digest     digest.Digest
		Fetch      uint64
		Kind       OriginErrorKind
		RetryAfter time.Duration
	}

	// Verified answers Verify: the whole blob matches its digest and is kept.
	Verified struct{ Digest digest.Digest }
	// VerifyFailed answers Verify: the SHA-256 of the whole does not match.
	VerifyFailed struct{ Digest digest.Digest }

	// Tick says that the time given by Deadline has come.
	Tick struct{}
)

func (Member) event()         {}
func (MemberLost) event()     {}
func (Received) event()       {}
func (Wanted) event()         {}
func (Reading) event()        {}
func (ReadClosed) event()     {}
func (Unwanted) event()       {}
func (Held) event()           {}
func (OpenFailed) event()     {}
func (Unkept) event()         {}
func (Dropped) event()        {}
func (ProvidersFound) event() {}
func (PieceRequested) event() {}
func (PieceServed) event()    {}
func (PieceStarted) event()   {}
func (PieceDrips) event()     {}
func (PieceArrived) event()   {}
func (PieceFailed) event()    {}
func (OriginSized) event()    {}
func (OriginPiece) event()    {}
func (OriginDone) event()     {}
func (OriginFailed) event()   {}
func (Verified) event()       {}
func (VerifyFailed) event()   {}
func (Tick) event()           {}
