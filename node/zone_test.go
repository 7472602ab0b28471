package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshd-project/meshd/node/topology"
)

func TestWhereTheZoneComesFrom(t *testing.T) {
	labels := filepath.Join(t.TempDir(), "labels")
	if err := os.WriteFile(labels, []byte(`topology.kubernetes.io/zone="fra7"`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, flag, from, kept string
		want                   zone
		problem                string
	}{
		{"nothing", "", "", "", zone{name: "default", source: "none"}, ""},
		{"flag", "fra1", "file:" + labels, "fra2\n", zone{name: "fra1", source: "flag"}, ""},
		{"file", "", "file:" + labels, "fra2\n", zone{name: "fra7", source: "file"}, ""},
		{"file that is not there", "", "file:/none", "", zone{name: "default", source: "none"}, "/none"},
		{"and an earlier run", "", "file:/none", "fra2\n", zone{name: "fra2", source: "inferred"}, "/none"},
		{"earlier run", "", "", "fra2\n", zone{name: "fra2", source: "inferred"}, ""},
		{"earlier run, spoilt", "", "", "Not A Zone", zone{name: "default", source: "none"}, ""},
		{"earlier run, undecided", "", "", "default", zone{name: "default", source: "none"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			n := &node{cfg: Config{DataDir: t.TempDir(), Zone: row.flag, ZoneFrom: row.from}}
			if row.kept != "" {
				if err := os.WriteFile(n.path(ZoneFile), []byte(row.kept), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := n.openZone(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(n.zone.problem, row.problem) || (n.zone.problem == "") != (row.problem == "") {
				t.Errorf("problem %q, want %q", n.zone.problem, row.problem)
			}
			if n.zone.problem = ""; n.zone != row.want {
				t.Errorf("got %+v, want %+v", n.zone, row.want)
			}
		})
	}
}

func TestDoubtIsForLabels(t *testing.T) {
	zones := []topology.Zone{
		{Name: "fra1", Members: 3, Measured: 3, Median: 80 * time.Millisecond},
		{Name: "fra2", Members: 3, Measured: 3, Median: time.Millisecond},
	}
	if got := (zone{name: "fra1", source: "flag"}).doubt(zones); !strings.Contains(got, "fra2") || !strings.Contains(got, "80ms") {
		t.Errorf("got %q", got)
	}
	for _, z := range []zone{{name: "fra1", source: "inferred"}, {name: "fra2", source: "flag"}} {
		if got := z.doubt(zones); got != "" {
			t.Errorf("%+v: %q", z, got)
		}
	}
}

// launchLives is launch for a node that may change its zone. The parts of testNode are those of its first life.
func launchLives(t *testing.T, c Config) *testNode {
	t.Helper()
	n, err := start(c)
	if err != nil {
		t.Fatal(err)
	}
	n.idlePoll, n.moveWait = 10*time.Millisecond, time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.live(ctx) }()
	tn := &testNode{node: n, cfg: c}
	stopped := false
	tn.stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the node ended with %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("the node does not end")
		}
		http.DefaultClient.CloseIdleConnections()
	}
	t.Cleanup(tn.stop)
	return tn
}

// zoneNow is the zone of a node that is ready, "" while it is not.
func (n *testNode) zoneNow(t *testing.T) (zone, source string) {
	if code, _ := get(t, n.adminURL("/readyz")); code != 200 {
		return "", ""
	}
	code, body := get(t, n.adminURL("/v1/status"))
	if code != 200 {
		return "", ""
	}
	var s Status
	if err := json.Unmarshal(body, &s); err != nil {
		t.Fatal(err)
	}
	return s.Zone, s.ZoneSource
}

// A node that was not told its zone and finds a labelled one close by is in that before it serves anybody, and finds
// back into it by itself.
func TestJoinsTheZoneNearby(t *testing.T) {
	key := newKey(t)
	c := testConfig(t, key)
	c.Zone = "fra1"
	a := launch(t, c, nil)

	reg := newRegistry(t)
	path, data := reg.push(t, 1<<20, 3)
	d := testConfig(t, key)
	d.P2P.Bootstrap = []string{a.peerAddr(t)}
	d.Origin.Registries = []Registry{{Host: "registry.test", URL: reg.URL}}
	b := launchLives(t, d)
	if code, got := get(t, b.mirrorURL(path)); code != 200 || !bytes.Equal(got, data) { // it waits in the listen queue
		t.Errorf("the first pull: %d, %d bytes", code, len(got))
	}
	if zone, source := b.zoneNow(t); zone != "fra1" || source != "inferred" {
		t.Errorf("zone %s, %s", zone, source)
	}
	eventually(t, "a to see b in its zone", func() bool { return a.zones() == "map[fra1:1]" })
	if m := a.topology.Members()[0]; m.Coord == nil || !m.Inferred {
		t.Errorf("b tells no coordinate, or not that its zone is inferred: %+v", m)
	}
	b.stop()

	d.P2P.Bootstrap = nil // alone, it keeps the name
	again := launchLives(t, d)
	eventually(t, "the zone of before", func() bool { zone, _ := again.zoneNow(t); return zone == "fra1" })
}

// Nodes that nobody told anything agree on a name, and come back under it.
func TestNodesAgreeOnAZone(t *testing.T) {
	key := newKey(t)
	var nodes []*testNode
	for i := range 3 {
		c := testConfig(t, key)
		c.Topology.ZoneWindow = 200 * time.Millisecond
		l, err := net.Listen("tcp", "127.0.0.2:0") // a port that stays the same over its lives, and is nobody's between them
		if err != nil {
			t.Fatal(err)
		}
		c.P2P.Addrs = []string{fmt.Sprintf("/ip4/127.0.0.2/tcp/%d", l.Addr().(*net.TCPAddr).Port)}
		l.Close()
		if i > 0 {
			c.P2P.Bootstrap = []string{nodes[0].peerAddr(t)}
		}
		nodes = append(nodes, launchLives(t, c))
		eventually(t, "readiness", func() bool { zone, _ := nodes[i].zoneNow(t); return zone != "" })
	}
	eventually(t, "one zone", func() bool {
		first, _ := nodes[0].zoneNow(t)
		for _, n := range nodes {
			if zone, source := n.zoneNow(t); zone != first || source != "inferred" || !strings.HasPrefix(zone, "auto-") {
				return false
			}
		}
		return true
	})
	for _, n := range nodes { // they find each other again, each in the other's zone
		eventually(t, "both others", func() bool {
			_, body := get(t, n.adminURL("/v1/status"))
			var s Status
			return json.Unmarshal(body, &s) == nil && s.Peers == 2 && len(s.Zones) == 1 && s.Zones[0].Members == 2
		})
	}
}

// A change of zone waits for what is being pulled, and clients notice nothing.
func TestZoneChangesWhenIdle(t *testing.T) {
	reg := newRegistry(t)
	path, data := reg.push(t, 3<<20, 4)
	reg.gate = make(chan struct{})
	c := testConfig(t, "")
	c.Origin.Registries = []Registry{{Host: "registry.test", URL: reg.URL}}
	n := launchLives(t, c)
	pulled := make(chan []byte, 1)
	go func() {
		resp, err := http.Get(n.mirrorURL(path))
		if err != nil {
			t.Error(err)
			close(pulled)
			return
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		pulled <- got
	}()
	eventually(t, "the pull to begin", func() bool { return reg.sent.Load() > 0 })
	n.moved("fra9")
	busy, cancel := context.WithTimeout(t.Context(), 20*n.idlePoll)
	defer cancel()
	if n.waitIdle(busy) {
		t.Error("a pull under way counts as idle")
	}
	if zone, _ := n.zoneNow(t); zone != "default" {
		t.Errorf("it went to %q in the middle of a pull", zone)
	}
	close(reg.gate)
	if got := <-pulled; !bytes.Equal(got, data) {
		t.Errorf("got %d bytes of %d", len(got), len(data))
	}
	eventually(t, "the new zone", func() bool {
		if code, body := get(t, n.mirrorURL("/v2/")); code != 200 && code != 401 { // it asks for a token
			t.Errorf("a client was turned away: %d %s", code, body)
		}
		zone, source := n.zoneNow(t)
		return zone == "fra9" && source == "inferred"
	})
	if code, got := get(t, n.mirrorURL(path)); code != 200 || !bytes.Equal(got, data) {
		t.Errorf("a pull from the new life, same address: %d", code)
	}
}

func TestKeptListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket := l.(*net.TCPListener)
	first, err := keep(socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := first.Accept(); done <- err }()
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	client, err := net.Dial("tcp", socket.Addr().String()) // nobody accepts now, but it is not refused
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	second, err := keep(socket)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := second.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := first.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the one that was closed accepts again: %v", err)
	}
	if err := errors.Join(socket.Close(), second.Close()); err != nil {
		t.Error(err)
	}
}
