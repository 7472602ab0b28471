package swarm

import "time"

// Config holds who the node is and every constant of the policy. The figures and their reasons are those of
// the swarm simulation; DefaultConfig returns them.
type Config struct {
	Self PeerID
	Zone string
	Seed bool

	// StripeBytes is the unit in which nodes share a blob at the origin, in bytes: one claim, and less than
	// one request. At least four pieces are taken where pieces are large.
	StripeBytes int64
	// RunBytes bounds one request to the origin, in bytes: neighbouring stripes of one node go in one request.
	RunBytes int64
	// Fetches bounds the origin requests of one blob under way; a blocked reader may have one more.
	Fetches int

	// Neighbours is how many peers of the own zone exchange piece state with a node, per blob, in the mean: it chooses half as
	// many, and is chosen by others; some have several times as many.
	Neighbours int
	// Importers is the number of nodes of a zone that bring a blob into it. They alone exchange piece state with those of
	// other zones; four times as many of a zone are taken as they change while nodes join.
	Importers int
	// Outstanding is the number of pieces that are to come in at a time, over all blobs; each blob may have two in any
	// case. Downlinks are full when all nodes have about as many coming in as others have going out.
	Outstanding int
	// Waiting bounds the requests of a blob beyond those, for pieces that wait in the queues of their providers.
	Waiting int
	// PerProvider bounds those of them at one provider.
	PerProvider int
	// Imports bounds the pieces of one blob that this node brings into its zone at a time, ImportWindow those out of one zone
	// before it is known what its pipe carries: while imports take no more than ImportTime, ImportTrips round trips or the
	// time of a piece of the own zone, whichever is most, the window grows, from twice that on it shrinks. One over a cold connection takes
	// some ten trips, one over a warm one two.
	Imports, ImportWindow int
	ImportTime            time.Duration
	ImportTrips           int
	// Hold is how long a zone without progress may keep pieces that it is to import first from others.
	Hold time.Duration
	// ImportIdle is the time without progress after which any node imports what it sees of other zones.
	ImportIdle time.Duration

	// UploadSlots bounds the uploads under way into the own zone, FarSlots those into others; UploadQueue bounds the
	// requests that wait, ImportQueue those that wait when the requester is of another zone.
	UploadSlots, FarSlots, UploadQueue, ImportQueue int

	// Window bounds the memory, in bytes, for a blob that is read here and not kept; see WindowBytes.
	Window int64

	// Arbiters is the number of nodes of a zone that keep a blob's members and leases.
	Arbiters int
	// Small is the number of members up to which everybody knows everybody, and without seeds everybody may be an
	// arbiter of the origin. Beyond it the relays are: they are few and known everywhere, but who is one is told with
	// delay.
	Small int
	// Lease is how long a claim holds without renewal; it is renewed three times as often.
	Lease time.Duration
	// Done is how long an arbiter remembers who brought a unit in.
	Done time.Duration
	// ClaimTimeout is how long an arbiter that is connected may take to answer before the next in rank is asked.
	// A dead one is known by its connection; one that is merely slow and is given up may grant what the next
	// grants too.
	ClaimTimeout time.Duration
	// ClaimRetry is how long a denied unit is left to its holder before it is claimed again.
	ClaimRetry time.Duration
	// Handover is how long nobody claims units of the origin whose arbiter is gone: by then those that bring them in have told
	// the next in rank, which would grant them again.
	Handover time.Duration

	// Discover bounds the search for providers before the origin is claimed. A seed brings in one stripe after Glimpse
	// already: by then the own zone has answered.
	Discover, Glimpse time.Duration
	// SeedSilence is how long a seed may leave a Want unanswered before it does not count.
	SeedSilence time.Duration
	// Probe is the time without progress after which the neighbours are asked whether they are still there: a stopped
	// process keeps its connections and says nothing. Who leaves the question unanswered for ClaimTimeout no longer
	// counts for the blob.
	Probe time.Duration
	// LastResort is the time without progress after which a node goes to the origin without a lease. For a blob of unknown
	// size it asks then who reads it, and goes after as much again if nobody says so.
	LastResort time.Duration
	// Unsized is how long a node has patience with another that reads a blob of unknown size, which shows nothing before
	// its end. Then it reads too, and a quarter of this later, if that has brought nothing, the next in rank.
	Unsized time.Duration
	// Reunion is how long a zone that was cut off leaves the origin, once that answers, to those outside: they come back
	// too, and have what it lacks.
	Reunion time.Duration
	// Stalled is the time without progress after which a session gives up.
	Stalled time.Duration
	// Linger is how long a session goes on without a local reader.
	Linger time.Duration
	// Idle is how long the core remembers a blob that nobody asked for.
	Idle time.Duration
	// RefusalMemory is how long a seed that could not fetch a blob refuses it unasked.
	RefusalMemory time.Duration

	// HaveBatch is how long a new piece waits for others to be told with it.
	HaveBatch time.Duration
	// HedgeFloor is the least age of a request at which another provider is asked for the same piece.
	HedgeFloor time.Duration
	// HurryFloor is the same for a piece at which a local reader waits: it is asked of another provider after four times what
	// pieces of the zone take, or after this.
	HurryFloor time.Duration
	// DripRate is the rate, in bytes a second, below which the bytes of a piece drip if that lasts for DripTime: then the piece of
	// a node of the own zone is asked of another, and one of another zone is judged by what others of that zone give. The uplink
	// of a site with 1 Mbit/s gives twice as much. See drip.go.
	DripRate int64
	DripTime time.Duration
	// OriginRetries is how often a failing origin is asked again before it counts as dead, OriginBackoff the
	// first wait between; it doubles.
	OriginRetries int
	OriginBackoff time.Duration
	// PenaltyHalfLife is the half-life of penalty points; QuarantinePoints of them isolate a peer.
	PenaltyHalfLife  time.Duration
	QuarantinePoints float64
}

