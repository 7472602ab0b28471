package swarm_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/swarm/swarmtest"
)

const mib = 1 << 20

// check asserts that every living node that wanted the blob has it, and what that cost.
func check(t *testing.T, n *swarmtest.Net, maxOrigin, maxZone float64) {
	t.Helper()
	for _, nd := range n.Nodes() {
		if !nd.Dead && !nd.Stopped && nd.Done == 0 {
			t.Errorf("%s did not get the blob (gave up: %v) by %v", nd.ID, nd.Ended, n.Now())
		}
	}
	origin, zones := n.Copies()
	if origin > maxOrigin {
		t.Errorf("origin copies = %.3f, want at most %.3f", origin, maxOrigin)
	}
	for z, c := range zones {
		if c > maxZone {
			t.Errorf("copies into zone %s = %.3f, want at most %.3f", z, c, maxZone)
		}
	}
	var last swarm.Time
	for _, nd := range n.Nodes() {
		last = max(last, nd.Done)
	}
	t.Logf("last %v, origin copies %.3f, zones %v", time.Duration(last), origin, zones)
}

func TestAlone(t *testing.T) {
	for name, size := range map[string]int64{"empty": 0, "1 byte": 1, "1 MiB": mib, "1 GiB": 1 << 30, "odd": 77*mib + 5} {
		for _, known := range []bool{true, false} {
			n := swarmtest.New(size)
			nd := n.Add("a", false)
			if hint := size; known {
				nd.Want(hint)
			} else {
				nd.Want(-1)
			}
			n.Run(time.Minute)
			if nd.Done == 0 || n.Origin.Sent != size {
				t.Errorf("%s known=%v: done at %v, origin sent %d of %d", name, known, nd.Done, n.Origin.Sent, size)
			}
		}
	}
}

func TestColdStartAtOnce(t *testing.T) {
	for _, tc := range []struct {
		name        string
		seeds, hint int64
		noRange     bool
	}{
		{name: "no seed"},
		{name: "no seed, unknown size", hint: -1},
		{name: "one seed", seeds: 1},
		{name: "two seeds", seeds: 2},
		{name: "two seeds, unknown size", seeds: 2, hint: -1},
		{name: "no seed, no ranges", noRange: true},
		{name: "two seeds, no ranges", seeds: 2, noRange: true},
		{name: "two seeds, no ranges, unknown size", seeds: 2, noRange: true, hint: -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := swarmtest.New(64 * mib)
			n.Origin.NoRange = tc.noRange
			for i := range 8 {
				n.Add("a", int64(i) < tc.seeds)
			}
			hint := n.Size
			if tc.hint < 0 {
				hint = -1
			}
			for i, nd := range n.Nodes() {
				n.At(time.Duration(i)*12*time.Millisecond, func() { nd.Want(hint) })
			}
			n.Run(time.Minute)
			check(t, n, 1, 1)
		})
	}
}

func TestZones(t *testing.T) {
	for _, seeds := range []int{0, 1, 2} {
		n := swarmtest.New(256 * mib)
		for i := range 12 {
			n.Add([]string{"a", "b"}[i%2], i < seeds)
		}
		for i, nd := range n.Nodes() {
			n.At(time.Duration(i)*time.Millisecond, func() { nd.Want(n.Size) })
		}
		n.Run(time.Minute)
		check(t, n, 1, 1)
	}
}

func TestLateJoinerCostsTheOriginNothing(t *testing.T) {
	n := swarmtest.New(64 * mib)
	first := n.Add("a", false)
	first.Want(n.Size)
	n.Run(10 * time.Second)
	late := n.Add("a", false)
	n.At(5*time.Minute, func() {
		first.Step(swarm.Held{Digest: n.Digest, Size: n.Size, Have: swarm.FullBitmap(swarm.LayoutOf(n.Size).Pieces())})
		late.Want(n.Size)
	})
	n.Run(10 * time.Minute)
	check(t, n, 1, 1)
}

func TestDeath(t *testing.T) {
	for name, tc := range map[string]struct {
		seeds, victim int
	}{"node": {2, 5}, "one of two seeds": {2, 0}, "only seed": {1, 0}, "wanter without seeds": {0, 3}} {
		t.Run(name, func(t *testing.T) {
			n := swarmtest.New(256 * mib)
			for i := range 8 {
				n.Add([]string{"a", "b"}[i%2], i < tc.seeds)
			}
			for _, nd := range n.Nodes() {
				nd.Want(n.Size)
			}
			victim := n.Nodes()[tc.victim]
			n.At(700*time.Millisecond, victim.Kill)
			n.Run(time.Minute)
			// What the victim alone held, and what it had under way, is fetched again; nothing else is.
			lost := float64(victim.FromOrigin+victim.FromFar)/float64(n.Size) + float64(2*n.Config.StripeBytes)/float64(n.Size)
			check(t, n, 1+lost, 1+lost)
		})
	}
}

