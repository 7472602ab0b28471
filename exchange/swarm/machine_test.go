package swarm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"
)

// TestRandomEvents drives one core with events drawn by rapid: a driver that keeps its contract, and peers that
// say what they like. After every step the core's books are counted anew, and its choices compared with those of
// slow and obvious oracles.
func TestRandomEvents(t *testing.T) {
	var picks, hedges, imports, starts, bounces, losses int
	for range 4 { // imports are rare
		rapid.Check(t, func(t *rapid.T) {
			w := newWorld(t)
			w.run()
			picks, hedges, imports = picks+w.picker.picks, hedges+w.picker.hedges, imports+w.picker.imports
			starts, bounces = starts+w.slots.starts, bounces+w.slots.bounces
			losses += w.losses
		})
	}
	t.Logf("%d picks, %d hedges, %d imports, %d uploads, %d bounced, %d losses of what could not be made durable", picks, hedges, imports, starts, bounces, losses)
	for what, n := range map[string]int{"picks": picks, "hedges": hedges, "imports": imports, "uploads": starts, "bounces": bounces, "losses": losses} {
		if n == 0 && !testing.Short() {
			t.Errorf("no %s: the events do not get there any more", what)
		}
	}
}

// TestRandomUploads does the same for a node that has everything and is asked for it by many.
func TestRandomUploads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for _, d := range w.disks {
			if d.partOf != d.size {
				w.hold(d)
			}
		}
		ops := []func(){w.request, w.request, w.request, w.request, w.request, w.served, w.served, w.served, w.news, w.tick, w.jump, w.lose, w.member, w.honest}
		for range 100 + w.pick("steps", 200) {
			ops[w.pick("event", len(ops))]()
		}
	})
}

// FuzzRandomEvents is TestRandomEvents for the fuzzer.
func FuzzRandomEvents(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { newWorld(t).run() }))
}

// world is one core with a driver and peers that are made up.
type world struct {
	t      *rapid.T
	c      *Core
	now    Time
	disks  []*disk
	peers  []Member
	picker picker
	slots  slots

	asked   []RequestPiece // under way
	fetches []*reading
	xfers   uint64
	losses  int
}

// disk is what the driver has of a blob.
type disk struct {
	digest    digest.Digest
	size      int64 // the true one
	openAs    int64 // OpenBlob under way for a size
	opening   bool
	verifying bool
	partOf    int64 // the size for which pieces are kept
	have      Bitmap

	unkept    bool
	suspect   bool   // while unkept: what is on disk may be lost
	kept, now Bitmap // while unkept: what is on disk, and what may be in memory
}

// reading is a fetch under way.
type reading struct {
	FetchOrigin
	sized bool
	next  int
	last  int
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: Time(time.Second)}
	cfg := DefaultConfig()
	cfg.Self, cfg.Zone, cfg.Seed = "me", "a", w.coin("seed", 3)
	cfg.StripeBytes, cfg.RunBytes, cfg.Unsized = 4<<20, 8<<20, 10*time.Second
	cfg.Neighbours = 2 + w.pick("neighbours", 20)
	cfg.Outstanding, cfg.Waiting, cfg.PerProvider = 1+w.pick("outstanding", 8), w.pick("waiting", 4), 1+w.pick("per provider", 3)
	cfg.Imports = 1 + w.pick("imports", 6)
	cfg.UploadSlots, cfg.FarSlots = 1+w.pick("slots", 4), 1+w.pick("far slots", 3)
	cfg.UploadQueue, cfg.ImportQueue = w.pick("queue", 4), w.pick("far queue", 4)
	w.c = New(cfg, uint64(w.pick("core seed", 1<<20)))
	for i, size := range []int64{20<<20 + 7, 40 << 20, 1 << 20} {
		w.disks = append(w.disks, &disk{digest: digest.FromString(fmt.Sprint(i)), size: size, partOf: -1})
	}
	for i := range 9 {
		p := Member{ID: PeerID(fmt.Sprintf("p%d", i)), Zone: []string{"a", "a", "b"}[i%3], RTT: time.Duration(i%4) * time.Millisecond}
		w.peers = append(w.peers, p)
		w.step(p)
	}
	for _, d := range w.disks {
		w.begin(d)
	}
	return w
}

// hold has the store hold a blob from the start.
func (w *world) hold(d *disk) {
	d.partOf, d.have = d.size, FullBitmap(LayoutOf(d.size).Pieces())
	w.step(Held{Digest: d.digest, Size: d.size, Have: d.have.Clone()})
}

