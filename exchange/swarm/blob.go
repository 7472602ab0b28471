package swarm

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// phase is where the session of a blob stands.
type phase uint8

const (
	idle      phase = iota // not wanted here: kept for the leases, members or pieces that others ask of us
	fetching               // wanted, pieces missing
	verifying              // every piece is here, the whole is being checked
	held                   // whole, checked and kept
)

// blob is all that the core knows of one digest.
type blob struct {
	digest digest.Digest
	key    uint64
	phase  phase
	want   bool // a local reader, a preheat, or a peer's Want made us fetch it
	wake   Time // when work is to run again
	live   bool // in Core.live
	active Time // last time that somebody, here or elsewhere, asked for it

	// What is known of the bytes.
	size      int64 // bytes; -1 while unknown
	sizeFrom  PeerID
	layout    Layout
	perStripe int  // pieces
	noRange   bool // the origin ignores ranges
	opening   bool // OpenBlob is under way
	opened    bool // have and pieces are valid
	have      Bitmap
	avail     availability
	missing   int
	flights   []flight // piece requests under way, the oldest first; a second one of a piece only to hedge
	flowing   int      // those among them whose bytes come
	hurried   int      // second requests because a reader waited
	around    int      // pieces asked of a third because they drip
	samples   int      // those read from the origin for that
	pieces    []piece
	words     []PeerID // on whose word pieces rest; "" stands for the own disk
	flushAt   Time     // when news is told to the neighbours; 0: no news
	flushed   Time     // when it was told last
	news      []PieceIndex

	// Why and for whom.
	class    Class
	private  bool
	relayed  bool   // a peer asked for it by Want: it is not abandoned for lack of local readers
	askedBy  PeerID // whose Want began the session, if it was one
	origin   OriginRef
	readers  []reader
	lastRead Time
	sparse   bool   // only what readers cover is brought in
	cover    Bitmap // those pieces; kept while sparse
	unkept   unkept

	// Discovery.
	wantedAt  Time
	searching bool     // FindProviders is under way
	asked     []asking // Join or Want without an answer yet
	silent    []PeerID // did not answer in time: no arbiter, no seed for this blob
	coaxed    Time     // they were asked again at
	refused   []PeerID // seeds that cannot fetch it
	parted    []PeerID // said that they do not want it

	// The swarm around it.
	neighbours []*neighbour // ordered by id
	lonelyAt   Time         // when others are looked for; 0: there are enough
	arbiters   [2]arbiterSet
	leases     leases   // kept for others
	leased     int      // the most of them since their map was made
	joiners    []joiner // told to others
	groups     []group  // those of them that import, by zone

	// The origin.
	stripes       []claim
	pending       []unitOf     // claims without a verdict, and some that have one
	importing     []PieceIndex // pieces with a claim of ours to bring them into the zone, and some that had one
	imports       imports
	fetches       []*fetch
	elsewhere     elsewhere
	renewAt       Time
	originDead    bool // it failed for good in this session
	originUntil   Time // not before this
	originTries   int
	originBrisk   Time // a piece came quickly from it; 0: none did
	lastOriginErr OriginErrorKind
	outage        Time // the origin was out of reach; over after this
	metFar        bool // a peer of another zone was a neighbour
	begun         bool // a piece was seen, here or with a neighbour: who has the rest may come back, as may the origin
	refusedUntil  Time // this seed refuses it unasked until then

	// Trust.
	progressAt Time
	bypass     bool // go to the origin without a lease
	alone      bool // and take nothing from peers
	repairs    int
	suspects   []suspect
}

// piece is the state of one piece that is not held yet, and after that whose word it rests on. There is one for each of
// up to 128 Ki pieces: what only few have is kept elsewhere.
type piece struct {
	zone     claim // our claim to bring it into the zone
	hash     Hash
	fetch    uint32 // origin fetch that carries it; 0: none
	attester uint32 // place in blob.words of whose word the hash is
}

// flight is a piece request under way.
type flight struct {
	piece     PieceIndex
	flows     bool // bytes come
	to        *member
	at        Time
	drips     Time  // its bytes come drop by drop, known since; 0: they do not
	overtaken uint8 // by how many later requests to the same zone, whose bytes come
}

// reader is a local reader: blocked at off, going to end.
type reader struct {
	id       uint64
	off, end int64
}

type arbiterSet struct {
	epoch  uint64
	silent int
	set    []*member
}

// asking is a Join or Want that waits for its first answer.
type asking struct {
	id   PeerID
	at   Time
	seed bool // it was a Want
}

// suspect remembers a piece whose blob failed as a whole, to convict its attester once the right hash is known.
type suspect struct {
	piece PieceIndex
	hash  Hash
	by    PeerID
}

func newBlob(d digest.Digest, now Time) *blob {
	return &blob{digest: d, key: hash64(string(d)), size: -1, active: now, stripes: make([]claim, 1)}
}

// setSize fixes the size and with it the layout; the pieces come with Held. The claim on the first stripe, made
// while the size was unknown, stays.
func (b *blob) setSize(size int64, from PeerID, stripeBytes int64, rng *rand.Rand) {
	b.size, b.sizeFrom, b.layout = size, from, LayoutOf(size)
	n := b.layout.Pieces()
	b.have, b.missing = NewBitmap(n), n
	b.pieces, b.words, b.importing = make([]piece, n), []PeerID{""}, nil
	b.flights, b.flowing, b.hurried, b.around, b.samples, b.originBrisk, b.imports.sources = nil, 0, 0, 0, 0, 0, nil
	b.avail = newAvailability(n, rng)
	b.measureCover()
	b.perStripe = max(int(stripeBytes/b.layout.PieceSize), 4)
	stripes := make([]claim, (n+b.perStripe-1)/b.perStripe)
	copy(stripes, b.stripes)
	b.stripes = stripes
	b.pending = slices.DeleteFunc(b.pending, func(u unitOf) bool { return u.s == ScopeZone || b.claimOf(u.s, u.unit) == nil })
}

