package swarm_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// FuzzEvents drives a core with any event at any time, from members that say anything. It must not panic, its books must
// add up after every step, and no event may make it ask for more than a bounded number of things.
func FuzzEvents(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint16(400))
	}
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) {
		h := newHostile(seed)
		for range int(steps) % 2000 {
			h.step(t)
		}
	})
}

// hostile makes up events and carries out a core's actions as a bad network would: sometimes, late, or never.
type hostile struct {
	rng     *rand.Rand
	core    *swarm.Core
	now     swarm.Time
	blobs   []digest.Digest
	asked   []swarm.RequestPiece
	fetches []swarm.FetchOrigin
	opened  map[digest.Digest]int64 // sizes for which the store made room
	xfers   uint64
}

func newHostile(seed uint64) *hostile {
	h := &hostile{rng: rand.New(rand.NewPCG(seed, 7)), opened: map[digest.Digest]int64{}}
	cfg := swarm.DefaultConfig()
	cfg.Self, cfg.Zone, cfg.Seed = "me", "a", seed%2 == 0
	h.core = swarm.New(cfg, seed)
	for _, s := range []string{"one", "two", "three"} {
		h.blobs = append(h.blobs, digest.FromString(s))
	}
	return h
}

func (h *hostile) step(t *testing.T) {
	h.now += swarm.Time(h.rng.Int64N(int64(200 * time.Millisecond)))
	acts := h.core.Step(h.now, h.event(), nil)
	if len(acts) > 20000 {
		t.Fatalf("%d actions in one step", len(acts))
	}
	for _, a := range acts {
		switch a := a.(type) {
		case swarm.RequestPiece:
			h.asked = append(h.asked, a)
		case swarm.OpenBlob:
			h.opened[a.Digest] = a.Size
		case swarm.FetchOrigin:
			h.fetches = append(h.fetches, a)
		}
	}
	swarm.Check(t, h.core)
}

func (h *hostile) peer() swarm.PeerID  { return swarm.PeerID("pqrst"[h.rng.IntN(5):][:1]) }
func (h *hostile) blob() digest.Digest { return h.blobs[h.rng.IntN(len(h.blobs))] }
func (h *hostile) piece() swarm.PieceIndex {
	return swarm.PieceIndex(h.rng.IntN(40)) << (h.rng.IntN(3) * 10)
}

func (h *hostile) size() int64 {
	return []int64{-1, 0, 1, 20 << 20, 20 << 20, 1 << 62, -5}[h.rng.IntN(7)]
}

func (h *hostile) units() (u []swarm.Units) {
	for range h.rng.IntN(4) {
		u = append(u, swarm.Units{First: h.rng.Uint32() >> h.rng.IntN(32), Count: h.rng.Uint32() >> h.rng.IntN(32)})
	}
	return u
}

func (h *hostile) fetch() (digest.Digest, uint64) {
	if len(h.fetches) == 0 || h.rng.IntN(4) == 0 {
		return h.blob(), h.rng.Uint64N(9)
	}
	f := h.fetches[h.rng.IntN(len(h.fetches))]
	return f.Digest, f.Fetch
}