// run makes things happen.
func (w *world) run() {
	for range 100 + w.pick("steps", 200) {
		w.event()
	}
}

// begin has a blob start idle, under way among peers that have some of it, or whole.
func (w *world) begin(d *disk) {
	switch w.pick("begin", 3) {
	case 0:
		return
	case 1:
		w.step(Wanted{Digest: d.digest, Size: d.size, Class: Background, Origin: OriginRef{Registry: "r", Repository: "x"}})
	case 2:
		w.hold(d)
	}
	w.opened()
	for _, p := range w.peers {
		w.step(Received{From: p.ID, Msg: w.hello(d)})
	}
}

// step hands the core an event, checks what it does, and carries it out.
func (w *world) step(ev Event) {
	w.t.Helper()
	w.slots.before(w.c, ev)
	w.picker.before(w.c, w.now, ev)
	acts := w.c.Step(w.now, ev, nil)
	w.log(ev, acts)
	Check(w.t, w.c)
	w.picker.after(w.t, w.c, ev, acts)
	w.slots.after(w.t, w.c, ev, acts)
	for _, a := range acts {
		w.obey(a)
	}
}

// log tells the story so far; rapid prints it of the shortest one that fails.
func (w *world) log(ev Event, acts []Action) {
	var s strings.Builder
	fmt.Fprintf(&s, "%v %T%+v", time.Duration(w.now), ev, ev)
	for _, a := range acts {
		fmt.Fprintf(&s, "\n    %T%+v", a, a)
	}
	line := s.String()
	for i, d := range w.disks {
		line = strings.ReplaceAll(line, string(d.digest), fmt.Sprint("blob", i))
	}
	w.t.Log(strings.ReplaceAll(line, "swarm.", ""))
}

func (w *world) obey(a Action) {
	switch a := a.(type) {
	case OpenBlob:
		d := w.disk(a.Digest)
		d.opening, d.openAs = true, a.Size
	case RequestPiece:
		if d := w.disk(a.Digest); d.have.Has(a.Piece) || d.unkept && !d.now.Has(a.Piece) {
			w.t.Fatalf("piece %d is asked for and stored, or of no use", a.Piece)
		}
		w.asked = append(w.asked, a)
	case CancelPiece:
		if rapid.IntRange(0, 3).Draw(w.t, "too late to cancel") > 0 {
			w.asked = slices.DeleteFunc(w.asked, func(r RequestPiece) bool { return r.To == a.To && r.Digest == a.Digest && r.Piece == a.Piece })
		}
	case FetchOrigin:
		for _, o := range w.fetches {
			if o.Digest == a.Digest && !w.disk(a.Digest).unkept && o.sized && a.Count > 0 && int(a.First) < o.last && o.next < int(a.First)+int(a.Count) {
				w.t.Fatalf("fetch of %d+%d overlaps one of %d to %d", a.First, a.Count, o.next, o.last)
			}
		}
		w.fetches = append(w.fetches, &reading{FetchOrigin: a})
	case StopOrigin:
		w.fetches = slices.DeleteFunc(w.fetches, func(f *reading) bool { return f.Fetch == a.Fetch })
	case Verify:
		d := w.disk(a.Digest)
		if !d.have.Full() || d.unkept {
			w.t.Fatalf("verify with %d of %d pieces stored", d.have.Count(), d.have.Len())
		}
		d.verifying = true
	case Discard:
		d := w.disk(a.Digest)
		d.have, d.kept = NewBitmap(d.have.Len()), NewBitmap(d.have.Len())
	case Window:
		d := w.disk(a.Digest)
		if most := w.c.cfg.WindowBytes(LayoutOf(d.partOf)); int64(a.Now.Count())*LayoutOf(d.partOf).PieceSize > most {
			w.t.Fatalf("%d pieces are to be in memory", a.Now.Count())
		}
		d.now = a.Now
		for k := range d.have.words {
			d.have.words[k] &= d.kept.words[k] | d.now.words[k]
		}
	case GiveUp:
		d := w.disk(a.Digest)
		if d.verifying = false; d.unkept {
			d.unkept, d.have = false, d.kept.Clone()
		}
	}
}

func (w *world) disk(d digest.Digest) *disk {
	return w.disks[slices.IndexFunc(w.disks, func(o *disk) bool { return o.digest == d })]
}

// pick draws one of n as likely as any other; rapid's own ranges lean to the ends. The first is the simplest.
func (w *world) pick(what string, n int) int {
	return int(mix(uint64(rapid.Uint32().Draw(w.t, what))) % uint64(n))
}

// coin is true once in so many times.
func (w *world) coin(what string, of int) bool { return w.pick(what, of) == of-1 }

