package swarm_test

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/swarm/swarmtest"
)

// mesh is a small mesh with a story that is drawn.
type mesh struct {
	net   *swarmtest.Net
	story bytes.Buffer
	calm  bool // nothing breaks: every byte leaves the origin and enters each zone once
}

// watch has the books of a core counted anew after every seventh step.
func watch(t rapid.TB, n *swarmtest.Net) {
	steps := 0
	n.Stepped = func(nd *swarmtest.Node, _ swarm.Event) {
		if steps++; steps%7 != 0 {
			return
		}
		if broken := swarm.Broken(nd.Core); len(broken) > 0 {
			t.Fatalf("%s at %v: %v", nd.ID, n.Now(), broken)
		}
	}
}

func (m *mesh) tell(format string, args ...any) { fmt.Fprintf(&m.story, format+"\n", args...) }

// newMesh draws a mesh: zones, nodes, seeds, and when each of them wants the blob.
func newMesh(t *rapid.T) *mesh {
	draw := func(what string, n int) int { return rapid.IntRange(0, n-1).Draw(t, what) }
	size := int64(draw("MiB", 96))<<20 + int64(draw("odd", 2))
	m := &mesh{net: swarmtest.New(size), calm: true}
	zones, seeds := 1+draw("zones", 3), draw("seeds", 3)
	m.tell("%d bytes, %d zones, %d seeds", size, zones, seeds)
	if draw("no ranges", 6) == 5 {
		m.net.Origin.NoRange = true
		m.tell("the origin ignores ranges")
	}
	nodes := 1 + draw("nodes", 8)
	for i := range nodes {
		nd := m.net.Add(string(rune('a'+draw("zone", zones))), i < seeds)
		m.want(t, nd, time.Duration(draw("ms", 400))*time.Millisecond)
	}
	return m
}

func (m *mesh) want(t *rapid.T, nd *swarmtest.Node, at time.Duration) {
	hint := m.net.Size
	if rapid.IntRange(0, 3).Draw(t, "hint") == 3 {
		hint = -1
	}
	m.tell("%s of zone %s, seed: %v, wants it at %v, size %d", nd.ID, nd.Zone, nd.Seed, at, hint)
	m.net.At(at, func() { nd.Want(hint) })
}

// ended checks that everybody alive has the blob, and nobody wrong bytes of it.
func (m *mesh) ended(t *rapid.T) {
	for _, nd := range m.net.Nodes() {
		switch {
		case nd.Dead || nd.Stopped:
		case nd.Done == 0:
			t.Errorf("%s has not got the blob by %v (gave up: %d)", nd.ID, m.net.Now(), nd.Ended)
		case nd.Wrong() > 0 && !nd.Liar:
			t.Errorf("%s ended with %d wrong pieces", nd.ID, nd.Wrong())
		}
	}
	if m.calm {
		origin, zones := m.net.Copies()
		if m.net.Size > 0 && math.Abs(origin-1) > 1e-9 {
			t.Errorf("origin copies %.3f", origin)
		}
		for z, c := range zones {
			if m.net.Size > 0 && math.Abs(c-1) > 1e-9 {
				t.Errorf("copies into zone %s: %.3f", z, c)
			}
		}
	}
	if t.Failed() {
		t.Log(m.story.String())
	}
}

// In a mesh where nothing breaks everybody ends with the blob, and it leaves the origin and enters each zone once.
func TestCalmMeshes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMesh(t)
		watch(t, m.net)
		m.net.Run(2 * time.Minute)
		m.ended(t)
	})
}

// In a mesh where nodes die, stop, lie and are cut off everybody who is left ends with the blob.
func TestRoughMeshes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMesh(t)
		m.calm = false
		watch(t, m.net)
		for range rapid.IntRange(1, 4).Draw(t, "troubles") {
			m.trouble(t)
		}
		m.net.Run(6 * time.Minute)
		m.ended(t)
	})
}