func TestStoppedSeedIsTakenOver(t *testing.T) {
	n := swarmtest.New(128 * mib)
	for i := range 6 {
		n.Add("a", i < 2)
	}
	for _, nd := range n.Nodes() {
		nd.Want(n.Size)
	}
	n.At(300*time.Millisecond, func() { n.Nodes()[0].Stopped = true })
	n.Run(2 * time.Minute)
	check(t, n, 1.5, 2)
}

// A process that is stopped keeps its connections. The others find out by asking it, and share the rest under leases:
// they do not all lose patience at once and go to the origin for the same bytes.
func TestStoppedOnlySeed(t *testing.T) {
	n := swarmtest.New(128 * mib)
	for i := range 8 {
		n.Add("a", i == 0)
	}
	for _, nd := range n.Nodes()[1:] {
		nd.Want(n.Size)
	}
	seed := n.Nodes()[0]
	n.At(250*time.Millisecond, func() { seed.Stopped = true })
	n.Run(2 * time.Minute)
	lost := float64(seed.FromOrigin) / float64(n.Size) // what it alone had is read again, nothing more
	check(t, n, 1+lost, 1+lost)
	for _, nd := range n.Nodes()[1:] {
		if time.Duration(nd.Done) > 15*time.Second {
			t.Errorf("%s took %v", nd.ID, time.Duration(nd.Done))
		}
	}
}

// A node whose process was stopped for minutes goes on where it was: the time did not pass for it.
func TestAsleep(t *testing.T) {
	n := swarmtest.New(64 * mib)
	nd := n.Add("a", false)
	nd.Want(n.Size)
	n.At(50*time.Millisecond, func() { nd.Stopped = true })
	n.At(5*time.Minute, func() {
		nd.Stopped = false
		nd.Step(swarm.Tick{})
		if nd.Ended != 0 {
			t.Fatalf("gave up (%v) on waking", nd.Ended)
		}
		for f := range uint64(3) { // what it was reading broke meanwhile
			nd.Step(swarm.OriginFailed{Digest: n.Digest, Fetch: f, Kind: swarm.OriginUnreachable})
		}
	})
	n.Run(10 * time.Minute)
	if nd.Done == 0 {
		t.Fatalf("not done; ended with %v", nd.Ended)
	}
}

func TestLiars(t *testing.T) {
	t.Run("wrong bytes", func(t *testing.T) {
		n := swarmtest.New(64 * mib)
		for i := range 6 {
			n.Add("a", i < 2).Bad = i == 3
		}
		for _, nd := range n.Nodes() {
			nd.Want(n.Size)
		}
		n.Run(2 * time.Minute)
		liar := n.Nodes()[3] // nobody serves it any more: what it still lacks it reads itself
		own := float64(liar.FromOrigin) / float64(n.Size)
		check(t, n, 1+own, 1+own)
		for _, nd := range n.Nodes() {
			if nd != liar && !nd.Seed && !slices.Contains(nd.Shunned, liar.ID) { // seeds asked it for nothing
				t.Errorf("%s does not shun the liar", nd.ID)
			}
		}
	})
	t.Run("seed signs wrong hashes", func(t *testing.T) {
		n := swarmtest.New(64 * mib)
		for i := range 6 {
			n.Add("a", i < 2).Liar = i == 0
		}
		for _, nd := range n.Nodes() {
			nd.Want(n.Size)
		}
		n.Run(2 * time.Minute)
		check(t, n, 3, 3) // the liar's reading, the honest seed's, and the repair by those who cannot tell which of them lied
		for _, nd := range n.Nodes()[1:] {
			if !slices.Contains(nd.Shunned, "n0") {
				t.Errorf("%s does not shun the liar", nd.ID)
			}
		}
	})
}

func TestOriginFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		kind    swarm.OriginErrorKind
		corrupt bool
		want    swarm.GiveUpReason
	}{
		"not found": {kind: swarm.OriginNotFound, want: swarm.GaveUpOrigin}, "denied": {kind: swarm.OriginUnauthorized, want: swarm.GaveUpOrigin},
		"unreachable": {kind: swarm.OriginUnreachable, want: swarm.GaveUpOrigin}, "throttled": {kind: swarm.OriginThrottled, want: swarm.GaveUpOrigin},
		"corrupt": {corrupt: true, want: swarm.GaveUpCorrupt},
	} {
		for _, seeds := range []int{0, 1, 2} {
			n := swarmtest.New(32 * mib)
			n.Origin.Fail, n.Origin.Corrupt = tc.kind, tc.corrupt
			for i := range 4 {
				n.Add("a", i < seeds)
			}
			for _, nd := range n.Nodes() {
				nd.Want(n.Size)
			}
			n.Run(2 * time.Minute)
			for _, nd := range n.Nodes() {
				if nd.Ended != tc.want {
					t.Errorf("%s, %d seeds: %s ended with %v, want %v", name, seeds, nd.ID, nd.Ended, tc.want)
				}
			}
		}
	}
}

func TestSeedThatMayNotFetchLeavesItToTheWanters(t *testing.T) {
	n := swarmtest.New(32 * mib)
	n.Origin.Fail = swarm.OriginRefused
	n.Origin.FailFor = func(id swarm.PeerID) bool { return id == "n0" }
	n.Add("a", true)
	for range 4 {
		n.Add("a", false)
	}
	for _, nd := range n.Nodes()[1:] {
		nd.Want(n.Size)
	}
	n.Run(time.Minute)
	n.Nodes()[0].Stopped = true // it need not have it
	check(t, n, 1, 1)
}

func TestReplay(t *testing.T) {
	run := func() string {
		var out bytes.Buffer
		n := swarmtest.New(32 * mib)
		n.Trace = &out
		for i := range 6 {
			n.Add([]string{"a", "b"}[i%2], i < 2)
		}
		for _, nd := range n.Nodes() {
			nd.Want(n.Size)
		}
		n.At(300*time.Millisecond, n.Nodes()[4].Kill)
		n.Run(time.Minute)
		return out.String()
	}
	a, b := run(), run()
	if a != b {
		t.Error("one scenario, run twice, gives two transcripts")
	}
	if len(a) == 0 {
		t.Error("empty transcript")
	}
}

// A seed asks the origin for the start of a blob before it knows the size, and hears the size from a peer before the origin
// answers. What is on its way is not asked for again.
func TestSizeFromAPeerWhileTheOriginAnswers(t *testing.T) {
	cfg := swarm.DefaultConfig()
	cfg.Self, cfg.Zone, cfg.Seed = "seed", "a", true
	core := swarm.New(cfg, 1)
	n := swarmtest.New(64 * mib)
	now := swarm.Time(0)
	fetched := map[swarm.PieceIndex]bool{}
	step := func(ev swarm.Event) {
		now = now.Add(50 * time.Millisecond)
		for _, a := range core.Step(now, ev, nil) {
			f, ok := a.(swarm.FetchOrigin)
			if !ok {
				continue
			}
			count := f.Count
			if f.Bytes > 0 {
				count = uint32(f.Bytes / swarm.LayoutOf(n.Size).PieceSize)
			}
			for i := range count {
				if p := f.First + swarm.PieceIndex(i); fetched[p] {
					t.Fatalf("piece %d is fetched twice", p)
				} else {
					fetched[p] = true
				}
			}
		}
	}
	for _, id := range []swarm.PeerID{"x", "y"} {
		step(swarm.Member{ID: id, Zone: "a"})
	}
	step(swarm.Received{From: "x", Msg: swarm.Want{Digest: n.Digest, Size: n.Size, Origin: swarm.OriginRef{Registry: "r", Repository: "p"}}})
	step(swarm.Tick{})
	step(swarm.Received{From: "y", Msg: swarm.Hello{Digest: n.Digest, Size: n.Size, Want: true, Have: oneOf(128)}})
	step(swarm.Held{Digest: n.Digest, Size: n.Size, Have: swarm.NewBitmap(128)})
	step(swarm.OriginSized{Digest: n.Digest, Fetch: 1, Size: n.Size, Ranges: true})
	for range 50 {
		step(swarm.Tick{})
	}
	if len(fetched) == 0 {
		t.Fatal("nothing was fetched")
	}
}

func oneOf(n int) swarm.Bitmap {
	b := swarm.NewBitmap(n)
	b.Set(swarm.PieceIndex(n - 1))
	return b
}