func (h *hostile) event() swarm.Event {
	switch h.rng.IntN(20) {
	case 0, 1:
		return swarm.Member{ID: h.peer(), Zone: []string{"a", "b", ""}[h.rng.IntN(3)], Seed: h.rng.IntN(2) == 0, Relay: h.rng.IntN(2) == 0}
	case 2:
		return swarm.MemberLost{ID: h.peer()}
	case 3:
		return swarm.Wanted{Digest: h.blob(), Size: h.size(), Origin: swarm.OriginRef{Registry: "r", Repository: "x"}, Class: swarm.Class(h.rng.IntN(2)), Private: h.rng.IntN(3) == 0}
	case 4:
		return swarm.Reading{Digest: h.blob(), Reader: h.rng.Uint64N(3), Off: h.rng.Int64N(30<<20) - 9, End: h.size()}
	case 5:
		if h.rng.IntN(8) == 0 {
			return swarm.Unwanted{Digest: h.blob()}
		}
		return swarm.ReadClosed{Digest: h.blob(), Reader: h.rng.Uint64N(3)}
	case 6, 7:
		d, n := h.blob(), h.rng.IntN(60)
		if _, ok := h.opened[d]; !ok {
			h.opened[d] = max(h.size()%(1<<30), 0)
		}
		return swarm.Held{Digest: d, Size: h.opened[d], Have: swarm.BitmapFromBytes(n, []byte{byte(h.rng.Uint32()), byte(h.rng.Uint32())})}
	case 8:
		return swarm.ProvidersFound{Digest: h.blob(), Peers: []swarm.MemberRef{{ID: h.peer()}, {ID: "stranger"}, {ID: "me"}}, Done: h.rng.IntN(2) == 0}
	case 9:
		h.xfers++
		return swarm.PieceRequested{From: h.peer(), Digest: h.blob(), Piece: h.piece(), Xfer: h.xfers}
	case 10:
		if h.rng.IntN(4) == 0 {
			return swarm.PieceStarted{Digest: h.blob(), Piece: h.piece(), From: h.peer()}
		}
		if n := len(h.asked); n > 0 && h.rng.IntN(3) == 0 {
			r := h.asked[h.rng.IntN(n)]
			return swarm.PieceDrips{Digest: r.Digest, Piece: r.Piece, From: r.To}
		}
		return swarm.PieceServed{Xfer: h.rng.Uint64N(h.xfers + 1)}
	case 11, 12:
		return h.answer()
	case 13:
		d, id := h.fetch()
		return swarm.OriginSized{Digest: d, Fetch: id, Size: h.size(), Ranges: h.rng.IntN(2) == 0}
	case 14:
		d, id := h.fetch()
		return swarm.OriginPiece{Digest: d, Fetch: id, Piece: h.piece()}
	case 15:
		d, id := h.fetch()
		if h.rng.IntN(2) == 0 {
			return swarm.OriginDone{Digest: d, Fetch: id}
		}
		return swarm.OriginFailed{Digest: d, Fetch: id, Kind: swarm.OriginErrorKind(h.rng.IntN(9)), RetryAfter: time.Duration(h.rng.Int64())}
	case 16:
		return []swarm.Event{swarm.Verified{Digest: h.blob()}, swarm.VerifyFailed{Digest: h.blob()}, swarm.Dropped{Digest: h.blob()}, swarm.OpenFailed{Digest: h.blob()}}[h.rng.IntN(4)]
	case 17:
		return swarm.Tick{}
	}
	return swarm.Received{From: h.peer(), Msg: h.message()}
}

// answer ends one of the requests made, or one never made.
func (h *hostile) answer() swarm.Event {
	if n := len(h.asked); n > 0 {
		i := h.rng.IntN(n)
		r := h.asked[i]
		h.asked = slices.Delete(h.asked, i, i+1)
		if h.rng.IntN(2) == 0 {
			return swarm.PieceArrived{Digest: r.Digest, Piece: r.Piece, From: r.To, Took: time.Millisecond, Attester: h.peer()}
		}
		return swarm.PieceFailed{Digest: r.Digest, Piece: r.Piece, From: r.To, Why: swarm.Failure(h.rng.IntN(10)), Wait: time.Duration(h.rng.Int64())}
	}
	return swarm.PieceArrived{Digest: h.blob(), Piece: h.piece(), From: h.peer()}
}

func (h *hostile) message() swarm.Message {
	d := h.blob()
	switch h.rng.IntN(9) {
	case 0, 1:
		return swarm.Hello{
			Digest: d, Size: h.size(), NoRange: h.rng.IntN(9) == 0, Want: h.rng.IntN(2) == 0, Reply: h.rng.IntN(2) == 0,
			Have: swarm.BitmapFromBytes(h.rng.IntN(70), []byte{byte(h.rng.Uint32()), byte(h.rng.Uint32()), 255}),
		}
	case 2:
		return swarm.Have{Digest: d, Pieces: h.units()}
	case 3:
		return swarm.Bye{Digest: d}
	case 4:
		return swarm.Join{Digest: d, Want: true}
	case 5:
		return swarm.Members{Digest: d, Peers: []swarm.MemberRef{{ID: h.peer(), Zone: "a"}, {ID: "me"}}}
	case 6:
		return swarm.Want{Digest: d, Size: h.size(), Origin: swarm.OriginRef{Registry: "r", Repository: "x"}}
	case 7:
		return swarm.Claim{Digest: d, Scope: swarm.Scope(h.rng.IntN(4)), State: swarm.ClaimState(h.rng.IntN(6)), Units: h.units()}
	}
	return swarm.Verdict{Digest: d, Scope: swarm.Scope(h.rng.IntN(4)), Granted: h.units(), Denied: []swarm.Denial{{Units: swarm.Units{First: h.rng.Uint32N(9), Count: 3}, Holder: h.peer(), Done: true}}}
}
