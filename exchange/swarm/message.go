package swarm

import "github.com/opencontainers/go-digest"

// PeerID names a node of the mesh: the binary form of its libp2p peer id. The core only compares it.
type PeerID string

// Hash is the SHA-256 of a piece.
type Hash [32]byte

// OriginRef names where a blob comes from: a registry host and a repository, never a URL or a path. The node
// that fetches resolves the host through its own configuration.
type OriginRef struct {
	Registry   string // host or host:port, as in a reference: "docker.io"
	Repository string // "library/nginx"
}

// Zero reports whether no origin is named.
func (o OriginRef) Zero() bool { return o == OriginRef{} }

// Scope says what a claim is for: bringing bytes out of the origin, or into a zone.
type Scope uint8

const (
	// ScopeOrigin claims stripes (runs of pieces of Config.StripeBytes) that leave the origin.
	ScopeOrigin Scope = 1
	// ScopeZone claims single pieces that enter the claimer's zone.
	ScopeZone Scope = 2
)

// ClaimState is what the sender of a Claim says of its units.
type ClaimState uint8

const (
	ClaimWant    ClaimState = 1 // may I?
	ClaimHeld    ClaimState = 2 // I am on it: renews the lease, or tells a new arbiter of it
	ClaimDone    ClaimState = 3 // it is here: ask me for it
	ClaimRelease ClaimState = 4 // I gave up, or whoever has brought it in is of no use: let another
)

// Units is a run of Count units from First: stripes in ScopeOrigin, pieces in ScopeZone.
type Units struct{ First, Count uint32 }

// Message is what cores say to each other over the control connections. Messages between two nodes arrive in
// order or the connection is lost; a lost one is never repeated by the transport.
type Message interface{ message() }

// Hello tells a peer what the sender holds of a blob and whether it wants the rest. It is sent to join the
// neighbourhood of a peer, and in answer to the first Hello from one.
type Hello struct {
	Digest  digest.Digest
	Size    int64 // bytes; -1 while unknown, and then Have is empty
	NoRange bool  // the origin of this blob ignores ranges: one reader must take it whole
	Want    bool  // the sender misses pieces and will ask for them
	Reply   bool  // this answers a Hello: do not answer again
	Load    uint8 // uploads under way or queued at the sender
	Have    Bitmap
}

// Have tells neighbours of pieces that the sender has verified and serves from now on.
type Have struct {
	Digest digest.Digest
	Load   uint8
	Pieces []Units // runs of pieces
}

// Bye tells a neighbour that the sender no longer serves or wants the blob, or, if it is Full, that it is in the blob's swarm
// and has as many neighbours as it can have. It answers a Hello or a Want.
type Bye struct {
	Digest digest.Digest
	Full   bool
}

// Join asks a rendezvous node of the blob for members of its swarm, and makes the sender one.
type Join struct {
	Digest digest.Digest
	Want   bool
}

// Members answers Join: up to Config.Neighbours members of the asker's zone, and for one that is to import the blob into it,
// itself and those that do so for other zones. Unasked and empty it says that others import instead.
type Members struct {
	Digest digest.Digest
	Peers  []MemberRef
}

// MemberRef is a member of a swarm as a rendezvous node names it.
type MemberRef struct {
	ID   PeerID
	Zone string
}

// Want asks a seed to bring the blob into the mesh.
type Want struct {
	Digest digest.Digest
	Size   int64 // bytes; -1 while unknown
	Origin OriginRef
}

// Refuse answers Want: this seed cannot fetch the blob, and why.
type Refuse struct {
	Digest digest.Digest
	Kind   OriginErrorKind
}

// Claim speaks of leases on units to their arbiter.
type Claim struct {
	Digest digest.Digest
	Scope  Scope
	State  ClaimState
	Units  []Units
}

// Verdict answers a Claim in state ClaimWant. Each unit asked for is granted or denied.
type Verdict struct {
	Digest  digest.Digest
	Scope   Scope
	Granted []Units
	Denied  []Denial
}

// Denial says who holds the units asked for.
type Denial struct {
	Units  Units
	Holder PeerID
	Done   bool // the holder has them: ask it
}

func (Hello) message()   {}
func (Have) message()    {}
func (Bye) message()     {}
func (Join) message()    {}
func (Members) message() {}
func (Want) message()    {}
func (Refuse) message()  {}
func (Claim) message()   {}
func (Verdict) message() {}