// unsize forgets a size that proved wrong.
func (b *blob) unsize() {
	b.size, b.layout, b.have, b.missing, b.pieces = -1, Layout{}, Bitmap{}, 0, nil
	b.sparse, b.cover, b.unkept = false, Bitmap{}, unkept{}
	b.avail, b.pending, b.importing, b.imports.sources = availability{}, nil, nil, nil
	b.stripes, b.opened = make([]claim, 1), false
}

// stripe returns the pieces of a stripe.
func (b *blob) stripe(unit uint32) (first PieceIndex, n int) {
	lo := int(unit) * b.perStripe
	return PieceIndex(lo), max(min(b.perStripe, len(b.pieces)-lo), 0)
}

// clear forgets all pieces; the size stays.
func (b *blob) clear() {
	b.have = NewBitmap(b.layout.Pieces())
	b.missing = b.have.Len()
	b.news = nil
	clear(b.pieces)
	for i := range b.stripes {
		b.stripes[i] = claim{}
	}
	b.avail.busy = NewBitmap(b.have.Len())
	b.pending, b.importing = nil, nil
}

// shift moves all that is measured from the past on by a time that this node did not see.
func (b *blob) shift(gap time.Duration) {
	for _, t := range []*Time{&b.progressAt, &b.lastRead, &b.wantedAt} {
		*t = t.Add(gap)
	}
	for i := range b.asked {
		b.asked[i].at = b.asked[i].at.Add(gap)
	}
	for _, n := range b.neighbours {
		n.probed = 0
	}
	for _, u := range b.pending {
		if cl := b.claimOf(u.s, u.unit); cl != nil && cl.state == pending {
			cl.at = cl.at.Add(gap)
		}
	}
	for i := range b.flights {
		b.flights[i].at = b.flights[i].at.Add(gap)
	}
}

// inflight reports whether a piece is being fetched, from a peer or the origin.
func (b *blob) inflight(i PieceIndex) bool { return b.avail.busy.Has(i) }

// mark keeps the set of pieces in flight in step with a piece's requests and fetch.
func (b *blob) mark(i PieceIndex) {
	if b.pieces[i].fetch != 0 || b.requested(i, nil) {
		b.avail.busy.Set(i)
	} else {
		b.avail.busy.Clear(i)
	}
}

// carriedBy says that an origin fetch brings a piece; 0 that none does.
func (b *blob) carriedBy(i PieceIndex, fetch uint32) {
	b.pieces[i].fetch = fetch
	b.mark(i)
}

// rests notes on whose word a piece rests.
func (b *blob) rests(i PieceIndex, h Hash, on PeerID) {
	k := indexOf(b.words, on)
	if k < 0 {
		k = len(b.words)
		b.words = append(b.words, on)
	}
	b.pieces[i].hash, b.pieces[i].attester = h, uint32(k)
}

// by returns on whose word a piece rests.
func (b *blob) by(i PieceIndex) PeerID {
	if k := b.pieces[i].attester; int(k) < len(b.words) {
		return b.words[k]
	}
	return ""
}

// cursors returns the pieces at which local readers are blocked or will be next, in their order.
func (b *blob) cursors(yield func(PieceIndex) bool) {
	for _, r := range b.readers {
		if i, ok := b.firstMissing(r); ok && !yield(i) {
			return
		}
	}
}

// measureCover finds what the readers of a sparse session cover.
func (b *blob) measureCover() {
	if !b.sparse || b.size < 0 || b.unkept.on {
		return
	}
	b.cover = NewBitmap(b.layout.Pieces())
	for _, r := range b.readers {
		end := b.size
		if r.end >= 0 {
			end = min(r.end, b.size)
		}
		for off := max(r.off, 0); off < end; off += b.layout.PieceSize {
			off -= off % b.layout.PieceSize
			b.cover.Set(b.layout.Piece(off))
		}
	}
}

// content reports whether all is here that a sparse session is to bring in now.
func (b *blob) content() bool {
	if !b.sparse || !b.opened {
		return false
	}
	for k, w := range b.cover.words {
		if w&^b.have.words[k] != 0 {
			return false
		}
	}
	return true
}

// firstMissing returns the first piece of a reader's range that is not held.
func (b *blob) firstMissing(r reader) (PieceIndex, bool) {
	end := b.size
	if r.end >= 0 {
		end = min(r.end, b.size)
	}
	for off := max(r.off, 0); off < end; off += b.layout.PieceSize {
		if i := b.layout.Piece(off); !b.have.Has(i) {
			return i, !b.unkept.on || b.cover.Has(i)
		}
	}
	return 0, false
}

// forgetPeer drops what is awaited of a lost peer.
func (b *blob) forgetPeer(id PeerID) {
	b.asked = slices.DeleteFunc(b.asked, func(a asking) bool { return a.id == id })
	b.silent = slices.DeleteFunc(b.silent, func(p PeerID) bool { return p == id })
	b.parted = slices.DeleteFunc(b.parted, func(p PeerID) bool { return p == id })
	b.refused = slices.DeleteFunc(b.refused, func(p PeerID) bool { return p == id })
	for i := range b.stripes {
		b.stripes[i].forget(id)
	}
	for i := range b.pieces {
		b.pieces[i].zone.forget(id)
	}
}
