package topology

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/meshd-project/meshd/dht/gossip"
)

func TestDoubtAboutALabel(t *testing.T) {
	zone := func(name string, measured int, median time.Duration) Zone {
		return Zone{Name: name, Members: measured, Measured: measured, Median: median}
	}
	const ms = time.Millisecond
	for _, row := range []struct {
		name  string
		zones []Zone
		other string // "" = no doubt
	}{
		{"nobody", nil, ""},
		{"only the own", []Zone{zone("own", 3, 50*ms)}, ""},
		{"only others", []Zone{zone("a", 3, ms)}, ""},
		{"all is well", []Zone{zone("a", 3, 20*ms), zone("own", 3, ms)}, ""},
		{"ten times as far", []Zone{zone("a", 3, 80*ms), zone("b", 2, ms), zone("own", 3, 10*ms)}, "b"},
		{"not quite", []Zone{zone("b", 2, ms), zone("own", 3, 9*ms)}, ""},
		{"within one building", []Zone{zone("b", 2, ms/10), zone("own", 3, 3*ms)}, ""},
		{"not measured", []Zone{zone("b", 0, 0), zone("own", 3, 10*ms)}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			mine, other, doubted := Doubt("own", row.zones)
			if doubted != (row.other != "") || doubted && (other.Name != row.other || mine.Name != "own") {
				t.Errorf("%t: %+v against %+v", doubted, mine, other)
			}
		})
	}
}

func TestZonesAreCounted(t *testing.T) {
	m := lone(Config{Zone: "b"})
	for i, g := range []gossip.Member{{Zone: "b"}, {Zone: "a", Seed: true}, {Zone: "a"}, {Zone: "a"}} {
		g.ID = testID(i)
		m.Changed(g)
		if i < 3 {
			m.peers[g.ID].rtts.add(time.Duration(i+1)*time.Millisecond, time.Time{})
		}
	}
	got := m.Zones()
	want := []Zone{{"a", 3, 1, 2, 3 * time.Millisecond}, {"b", 1, 0, 1, time.Millisecond}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestLookAround(t *testing.T) {
	m := lone(Config{Zone: Undecided, Inferred: true})
	see := func(id, zone string, rtt time.Duration, connected bool) {
		m.Changed(gossip.Member{ID: peer.ID(id), Zone: zone})
		e := m.peers[peer.ID(id)]
		e.connected = connected
		if rtt > 0 {
			e.rtts.add(rtt, time.Time{})
		}
	}
	see("far", "fra1", 20*time.Millisecond, true)
	see("gone", "fra2", time.Millisecond, false)
	see("unknown", "fra3", 0, true)
	if got := m.LookAround(); got != "" {
		t.Errorf("it joins %s", got)
	}
	see("near", "fra4", time.Millisecond, true)
	if got := m.LookAround(); got != "fra4" {
		t.Errorf("it joins %q", got)
	}
}

// Two nodes far from each other found a zone each, and say so once.
func TestMovedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(30 * 365 * 24 * time.Hour) // the clock of a bubble begins before there can be names
		told := make(chan string, 10)
		ps := places(t, 2, Config{Inferred: true, Moved: func(zone string) { told <- zone }})
		for _, p := range ps {
			p.Map.mu.Lock()
			p.zoner.name = "" // places gives all a zone
			p.Map.mu.Unlock()
		}
		a, b := ps[0], ps[1]
		undecided := func(p *place) gossip.Member {
			g := p.member(Undecided)
			g.Inferred = true
			return g
		}
		a.Changed(undecided(b))
		b.Changed(undecided(a))
		time.Sleep(10 * time.Minute)
		if len(told) != 2 {
			t.Fatalf("told %d times, want once by each of two", len(told))
		}
		if x, y := <-told, <-told; x == y || !strings.HasPrefix(x, inferredPrefix) || !strings.HasPrefix(y, inferredPrefix) {
			t.Errorf("told %s, %s", x, y)
		}
	})
}