func (w *world) someDisk() *disk  { return w.disks[w.pick("blob", len(w.disks))] }
func (w *world) somePeer() PeerID { return w.peers[w.pick("peer", len(w.peers))].ID }
func (w *world) wait(what string) time.Duration {
	return time.Duration(w.pick(what, 40)) * time.Millisecond
}

func (w *world) bits(what string, n int) Bitmap {
	if w.coin("all of it", 4) {
		return FullBitmap(n)
	}
	b := NewBitmap(n)
	for i := range n {
		if w.coin(what, 3) {
			b.Set(PieceIndex(i))
		}
	}
	return b
}

// event makes one thing happen.
func (w *world) event() {
	ops := []func(){
		w.tick, w.tick, w.tick, w.jump, w.member, w.lose, w.want, w.read, w.found,
		w.opened, w.opened, w.breaks, w.loses, w.transfer, w.transfer, w.transfer, w.transfer, w.origin, w.origin, w.origin,
		w.verified, w.dropped, w.request, w.request, w.request, w.served, w.served,
		w.honest, w.honest, w.honest, w.news, w.news, w.rumour, w.rumour,
	}
	ops[w.pick("event", len(ops))]()
}

// tick lets time pass up to the core's deadline. There must not be another one at once for which nothing is done.
func (w *world) tick() {
	at, ok := w.c.Deadline()
	if !ok {
		return
	}
	w.now = max(w.now, at)
	before := w.c.now
	acts := len(w.asked)
	w.step(Tick{})
	if next, ok := w.c.Deadline(); ok && next <= w.now && before == w.now && acts == len(w.asked) {
		w.step(Tick{})
		if next, ok := w.c.Deadline(); ok && next <= w.now {
			w.t.Fatalf("deadline %d at %d after two ticks: a busy loop", next, w.now)
		}
	}
}

func (w *world) jump() {
	w.now = w.now.Add([]time.Duration{0, time.Millisecond, 7 * time.Millisecond, 60 * time.Millisecond, time.Second, 1500 * time.Millisecond, 5 * time.Second, 20 * time.Second}[w.pick("jump", 8)])
	w.step(Tick{})
}

func (w *world) member() {
	m := &w.peers[w.pick("peer", len(w.peers))]
	m.Seed, m.Relay = w.coin("seed", 4), w.coin("relay", 4)
	w.step(*m)
}

func (w *world) lose() {
	if w.coin("lose", 3) {
		w.step(MemberLost{ID: w.somePeer()})
	}
}

func (w *world) want() {
	d := w.someDisk()
	size := d.size
	if w.coin("unknown size", 3) {
		size = -1
	} else if w.coin("wrong size", 8) {
		size = 30 << 20
	}
	var origin OriginRef
	if !w.coin("no origin", 6) {
		origin = OriginRef{Registry: "r", Repository: "x"}
	}
	w.step(Wanted{Digest: d.digest, Size: size, Origin: origin, Class: Class(w.pick("class", 2)), Private: w.coin("private", 6)})
}

func (w *world) read() {
	d := w.someDisk()
	if w.coin("close", 4) {
		w.step(ReadClosed{Digest: d.digest, Reader: uint64(w.pick("reader", 2))})
		return
	}
	if w.coin("unwanted", 8) {
		w.step(Unwanted{Digest: d.digest})
		return
	}
	end := int64(-1)
	off := int64(w.pick("off", 40)) << 20
	if w.coin("range", 2) {
		end = off + 3<<20
	}
	w.step(Reading{Digest: d.digest, Reader: uint64(w.pick("reader", 2)), Off: off, End: end})
}

func (w *world) found() {
	w.step(ProvidersFound{Digest: w.someDisk().digest, Peers: []MemberRef{{ID: w.somePeer()}, {ID: w.somePeer()}, {ID: "stranger"}}, Done: w.coin("done", 2)})
}

// opened answers an OpenBlob.
func (w *world) opened() {
	for _, d := range w.disks {
		if !d.opening {
			continue
		}
		d.opening = false
		if w.coin("no room", 12) {
			w.step(OpenFailed{Digest: d.digest})
			return
		}
		if d.partOf != d.openAs {
			d.partOf, d.have = d.openAs, NewBitmap(LayoutOf(d.openAs).Pieces())
		}
		if w.coin("left by an earlier run", 4) {
			left := w.bits("left", d.have.Len())
			for i := range d.have.Len() {
				if left.Has(PieceIndex(i)) {
					d.have.Set(PieceIndex(i))
				}
			}
		}
		if w.coin("not kept", 5) {
			w.unkeep(d, false)
			return
		}
		w.step(Held{Digest: d.digest, Size: d.openAs, Have: d.have.Clone()})
		return
	}
}

