package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// faultKind is a way in which the world is bad.
type faultKind string

// What befalls a node.
const (
	faultKill    faultKind = "kill"    // SIGKILL, started again on the same ports
	faultRestart faultKind = "restart" // SIGTERM, started again after as long as draining takes
	faultPause   faultKind = "pause"   // SIGSTOP, SIGCONT
	faultDamage  faultKind = "damage"  // SIGKILL, a file of the data dir damaged, started again
	faultWipe    faultKind = "wipe"    // SIGKILL, the data dir lost, started again as somebody else
	faultFill    faultKind = "fill"    // its disk is full
	faultCut     faultKind = "cut"     // no packet between two nodes
	faultLone    faultKind = "lone"    // no packet between a node and all others
	faultNoWay   faultKind = "no-way"  // no packet between a node and the registry
)

// What befalls everybody.
const (
	faultSplit faultKind = "split" // no packet between one zone and the others
	faultSlow  faultKind = "slow"  // the registry sends 2 MiB/s
	faultError faultKind = "error" // the registry answers 503
	faultHang  faultKind = "hang"  // the registry takes requests and does not answer
	faultBreak faultKind = "break" // the registry closes connections in the middle of answers
)

// fault is one of them: what, when, for how long, and to whom.
type fault struct {
	at, lasts time.Duration
	kind      faultKind
	node      int    // -1: everybody
	other     int    // of a cut: the other node
	pick      uint64 // chooses what is left to choose
}

func (f fault) String() string {
	to := ""
	switch {
	case f.kind == faultCut:
		to = fmt.Sprintf(" node-%d and node-%d", f.node+1, f.other+1)
	case f.node >= 0:
		to = fmt.Sprintf(" node-%d", f.node+1)
	}
	return fmt.Sprintf("%7.2fs %s%s for %.2fs", f.at.Seconds(), f.kind, to, f.lasts.Seconds())
}

// oddsRow says how often a fault comes, how long it lasts, and what it needs.
type oddsRow struct {
	kind     faultKind
	weight   int
	min, max time.Duration
	root     bool // it needs namespaces and mounts
	shared   bool // it befalls everybody; one at a time
}

var odds = []oddsRow{
	{faultKill, 20, 200 * time.Millisecond, 4 * time.Second, false, false},
	{faultRestart, 8, 10500 * time.Millisecond, 12 * time.Second, false, false},
	{faultPause, 16, 500 * time.Millisecond, 8 * time.Second, false, false},
	{faultDamage, 18, 100 * time.Millisecond, time.Second, false, false},
	{faultWipe, 3, 100 * time.Millisecond, time.Second, false, false},
	{faultFill, 8, 2 * time.Second, 8 * time.Second, true, false},
	{faultCut, 10, time.Second, 10 * time.Second, true, false},
	{faultLone, 6, time.Second, 8 * time.Second, true, false},
	{faultNoWay, 4, time.Second, 6 * time.Second, true, false},
	{faultSplit, 4, time.Second, 8 * time.Second, true, true},
	{faultSlow, 6, 2 * time.Second, 8 * time.Second, false, true},
	{faultError, 4, 500 * time.Millisecond, 3 * time.Second, false, true},
	{faultHang, 3, 500 * time.Millisecond, 4 * time.Second, false, true},
	{faultBreak, 6, 500 * time.Millisecond, 4 * time.Second, false, true},
}

const (
	faultGap  = 600 * time.Millisecond // mean time between two draws of a fault, of which some come to nothing
	faultRest = 3 * time.Second        // a node's rest after a fault
	mostHit   = 3                      // nodes hit at a time
)

// schedule draws the faults of a run. It depends on nothing but its arguments.
func schedule(seed uint64, length time.Duration, nodes int, root bool) []fault {
	rng := rand.New(rand.NewPCG(seed, 1))
	busy := make([]time.Duration, nodes) // until when a node is hit or rests
	var shared time.Duration             // until when everybody is
	total := 0
	for _, o := range odds {
		if root || !o.root {
			total += o.weight
		}
	}
	var out []fault
	for at := time.Second; ; {
		at += faultGap/4 + upTo(rng, faultGap*3/2)
		n := rng.IntN(total)
		i := slices.IndexFunc(odds, func(o oddsRow) bool {
			if root || !o.root {
				n -= o.weight
			}
			return n < 0
		})
		o := odds[i]
		f := fault{at: at, kind: o.kind, lasts: o.min + upTo(rng, o.max-o.min), node: rng.IntN(nodes), other: rng.IntN(nodes), pick: rng.Uint64()}
		if f.at+f.lasts > length {
			if f.at > length {
				return out
			}
			continue
		}
		if o.shared {
			if at < shared {
				continue
			}
			shared = at + f.lasts + faultRest
			f.node = -1
		} else if !hit(busy, f) {
			continue
		}
		out = append(out, f)
	}
}

// hit reports whether a fault's nodes are free for it, and takes them.
func hit(busy []time.Duration, f fault) bool {
	now := 0
	for _, until := range busy {
		if until-faultRest > f.at {
			now++
		}
	}
	if now >= mostHit || busy[f.node] > f.at {
		return false
	}
	if f.kind == faultCut {
		if f.other == f.node || busy[f.other] > f.at {
			return false
		}
		busy[f.other] = f.at + f.lasts + faultRest
	}
	busy[f.node] = f.at + f.lasts + faultRest
	return true
}

// tally counts faults by kind, for people.
func tally(fs []fault) string {
	n := map[faultKind]int{}
	for _, f := range fs {
		n[f.kind]++
	}
	var parts []string
	for _, o := range odds {
		if n[o.kind] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", o.kind, n[o.kind]))
		}
	}
	return strings.Join(parts, ", ")
}

// A seed gives one schedule, another seed another; a node has one fault at a time, and never are all hit.
func TestChaosSchedule(t *testing.T) {
	t.Parallel()
	const nodes = 7
	one := schedule(1, 5*time.Minute, nodes, true)
	if !slices.Equal(one, schedule(1, 5*time.Minute, nodes, true)) {
		t.Error("one seed gives two schedules")
	}
	if slices.Equal(one, schedule(2, 5*time.Minute, nodes, true)) {
		t.Error("two seeds give one schedule")
	}
	for _, root := range []bool{true, false} {
		for _, o := range odds {
			n := 0
			for seed := range uint64(8) {
				n += strings.Count(tally(schedule(seed, 5*time.Minute, nodes, root)), string(o.kind)+" ")
			}
			if want := root || !o.root; want != (n > 0) {
				t.Errorf("root %v: %s in %d of 8 schedules", root, o.kind, n)
			}
		}
	}
	for i, f := range one {
		hit := 0
		for _, g := range one[:i] {
			if g.at+g.lasts <= f.at || g.node < 0 || f.node < 0 {
				continue
			}
			if hit++; g.node == f.node || f.kind == faultCut && f.other == g.node {
				t.Errorf("%v while %v", f, g)
			}
		}
		if hit >= nodes-1 {
			t.Errorf("%v while %d others are hit", f, hit)
		}
	}
}

func upTo(rng *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(d)))
}
