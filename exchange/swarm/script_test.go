package swarm_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/swarm/swarmtest"
)

// TestScripts replays the stories in testdata and compares every action of every node. With -rewrite the files are
// written anew: read the difference, and commit it only if you know what caused it.
//
// Commands: blob size=MiB [norange] [nosize=SECONDS] [corrupt]; node zone=Z [seed] [bad] [liar] [boast] [mute] [slow=FACTOR]; want NODE...;
// preheat NODE...; unsized NODE...; read NODE off=MiB; kill NODE; stop NODE; cut A B; heal A B; origin up|down; run for=DURATION; status.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		var s story
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out := s.run(t, d)
			if out == "" {
				return "ok"
			}
			return out
		})
	})
}

// story is one network under a script.
type story struct {
	net *swarmtest.Net
	out bytes.Buffer
}

func (s *story) run(t *testing.T, d *datadriven.TestData) string {
	s.out.Reset()
	switch d.Cmd {
	case "blob":
		var size int
		d.ScanArgs(t, "size", &size)
		s.net = swarmtest.New(int64(size) * mib)
		s.net.Trace = &s.out
		s.net.Origin.NoRange, s.net.Origin.Corrupt = d.HasArg("norange"), d.HasArg("corrupt")
		var takes int
		if d.MaybeScanArgs(t, "nosize", &takes) {
			s.net.Origin.NoSize, s.net.Origin.Rate = true, float64(s.net.Size)/float64(takes)
		}
	case "node":
		s.addNode(t, d)
	case "run":
		var word string
		d.ScanArgs(t, "for", &word)
		length, err := time.ParseDuration(word)
		if err != nil {
			t.Fatal(err)
		}
		s.net.Run(s.net.Now() + length)
	case "origin":
		s.net.Origin.Fail = 0
		if d.HasArg("down") {
			s.net.Origin.Fail = swarm.OriginUnreachable
		}
	case "status":
		return s.status()
	case "cut", "heal":
		s.net.Cut(d.CmdArgs[0].Key, d.CmdArgs[1].Key, d.Cmd == "heal")
	default:
		for _, arg := range d.CmdArgs {
			if nd := s.node(arg.Key); nd != nil {
				s.each(t, d, nd)
			}
		}
	}
	return s.out.String()
}

func (s *story) addNode(t *testing.T, d *datadriven.TestData) {
	zone := "a"
	d.MaybeScanArgs(t, "zone", &zone)
	nd := s.net.Add(zone, d.HasArg("seed"))
	nd.Bad, nd.Liar = d.HasArg("bad"), d.HasArg("liar")
	nd.Boast, nd.Mute = d.HasArg("boast"), d.HasArg("mute")
	var slow int
	if d.MaybeScanArgs(t, "slow", &slow) {
		nd.Slow = float64(slow)
	}
}

// each applies a command to one of the nodes that it names.
func (s *story) each(t *testing.T, d *datadriven.TestData, nd *swarmtest.Node) {
	switch d.Cmd {
	case "want":
		nd.Want(s.net.Size)
	case "unsized":
		nd.Want(-1)
	case "preheat":
		nd.Preheat(s.net.Size)
	case "read":
		var off int
		d.ScanArgs(t, "off", &off)
		nd.Read(int64(off)*mib, -1)
	case "kill":
		nd.Kill()
	case "stop":
		nd.Stopped = true
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
}

func (s *story) node(id string) *swarmtest.Node {
	for _, nd := range s.net.Nodes() {
		if nd.ID == swarm.PeerID(id) {
			return nd
		}
	}
	return nil
}

// status tells what each node has and what it cost.
func (s *story) status() string {
	var b strings.Builder
	for _, nd := range s.net.Nodes() {
		state := "unfinished"
		switch {
		case nd.Dead:
			state = "dead"
		case nd.Done > 0:
			state = "done at " + time.Duration(nd.Done).Round(10*time.Microsecond).String()
		case nd.Ended != 0:
			state = fmt.Sprintf("gave up (%d)", nd.Ended)
		}
		fmt.Fprintf(&b, "%s zone %s: %s; KiB from origin %d, zone %d, other zones %d, twice %d; shuns %v\n", nd.ID, nd.Zone, state,
			nd.FromOrigin>>10, nd.FromZone>>10, nd.FromFar>>10, nd.Duplicate>>10, nd.Shunned)
	}
	origin, _ := s.net.Copies()
	fmt.Fprintf(&b, "origin copies %.3f\n", origin)
	return b.String()
}