// breaks has the disk fail a session.
func (w *world) breaks() {
	d := w.someDisk()
	if b := w.c.blobs[d.digest]; w.coin("breaks", 3) && !d.unkept && !d.opening && b != nil && b.want && b.phase == fetching && b.opened && b.size == d.partOf {
		w.unkeep(d, false)
	}
}

// loses has the disk lose some of what could not be made durable.
func (w *world) loses() {
	i := slices.IndexFunc(w.disks, func(d *disk) bool { return d.unkept && d.suspect })
	if i < 0 {
		return
	}
	d := w.disks[i]
	w.losses++
	left := w.bits("left", d.kept.Len())
	for k := range d.kept.words {
		lost := d.kept.words[k] &^ left.words[k]
		d.kept.words[k] &^= lost
		d.have.words[k] &^= lost
	}
	w.step(Unkept{Digest: d.digest, Size: d.partOf, Have: d.kept.Clone(), Suspect: true})
}

// unkeep has a session go on through memory, if it is not over and the core sees somebody who reads it.
func (w *world) unkeep(d *disk, suspect bool) {
	d.unkept, d.suspect, d.kept, d.now = true, suspect, d.have.Clone(), NewBitmap(d.have.Len())
	w.step(Unkept{Digest: d.digest, Size: d.partOf, Have: d.have.Clone(), Suspect: suspect})
	if b := w.c.blobs[d.digest]; b == nil || !b.unkept.on {
		d.unkept = false
	}
}

// takes stores a piece, or holds it if it may, and reports whether it is of no more use.
func (d *disk) takes(p PieceIndex) (passed bool) {
	if !d.unkept || d.now.Has(p) {
		d.have.Set(p)
	}
	return !d.have.Has(p)
}

// transfer has something happen to a request under way.
func (w *world) transfer() {
	if len(w.asked) == 0 {
		return
	}
	i := w.pick("request", len(w.asked))
	r := w.asked[i]
	if w.coin("started", 2) {
		w.step(PieceStarted{Digest: r.Digest, Piece: r.Piece, From: r.To})
		if w.coin("drips", 4) {
			w.step(PieceDrips{Digest: r.Digest, Piece: r.Piece, From: r.To})
		}
		return
	}
	w.asked = slices.Delete(w.asked, i, i+1)
	if w.coin("failed", 3) {
		why := []Failure{FailedBusy, FailedBusy, FailedBusy, FailedTimeout, FailedReset, FailedNotFound, FailedProtocol, FailedHash, FailedDistrusted}[w.pick("why", 9)]
		w.step(PieceFailed{Digest: r.Digest, Piece: r.Piece, From: r.To, Why: why, Wait: w.wait("busy"), Load: uint8(w.pick("load", 12))})
		return
	}
	d := w.disk(r.Digest)
	if b := w.c.blobs[r.Digest]; b == nil || !b.opened || b.size != d.partOf || int(r.Piece) >= d.have.Len() {
		return // its session is over: the driver has nowhere to put it
	}
	w.step(PieceArrived{Passed: d.takes(r.Piece), Digest: r.Digest, Piece: r.Piece, From: r.To, Took: w.wait("took") + 1, Attester: w.somePeer(), Hash: Hash{byte(w.pick("hash", 2))}})
}

// origin has something happen to a fetch under way.
func (w *world) origin() {
	if len(w.fetches) == 0 {
		return
	}
	i := w.pick("fetch", len(w.fetches))
	f := w.fetches[i]
	end := func(ev Event) {
		w.fetches = slices.Delete(w.fetches, i, i+1)
		w.step(ev)
	}
	d := w.disk(f.Digest)
	switch {
	case w.coin("origin fails", 12):
		end(OriginFailed{Digest: f.Digest, Fetch: f.Fetch, Kind: OriginErrorKind(1 + w.pick("kind", 7))})
	case !f.sized:
		ranges := !w.coin("no ranges", 8)
		if !ranges && f.First > 0 {
			end(OriginFailed{Digest: f.Digest, Fetch: f.Fetch, Kind: OriginNoRange})
			return
		}
		n := LayoutOf(d.size).Pieces()
		f.sized, f.next, f.last = true, int(f.First), n
		if ranges && f.Count > 0 {
			f.last = min(n, int(f.First)+int(f.Count))
		} else if ranges && f.Bytes > 0 {
			f.last = min(n, int(f.Bytes/LayoutOf(d.size).PieceSize))
		}
		w.step(OriginSized{Digest: f.Digest, Fetch: f.Fetch, Size: d.size, Ranges: ranges})
	case f.next >= f.last:
		end(OriginDone{Digest: f.Digest, Fetch: f.Fetch})
	default:
		if b := w.c.blobs[f.Digest]; b == nil || !b.opened || d.partOf != d.size {
			return // the driver waits for room
		}
		p := PieceIndex(f.next)
		f.next++
		w.step(OriginPiece{Digest: f.Digest, Fetch: f.Fetch, Piece: p, Passed: d.takes(p)})
	}
}