func (m *mesh) trouble(t *rapid.T) {
	nodes := m.net.Nodes()
	nd := nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "node")]
	at := time.Duration(rapid.IntRange(0, 1500).Draw(t, "at ms")) * time.Millisecond
	switch rapid.IntRange(0, 6).Draw(t, "trouble") {
	case 0:
		m.tell("%s is killed at %v", nd.ID, at)
		m.net.At(at, nd.Kill)
	case 1:
		m.tell("%s is stopped at %v", nd.ID, at)
		m.net.At(at, func() { nd.Stopped = true })
	case 2:
		m.tell("%s sends wrong bytes", nd.ID)
		nd.Bad = true
	case 3:
		nd.Liar, nd.Lie = true, byte(rapid.IntRange(0, 1).Draw(t, "lie"))
		m.tell("%s signs wrong bytes %d", nd.ID, nd.Lie)
	case 4:
		m.tell("%s is slow", nd.ID)
		nd.Slow = 20
	case 5:
		other := nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "other")]
		if other.Zone == nd.Zone {
			return
		}
		long := time.Duration(rapid.IntRange(100, 20000).Draw(t, "cut ms")) * time.Millisecond
		m.tell("%s and %s are cut at %v for %v", nd.Zone, other.Zone, at, long)
		m.net.At(at, func() { m.net.Cut(nd.Zone, other.Zone, false) })
		m.net.At(at+long, func() { m.net.Cut(nd.Zone, other.Zone, true) })
	case 6:
		late := m.net.Add(nd.Zone, false)
		m.want(t, late, at+20*time.Second)
	}
}

// Two nodes that sign wrong bytes: whoever had bytes of both takes an honest node for a liar too, leaves it out, and
// ends all the same.
func TestTwoLiars(t *testing.T) {
	n := swarmtest.New(5*mib + 1)
	n.Origin.NoRange = true
	for i, nd := range []struct {
		zone string
		seed bool
		at   int
		lie  byte
	}{{"b", true, 50, 2}, {"a", false, 1, 0}, {"b", false, 0, 1}, {"b", false, 310, 0}, {"b", false, 353, 0}, {"b", false, 139, 0}} {
		node := n.Add(nd.zone, nd.seed)
		node.Liar, node.Lie = nd.lie > 0, nd.lie
		hint := n.Size
		if i == 0 {
			hint = -1
		}
		n.At(time.Duration(nd.at)*time.Millisecond, func() { node.Want(hint) })
	}
	n.Run(2 * time.Minute)
	check(t, n, 9, 9)
}

// All seeds sign the same wrong bytes. Whoever wants the blob reads it itself in the end.
func TestSeedsOfOneMind(t *testing.T) {
	n := swarmtest.New(40 * mib)
	for range 2 {
		n.Add("a", true).Liar = true
	}
	for i := range 6 {
		n.Add([]string{"a", "b"}[i%2], false).Want(n.Size)
	}
	n.Run(5 * time.Minute)
	check(t, n, 3, 3)
}

// The same seed gives the same transcript, whatever happens in it.
func TestReplayOfEverything(t *testing.T) {
	run := func() string {
		var out bytes.Buffer
		n := swarmtest.New(96*mib + 3)
		n.Trace = &out
		for i := range 12 {
			nd := n.Add([]string{"a", "b", "c"}[i%3], i < 2)
			n.At(time.Duration(i%5)*90*time.Millisecond, func() { nd.Want([]int64{n.Size, -1}[i%2]) })
		}
		nodes := n.Nodes()
		nodes[0].Liar, nodes[5].Bad, nodes[6].Slow = true, true, 20
		n.At(300*time.Millisecond, nodes[1].Kill)
		n.At(350*time.Millisecond, func() { n.Origin.Fail = swarm.OriginThrottled })
		n.At(900*time.Millisecond, func() { n.Origin.Fail = 0 })
		n.At(400*time.Millisecond, func() { n.Cut("a", "c", false) })
		n.At(500*time.Millisecond, func() { nodes[7].Stopped = true })
		n.At(4*time.Second, func() { n.Cut("a", "c", true) })
		n.At(5*time.Second, func() { n.Add("c", false).Want(n.Size) })
		n.At(6*time.Second, func() { n.Add("a", true).Preheat(-1) })
		n.Run(2 * time.Minute)
		return out.String()
	}
	a := run()
	if b := run(); a != b {
		t.Error("one scenario, run twice, gives two transcripts")
	}
	for _, what := range []string{"request", "cancel", "refuse", "fetch", "verify", "discard", "distrust", "quarantine", "claim pieces done"} {
		if !strings.Contains(a, what) {
			t.Errorf("there is no %q in the transcript", what)
		}
	}
}
