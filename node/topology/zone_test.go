package topology

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/meshd-project/meshd/dht/gossip"
)

const testWindow = 30 * time.Second

var testStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	older = "auto-260201-000000-aaaaaa"
	newer = "auto-260202-000000-bbbbbb"
	late  = "auto-250101-000000-cccccc" // of a liar that comes to a place that has a name
)

// inferring is a node that finds its zone, in a simulated mesh.
type inferring struct {
	*Map
	zoner   // instead of the Map's
	alive   bool
	back    int // window in which it comes back
	renames int // after the first decision
	decided int // window of the first decision, 0 = none
	joined  int
	lie     func(window int) string
	rtts    map[int]*samples
}

func (n *inferring) tells(window int) gossip.Member {
	g := gossip.Member{ID: n.Map.self, Zone: cmp.Or(n.name, Undecided), Inferred: true}
	if n.lie != nil {
		g.Zone, g.Inferred = n.lie(window), false
	}
	return g
}

// crowd is a simulated mesh of inferring nodes.
type crowd struct {
	*world
	nodes  []*inferring
	relays map[*inferring]bool
	now    int // window
}

func newCrowd(n int, seed uint64) *crowd {
	c := &crowd{world: newWorld(n, seed)}
	for i := range n {
		node := &inferring{Map: lone(Config{}), rtts: make(map[int]*samples)}
		node.Map.self, node.zoner.self = testID(c.rng.IntN(1000)*1000+i), ""
		node.zoner.self = node.Map.self
		c.nodes = append(c.nodes, node)
	}
	return c
}

// turn is one window: everybody looks around, in an order by chance.
func (c *crowd) turn() {
	c.now++
	c.electRelays()
	links := c.links()
	for _, i := range c.rng.Perm(len(c.nodes)) {
		n := c.nodes[i]
		if !n.alive {
			continue
		}
		var seen []sighting
		for j, o := range c.nodes {
			if !links[min(i, j)*len(c.nodes)+max(i, j)] {
				delete(n.rtts, j)
				continue
			}
			if n.rtts[j] == nil {
				n.rtts[j] = &samples{}
			}
			n.rtts[j].add(min(c.ping(i, j), c.ping(i, j), c.ping(i, j)), time.Time{})
			g := o.tells(c.now)
			seen = append(seen, sighting{g.ID, g.Zone, g.Inferred, n.rtts[j].least()})
		}
		named := n.name != ""
		if at := time.Duration(c.now)*testWindow + time.Duration(i)*100*time.Millisecond; n.window(testStart.Add(at), seen) && n.lie == nil {
			if named {
				n.renames++
			} else {
				n.decided = c.now
			}
		}
	}
}

// electRelays makes four of each zone relays, which all zones connect to.
func (c *crowd) electRelays() {
	c.relays = make(map[*inferring]bool)
	count := make(map[string]int)
	for _, n := range c.nodes {
		if zone := n.tells(c.now).Zone; n.alive && count[zone] < 4 {
			count[zone]++
			c.relays[n] = true
		}
	}
}

// links tells for i < j at i*n+j whether they are connected: by the choice of either, which is the real one.
func (c *crowd) links() []bool {
	links := make([]bool, len(c.nodes)*len(c.nodes))
	told := make([]gossip.Member, len(c.nodes))
	for j, o := range c.nodes {
		told[j] = o.tells(c.now)
		told[j].Relay = c.relays[o]
	}
	for i, n := range c.nodes {
		if !n.alive {
			continue
		}
		n.cfg.Zone = n.tells(c.now).Zone
		for j, o := range c.nodes {
			e := n.peers[o.Map.self]
			switch {
			case j == i:
				continue
			case e == nil:
				e = newEntry(n.Map.self, o.Map.self)
				n.peers[e.id] = e
			}
			e.known, e.member = o.alive, told[j]
		}
		w := n.wanted()
		for j, o := range c.nodes {
			if o.alive && j != i && w(n.peers[o.Map.self]) {
				links[min(i, j)*len(c.nodes)+max(i, j)] = true
			}
		}
	}
	return links
}

func (c *crowd) start(nodes ...*inferring) {
	for _, n := range nodes {
		n.alive, n.joined = true, c.now+1
	}
}

// restart loses what is not on disk.
func (n *inferring) restart() {
	n.zoner = zoner{self: n.zoner.self, name: n.name}
	n.rtts = make(map[int]*samples)
}