func (w *world) verified() {
	for _, d := range w.disks {
		if !d.verifying {
			continue
		}
		d.verifying = false
		switch w.pick("verdict", 8) {
		case 0:
			w.step(VerifyFailed{Digest: d.digest})
		case 1:
			w.step(OpenFailed{Digest: d.digest})
		case 2, 3, 4:
			w.unkeep(d, true)
		default:
			w.step(Verified{Digest: d.digest})
		}
		return
	}
}

// dropped has the store lose a blob that is whole.
func (w *world) dropped() {
	d := w.someDisk()
	b := w.c.blobs[d.digest]
	if b == nil || b.phase != held || !w.coin("drop", 4) {
		return
	}
	d.have, d.partOf = Bitmap{}, -1
	w.step(Dropped{Digest: d.digest})
}

// request has a peer ask for a piece.
func (w *world) request() {
	w.xfers++
	w.step(PieceRequested{From: w.somePeer(), Digest: w.someDisk().digest, Piece: PieceIndex(w.pick("piece", 6)), Xfer: w.xfers})
}

// served ends an upload, or has its requester go away.
func (w *world) served() {
	all := append(slices.Clone(w.slots.active), w.slots.queue...)
	if len(all) == 0 {
		return
	}
	w.now = w.now.Add(w.wait("since"))
	w.step(PieceServed{Xfer: all[w.pick("upload", len(all))].xfer, OK: !w.coin("broken off", 4)})
}

// honest has a peer greet this node and tell what it has.
func (w *world) honest() {
	w.say(w.hello(w.someDisk()))
}

func (w *world) hello(d *disk) Hello {
	return Hello{
		Digest: d.digest, Size: d.size, Want: w.coin("wants", 2), Reply: w.coin("reply", 2), Load: uint8(w.pick("load", 12)),
		Have: w.bits("has", LayoutOf(d.size).Pieces()),
	}
}

// news has a peer tell of pieces.
func (w *world) news() {
	w.say(Have{Digest: w.someDisk().digest, Load: uint8(w.pick("load", 12)), Pieces: []Units{{First: uint32(w.pick("piece", 40)), Count: uint32(w.pick("pieces", 9))}}})
}

func (w *world) say(m Message) { w.step(Received{From: w.somePeer(), Msg: m}) }

// rumour has a peer say anything.
func (w *world) rumour() {
	d := w.someDisk()
	units := []Units{{First: uint32(w.pick("unit", 50)), Count: uint32(w.pick("units", 50))}}
	switch w.pick("rumour", 12) {
	case 0:
		w.say(Hello{Digest: d.digest, Size: []int64{-1, 0, 30 << 20, 1 << 50}[w.pick("size", 4)], NoRange: w.coin("no ranges", 9), Have: w.bits("has", w.pick("bits", 90))})
	case 1:
		w.say(Bye{Digest: d.digest, Full: w.coin("full", 2)})
	case 2:
		w.say(Join{Digest: d.digest, Want: true})
	case 3:
		w.say(Members{Digest: d.digest, Peers: []MemberRef{{ID: w.somePeer(), Zone: "a"}, {ID: "me"}}})
	case 4, 5:
		w.say(Want{Digest: d.digest, Size: d.size, Origin: OriginRef{Registry: "r", Repository: "x"}})
	case 6:
		w.say(Refuse{Digest: d.digest, Kind: OriginErrorKind(w.pick("kind", 9))})
	case 7, 8:
		w.say(Claim{Digest: d.digest, Scope: Scope(w.pick("scope", 4)), State: ClaimState(w.pick("state", 6)), Units: units})
	case 9:
		w.say(Verdict{Digest: d.digest, Scope: Scope(1 + w.pick("scope", 2)), Denied: []Denial{{Units: units[0], Holder: w.somePeer(), Done: w.coin("done", 2)}}})
	default:
		w.say(Verdict{Digest: d.digest, Scope: Scope(1 + w.pick("scope", 2)), Granted: units})
	}
}