// DefaultConfig returns the policy's constants; Self, Zone and Seed are the caller's.
func DefaultConfig() Config {
	return Config{
		StripeBytes:      16 << 20,
		RunBytes:         64 << 20,
		Fetches:          2,
		Neighbours:       24,
		Importers:        24,
		Outstanding:      12,
		Waiting:          2,
		PerProvider:      2,
		Imports:          8,
		ImportTime:       150 * time.Millisecond,
		ImportTrips:      6,
		ImportWindow:     2,
		Hold:             2 * time.Second,
		ImportIdle:       1500 * time.Millisecond,
		UploadSlots:      12,
		FarSlots:         8,
		UploadQueue:      2,
		ImportQueue:      16,
		Window:           8 << 20,
		Arbiters:         3,
		Small:            64,
		Lease:            6 * time.Second,
		Done:             10 * time.Second,
		ClaimTimeout:     3 * time.Second,
		ClaimRetry:       time.Second,
		Handover:         100 * time.Millisecond,
		Discover:         400 * time.Millisecond,
		Glimpse:          20 * time.Millisecond,
		SeedSilence:      3 * time.Second,
		Probe:            3 * time.Second,
		LastResort:       10 * time.Second,
		Unsized:          30 * time.Minute,
		Reunion:          5 * time.Second,
		Stalled:          time.Minute,
		Linger:           15 * time.Second,
		Idle:             time.Minute,
		RefusalMemory:    5 * time.Second,
		HaveBatch:        10 * time.Millisecond,
		HedgeFloor:       500 * time.Millisecond,
		HurryFloor:       time.Second,
		DripRate:         64 << 10,
		DripTime:         4 * time.Second,
		OriginRetries:    3,
		OriginBackoff:    200 * time.Millisecond,
		PenaltyHalfLife:  5 * time.Minute,
		QuarantinePoints: 4,
	}
}