// check fails unless each place has one name of its own and few nodes were renamed; it returns how many are undecided.
func (c *crowd) check(t *testing.T, maxRenames int, maxMean float64) {
	t.Helper()
	names := make([]map[string]int, 3)
	everywhere := make(map[string]bool)
	renames, most, honest, slowest := 0, 0, 0, 0
	for i, n := range c.nodes {
		if !n.alive || n.lie != nil {
			continue
		}
		if names[c.place[i]] == nil {
			names[c.place[i]] = make(map[string]int)
		}
		names[c.place[i]][cmp.Or(n.name, Undecided)]++
		everywhere[n.name] = true
		honest++
		renames += n.renames
		most = max(most, n.renames)
		slowest = max(slowest, n.decided-n.joined)
	}
	mean := float64(renames) / float64(honest)
	t.Logf("%d nodes after %d windows: %v; renames %.3f a node, at most %d; decided after at most %d windows",
		honest, c.now, names, mean, most, slowest)
	if len(everywhere) != 3 || len(names[0]) != 1 || len(names[1]) != 1 || len(names[2]) != 1 {
		t.Errorf("want one name for each of three places")
	}
	if most > maxRenames || mean > maxMean {
		t.Errorf("a node was renamed %d times, the mean is %.3f", most, mean)
	}
}

// A mesh without labels grows, is restarted and churns, with one liar in it: each place ends with one name.
func TestPlacesAgreeOnNames(t *testing.T) {
	for _, row := range []struct {
		name  string
		first int // nodes at once; the others come later
		liar  func(window int) string
	}{
		{"one by one", 1, nil},
		{"all at once", 200, nil},
		{"some at once", 60, nil},
		{"liar with the oldest name", 120, func(int) string { return "auto-250101-000000-aaaaaa" }},
		{"liar with a new name each time", 120, func(w int) string { return fmt.Sprintf("auto-250101-0000%02d-aaaaaa", w%60) }},
		{"liar with a label", 120, func(int) string { return "evil" }},
		{"liar with the name of another place", 120, nil},
		{"liar that begins late", 120, func(w int) string {
			if w < 25 {
				return Undecided
			}
			return late
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if testing.Short() && row.first != 120 {
				t.Skip("a large simulation")
			}
			c := newCrowd(200, 7)
			c.nodes[4].lie = row.liar
			if row.name == "liar with the name of another place" {
				c.nodes[4].lie = func(int) string { return cmp.Or(c.nodes[3].name, Undecided) }
			}
			c.start(c.nodes[:row.first]...)
			for next := row.first; c.now < 45; {
				if next < len(c.nodes) {
					more := min(8, len(c.nodes)-next)
					c.start(c.nodes[next : next+more]...)
					next += more
				}
				c.churn()
				c.turn()
			}
			for _, n := range c.nodes {
				n.alive = true
			}
			c.turn()
			c.check(t, 2, 0.25)
			for _, n := range c.nodes {
				if n.name == late {
					t.Error("a place that had agreed was renamed by one")
					break
				}
			}
		})
	}
}

// churn restarts two nodes, and sends two away for five windows.
func (c *crowd) churn() {
	for _, n := range c.nodes {
		if n.back == c.now && n.back > 0 {
			n.alive = true
		}
	}
	for k := range 4 {
		n := c.nodes[c.rng.IntN(len(c.nodes))]
		if !n.alive {
			continue
		}
		n.restart()
		if k%2 == 0 {
			n.alive, n.back = false, c.now+5
		}
	}
}

// The same seed tells the same story.
func TestZonesAreDeterministic(t *testing.T) {
	story := func() string {
		c := newCrowd(40, 11)
		c.start(c.nodes...)
		out := ""
		for range 12 {
			c.churn()
			c.turn()
			for _, n := range c.nodes {
				out += n.name + " "
			}
		}
		return out
	}
	if a, b := story(), story(); a != b {
		t.Error("two runs differ")
	}
}

// Two halves of each place that could not see each other made two names each. Once they can, the older stays.
func TestPartitionHeals(t *testing.T) {
	c := newCrowd(60, 5)
	early, late := c.nodes[:30], c.nodes[30:]
	c.start(early...)
	for range 10 {
		c.turn()
	}
	was := []string{early[0].name, early[1].name, early[2].name}
	for _, n := range early {
		n.alive = false
	}
	c.start(late...)
	for range 10 {
		c.turn()
	}
	c.check(t, 0, 0)
	c.start(early...)
	for range 2 * changeWindows {
		c.turn()
	}
	c.check(t, 1, 0.5)
	for i, n := range c.nodes {
		if n.name != was[i%3] {
			t.Errorf("node %d ended in %s, the older name was %s", i, n.name, was[i%3])
		}
	}
	// A partition and a restart of everybody rename nobody.
	for _, n := range early {
		n.alive = false
	}
	for _, n := range c.nodes {
		n.restart()
		n.renames = 0
	}
	for range 2 * changeWindows {
		c.turn()
	}
	c.start(early...)
	for range 2 * changeWindows {
		c.turn()
	}
	c.check(t, 0, 0)
}

