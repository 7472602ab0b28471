package gossip

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"
)

func TestTableApply(t *testing.T) {
	now := time.Unix(1000, 0)
	say := func(seq uint64, zone string) presence { return presence{ID: testID(1), Seq: seq, Zone: zone} }
	type step struct {
		p      presence
		direct bool
		want   verdict
		zone   string // afterwards; "" = not a member
	}
	bye := say(9, "a")
	bye.Leaving = true
	for _, row := range []struct {
		name  string
		steps []step
	}{
		{"first word", []step{{say(1, "a"), false, changed, "a"}}},
		{"about ourselves", []step{{presence{ID: testID(0), Seq: 5, Zone: "x"}, false, stale, ""}}},
		{"again, newer", []step{{say(1, "a"), false, changed, "a"}, {say(2, "a"), false, fresh, "a"}}},
		{"again, older", []step{{say(2, "a"), false, changed, "a"}, {say(1, "b"), false, stale, "a"}}},
		{"another zone", []step{{say(1, "a"), false, changed, "a"}, {say(2, "b"), false, changed, "b"}}},
		{"hearsay does not overrule", []step{{say(1, "a"), true, changed, "a"}, {say(2, "b"), false, fresh, "a"}}},
		{"the peer itself overrules", []step{{say(9, "a"), false, changed, "a"}, {say(1, "b"), true, changed, "b"}}},
		{"goodbye", []step{{say(1, "a"), false, changed, "a"}, {bye, false, left, ""}, {bye, false, stale, ""}}},
		{"goodbye for a connected one", []step{{say(1, "a"), true, changed, "a"}, {bye, false, stale, "a"}}},
		{"goodbye of before", []step{{say(10, "a"), false, changed, "a"}, {bye, false, stale, "a"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			tab := table{self: testID(0), members: make(map[peer.ID]*member)}
			for i, s := range row.steps {
				if got := tab.apply(s.p, s.direct, now, 0); got != s.want {
					t.Errorf("step %d: got %d, want %d", i, got, s.want)
				}
				zone := ""
				if m := tab.members[testID(1)]; m != nil {
					zone = m.Zone
				}
				if zone != s.zone {
					t.Errorf("step %d: zone %q, want %q", i, zone, s.zone)
				}
			}
		})
	}
}

func TestCoordinatesInTheTable(t *testing.T) {
	now := time.Unix(1000, 0)
	tab := table{self: testID(0), members: make(map[peer.ID]*member)}
	at := func(seq uint64, x float32) presence {
		return presence{ID: testID(1), Seq: seq, Zone: "a", Coord: &Coordinate{Vec: [Dimensions]float32{x}}}
	}
	for i, step := range []struct {
		p      presence
		direct bool
		want   verdict
		x      float32
	}{
		{at(1, 0), true, changed, 0},
		{at(2, 0.0003), false, fresh, 0},
		{at(3, 0.0006), false, changed, 0.0006}, // small moves add up
		{at(4, 0.1), false, changed, 0.1},       // hearsay moves a connected member
		{at(3, 5), false, stale, 0.1},
	} {
		if got := tab.apply(step.p, step.direct, now, 0); got != step.want {
			t.Errorf("step %d: got %d, want %d", i, got, step.want)
		}
		if got := tab.members[testID(1)].public().Coord.Vec[0]; got != step.x {
			t.Errorf("step %d: at %v, want %v", i, got, step.x)
		}
	}
	p := at(5, 0)
	p.Inferred = true
	if tab.apply(p, true, now, 0) != changed || !tab.members[testID(1)].public().Inferred {
		t.Error("that its zone is inferred is not told")
	}
}

func TestTableExpires(t *testing.T) {
	now := time.Unix(1000, 0)
	tab := table{self: testID(0), members: make(map[peer.ID]*member)}
	tab.apply(presence{ID: testID(1), Zone: "a", Every: 10 * time.Second}, false, now, 34*time.Second)
	tab.apply(presence{ID: testID(2), Zone: "a", Every: 10 * time.Second}, false, now, 36*time.Second)
	tab.apply(presence{ID: testID(3), Zone: "a", Every: 10 * time.Second}, true, now, 36*time.Second)
	tab.apply(presence{ID: testID(4), Zone: "a", Every: 20 * time.Second}, false, now, 36*time.Second) // of a larger mesh
	gone := tab.expire(now, func(id peer.ID) bool { return id == testID(3) })
	if want := []peer.ID{testID(2)}; !slices.Equal(gone, want) {
		t.Errorf("expired %v, want %v", gone, want)
	}
}

func TestRelaysAgree(t *testing.T) {
	const n, relays = 40, 4
	var ids []peer.ID
	for i := range n {
		ids = append(ids, testID(i+1))
	}
	chosen := 0
	for _, self := range ids {
		tab := table{self: self, members: make(map[peer.ID]*member)}
		for _, id := range ids {
			tab.apply(presence{ID: id, Seq: 1, Zone: "a"}, false, time.Time{}, 0)
		}
		tab.apply(presence{ID: testID(999), Seq: 1, Zone: "b"}, false, time.Time{}, 0)
		if tab.isRelay("a", relays, time.Time{}) {
			chosen++
		}
	}
	if chosen != relays {
		t.Errorf("%d nodes see themselves as relays, want %d", chosen, relays)
	}
}

// Who ranks higher and is not there, because it died or was made up, is waited for once; who is connected keeps its turn.
func TestRelaysThatAreNotThere(t *testing.T) {
	const relays = 2
	now := time.Unix(1000, 0)
	self := testID(1)
	tab := table{self: self, members: make(map[peer.ID]*member)}
	var higher []peer.ID
	for i := 2; len(higher) < relays+1; i++ {
		if id := testID(i); rank("a", id) > rank("a", self) {
			higher = append(higher, id)
			tab.apply(presence{ID: id, Seq: 1, Zone: "a", Every: time.Hour, Relay: true}, true, now, 0)
		}
	}
	slices.SortFunc(higher, func(a, b peer.ID) int { return cmp.Compare(rank("a", b), rank("a", a)) })
	check := func(after time.Duration, want bool) {
		t.Helper()
		if got := tab.isRelay("a", relays, now.Add(after)); got != want {
			t.Errorf("after %v: relay %t, want %t", after, got, want)
		}
	}
	check(0, false)
	tab.members[higher[0]].direct = false
	check(0, false)
	check(relayAwaited, false) // the third is there
	tab.members[higher[1]].direct = false
	check(relayAwaited, false)
	check(2*relayAwaited, true)
	tab.members[higher[1]].direct = true
	check(2*relayAwaited, false)
	tab.members[higher[1]].direct = false
	check(3*relayAwaited, false) // waited for anew
	check(4*relayAwaited, true)
}

// A number far in the future silences a member no longer than until it speaks again; a clock that is wrong does no harm.
func TestNumbersFromTheFuture(t *testing.T) {
	now := time.UnixMilli(1e12)
	tab := table{self: testID(0), members: make(map[peer.ID]*member)}
	for i, step := range []struct {
		seq  uint64
		want verdict
	}{
		{1e12, changed},
		{1 << 62, fresh},    // somebody made it up
		{1e12 + 1, fresh},   // the member
		{1e12 + 1, stale},   // once more, by another way
		{1 << 62, fresh},    // its clock runs ahead
		{1<<62 + 1, fresh},  // still
		{1 << 62, stale},    // and it is not heard twice
		{1e12 + 1e6, fresh}, // set right
		{1e12 + 2e6, fresh},
		{1e12, stale}, // within the hour all is as ever
	} {
		if got := tab.apply(presence{ID: testID(1), Seq: step.seq, Zone: "a"}, false, now, 0); got != step.want {
			t.Errorf("step %d: got %d, want %d", i, got, step.want)
		}
	}
}

// A table full of hearsay has room for who comes in person.
func TestRoomForWhoIsThere(t *testing.T) {
	now := time.Unix(1000, 0)
	g := &Gossip{cfg: Config{Zone: "a"}.withDefaults(), host: lonely{}, wakeEvents: make(chan struct{}, 1), wakeTell: make(chan struct{}, 1)}
	g.table = table{self: testID(0), members: make(map[peer.ID]*member)}
	for i := range maxMembers {
		g.table.apply(presence{ID: testID(i + 2), Seq: 1, Zone: "a"}, false, now, time.Duration(i)*time.Second)
	}
	g.met(hello{self: presence{ID: testID(1), Seq: 1, Zone: "a"}})
	oldest := testID(maxMembers + 1)
	if g.table.members[testID(1)] == nil || g.table.members[oldest] != nil || len(g.table.members) != maxMembers {
		t.Errorf("%d members, the newcomer and the oldest among them: %t, %t",
			len(g.table.members), g.table.members[testID(1)] != nil, g.table.members[oldest] != nil)
	}
	if len(g.events) != 2 || g.events[0].lost != oldest {
		t.Errorf("told %+v", g.events)
	}
}

// lonely is a host without connections.
type lonely struct{ host.Host }

func (lonely) Network() network.Network { return noConns{} }

type noConns struct{ network.Network }

func (noConns) Connectedness(peer.ID) network.Connectedness { return network.NotConnected }

func TestContacts(t *testing.T) {
	tab := table{self: testID(0), members: make(map[peer.ID]*member)}
	for i := range 40 {
		tab.apply(presence{ID: testID(i + 1), Seq: 1, Zone: "b", Seed: i < 3}, false, time.Time{}, 0)
	}
	n := 0
	for id := range tab.members {
		if tab.isContact(id) {
			n++
		}
	}
	if want := 3 + contacts; n != want {
		t.Errorf("%d contacts, want %d", n, want)
	}
}

func TestHoldings(t *testing.T) {
	now := time.Unix(1000, 0)
	var h holdings
	d := testDigest("layer")
	near := func(id peer.ID) (bool, bool) { return id < testID(10), id != testID(5) }
	h.add(testID(11), item{d, true}, now)
	h.add(testID(1), item{d, false}, now)
	h.add(testID(2), item{d, true}, now)
	h.add(testID(5), item{d, true}, now) // left meanwhile
	h.add(testID(12), item{d, false}, now)
	want := []peer.ID{testID(2), testID(1), testID(11), testID(12)}
	if got := h.of(d, now, near); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	want = []peer.ID{testID(2), testID(11)}
	if got := h.of(d, now.Add(importingTTL+1), near); !slices.Equal(got, want) {
		t.Errorf("after the importers ran out: got %v, want %v", got, want)
	}
	if got := h.of(testDigest("other"), now, near); got != nil {
		t.Errorf("unknown blob: got %v", got)
	}
}

func TestHoldingsAreBounded(t *testing.T) {
	var h holdings
	now := time.Unix(1000, 0)
	d := digest.FromString("popular")
	for i := range 100 {
		h.add(testID(i), item{d, true}, now.Add(time.Duration(i)))
	}
	got := h.of(d, now, func(peer.ID) (bool, bool) { return true, true })
	if len(got) != maxHolders || !slices.Contains(got, testID(99)) {
		t.Errorf("%d holders kept, want the %d latest", len(got), maxHolders)
	}
	for i := range maxBlobs + 10 {
		h.add(testID(1), item{digest.FromBytes([]byte{byte(i), byte(i >> 8)}), true}, now)
	}
	if len(h.blobs) != maxBlobs || h.order.Len() != maxBlobs {
		t.Errorf("%d blobs kept, want %d", len(h.blobs), maxBlobs)
	}
}

func TestSaidForgets(t *testing.T) {
	var s said
	now := time.Unix(1000, 0)
	f := fact{zone: "a", item: item{Digest: testDigest("x")}}
	for want := range 3 {
		if got := s.count(f, now); got != want {
			t.Errorf("count %d, want %d", got, want)
		}
		s.add(f, now)
	}
	if got := s.count(f, now.Add(saidWindow)); got != 3 {
		t.Errorf("one window later: %d, want 3", got)
	}
	if got := s.count(f, now.Add(3*saidWindow)); got != 0 {
		t.Errorf("three windows later: %d, want 0", got)
	}
}