func TestZonerRules(t *testing.T) {
	const near, far = time.Millisecond, 10 * time.Millisecond
	say := func(id, zone string, rtt time.Duration) sighting { return sighting{peer.ID(id), zone, true, rtt} }
	for _, row := range []struct {
		name    string
		from    string // the node's zone before
		seen    []sighting
		windows int
		want    string // "" = undecided, "new" = one founded then
	}{
		{"alone", "", nil, 100, ""},
		{"alone with a name", older, nil, 100, older},
		{"first of its place", "", []sighting{say("b", "fra1", far)}, foundWindows, "new"},
		{"not at once", "", []sighting{say("b", "fra1", far)}, foundWindows - 1, ""},
		{"the least id founds", "", []sighting{say("z", Undecided, near)}, foundWindows, "new"},
		{"others wait for it", "", []sighting{say("a", Undecided, near)}, 2*foundWindows - 1, ""},
		{"but not for ever", "", []sighting{say("a", Undecided, near)}, 2 * foundWindows, "new"},
		{"nor for one far away", "", []sighting{say("a", Undecided, far)}, foundWindows, "new"},
		{"nor for one that was told its zone", "", []sighting{{"a", Undecided, false, near}}, foundWindows, "new"},
		{"joins a label at once", "", []sighting{say("b", "fra1", near)}, 1, "fra1"},
		{"joins a made up name at once", "", []sighting{say("b", newer, near)}, 1, newer},
		{"label before made up", "", []sighting{say("b", older, near), say("c", "fra1", near)}, 1, "fra1"},
		{"nearest label", "", []sighting{say("b", "fra1", 2*near), say("c", "fra2", near)}, 1, "fra2"},
		{"oldest name", "", []sighting{say("b", newer, near), say("c", older, near)}, 1, older},
		{"one against an agreement", "", []sighting{say("b", newer, near), say("c", newer, near), say("d", older, near)}, 1, newer},
		{"far ones do not count", "", []sighting{say("b", newer, near), say("c", older, far), say("d", older, far)}, 1, newer},
		{"not for ever better", newer, []sighting{say("b", older, near), say("c", older, near)}, changeWindows - 1, newer},
		{"merges into the older", newer, []sighting{say("b", older, near), say("c", older, near)}, changeWindows, older},
		{"two labels name a place", older, []sighting{say("b", "fra1", near), say("c", "fra1", near), say("d", older, near), say("e", older, near)}, changeWindows, "fra1"},
		{"one does not", older, []sighting{say("b", "fra1", near), say("d", older, near), say("e", older, near)}, 100, older},
		{"not into the younger", older, []sighting{say("b", newer, near), say("c", older, near), say("d", newer, near)}, 100, older},
		{"the last of its name", older, []sighting{say("b", newer, near), say("c", newer, near)}, changeWindows, newer},
		{"a label is kept", "fra1", []sighting{say("b", "fra1", near), say("c", "fra2", 9*near/10), say("d", "fra2", 9*near/10)}, 100, "fra1"},
		{"unless one is twice as near", "fra1", []sighting{say("b", "fra1", near), say("c", "fra2", near/3), say("d", "fra2", near/3)}, changeWindows, "fra2"},
		{"moved elsewhere", older, []sighting{say("b", newer, near), say("c", older, far)}, changeWindows, newer},
		{"moved to where nobody is", older, []sighting{say("b", older, far), say("c", Undecided, far)}, changeWindows, "new"},
		{"not at once, either", older, []sighting{say("b", older, far), say("c", Undecided, far)}, changeWindows - 1, older},
		{"in between is not elsewhere", older, []sighting{say("b", older, 5*time.Millisecond)}, 100, older},
		{"the name of another place", "", []sighting{say("b", older, near), say("c", older, far)}, foundWindows - 1, ""},
		{"cut off from its zone", older, []sighting{say("b", newer, far)}, 100, older},
		{"name from the future", "", []sighting{say("b", "auto-300101-000000-aaaaaa", near)}, 1, ""},
		{"name from before", "", []sighting{say("b", "auto-000101-000000-aaaaaa", near)}, 1, ""},
		{"name without a date", "", []sighting{say("b", "auto-x", near)}, 1, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			z := zoner{self: "m", name: row.from}
			for i := range row.windows {
				z.window(testStart.Add(time.Duration(i)*testWindow), row.seen)
			}
			got := z.name
			if row.want == "new" && isPlace(got, testStart.Add(time.Hour)) && gossip.ValidZone(got) && got > "auto-260301" {
				return
			}
			if got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// A better zone has to be it in a row.
func TestZonerForgetsARival(t *testing.T) {
	z := zoner{self: "m", name: newer}
	quiet := []sighting{{"b", newer, true, time.Millisecond}}
	rival := []sighting{{"b", older, true, time.Millisecond}, {"c", older, true, time.Millisecond}}
	for range 5 {
		for range changeWindows - 1 {
			z.window(testStart, rival)
		}
		z.window(testStart, quiet)
	}
	if z.name != newer {
		t.Errorf("it went to %s", z.name)
	}
	if z.rival != "" || z.streak != 0 {
		t.Errorf("rival %q, %d windows", z.rival, z.streak)
	}
}
