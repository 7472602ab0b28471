package netsim

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// node is what is fixed of a host or a seed.
type node struct {
	id       swarm.PeerID
	name     string
	zone     int32
	seed     bool
	relay    bool
	slow     bool // of a slow class: not judged
	lie      lie
	up, down float64
}

// topology is who is where: fixed for a run.
type topology struct {
	s      *Scenario
	nodes  []node
	zones  [][]int32 // nodes of each zone, hosts before seeds
	hosts  []int32   // all but the seeds
	seeds  []int32
	names  []swarm.MemberRef // of all nodes
	place  []int32           // zone of each node, for those who ask in passing
	public []int32           // seeds and relays, which everybody knows

	half   [][]time.Duration // one way between zones
	origin time.Duration     // one way to the origin
	home   int32             // zone of the origin, -1 if it is in none
	salt   uint64
	small  bool
}

const peerIDPrefix = "\x00\x24\x08\x01\x12\x20"

// peerID makes an id of the form and length of an ed25519 peer id. It ranks like a random one, and ends with the
// node's index.
func peerID(salt uint64, i int) swarm.PeerID {
	raw := make([]byte, 0, 38)
	raw = append(raw, peerIDPrefix...)
	for k := range uint64(3) {
		raw = binary.BigEndian.AppendUint64(raw, mix(salt+mix(uint64(i)<<2|k)))
	}
	raw = binary.BigEndian.AppendUint64(raw, uint64(i))
	return swarm.PeerID(raw)
}

// indexOf is the inverse of peerID, -1 for what is none.
func (t *topology) indexOf(id swarm.PeerID) int32 {
	if len(id) != 38 {
		return -1
	}
	i := int32(id[34])<<24 | int32(id[35])<<16 | int32(id[36])<<8 | int32(id[37])
	if i < 0 || int(i) >= len(t.nodes) {
		return -1
	}
	return i
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// unit turns a hash into a number in [0,1).
func unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }

func newTopology(s *Scenario) *topology {
	t := &topology{s: s, salt: mix(s.Seed), zones: make([][]int32, len(s.Zones))}
	for zi, z := range s.Zones {
		for i := range z.Hosts {
			t.add(zi, node{name: fmt.Sprintf("%s-%d", z.Name, i+1), relay: i < s.Mesh.Relays, up: float64(z.Host.Up), down: float64(z.Host.Down)})
		}
		for i := range z.Seeds {
			t.add(zi, node{name: fmt.Sprintf("%s-seed-%d", z.Name, i+1), seed: true, relay: true, up: float64(z.SeedHost.Up), down: float64(z.SeedHost.Down)})
		}
	}
	t.small = len(t.nodes) <= s.Mesh.Small
	for i, n := range t.nodes {
		if n.seed {
			t.seeds = append(t.seeds, int32(i))
		} else {
			t.hosts = append(t.hosts, int32(i))
		}
		if n.seed || n.relay {
			t.public = append(t.public, int32(i))
		}
	}
	t.latencies()
	t.classify()
	t.corrupt()
	return t
}

func (t *topology) add(zone int, n node) {
	i := len(t.nodes)
	n.id, n.zone = peerID(t.salt, i), int32(zone)
	t.nodes = append(t.nodes, n)
	t.zones[zone] = append(t.zones[zone], int32(i))
	t.place = append(t.place, int32(zone))
	t.names = append(t.names, swarm.MemberRef{ID: n.id, Zone: t.s.Zones[zone].Name})
}

func (t *topology) latencies() {
	for a, za := range t.s.Zones {
		row := make([]time.Duration, len(t.s.Zones))
		for b := range row {
			rtt := t.s.WAN.RTT
			if a == b {
				rtt = za.RTT
			}
			for _, p := range t.s.WAN.Pairs {
				if p.RTT > 0 && (t.s.zone(p.A) == a && t.s.zone(p.B) == b || t.s.zone(p.A) == b && t.s.zone(p.B) == a) {
					rtt = p.RTT
				}
			}
			row[b] = rtt.std() / 2
		}
		t.half = append(t.half, row)
	}
	t.origin = t.s.Origin.RTT.std() / 2
	t.home = int32(t.s.zone(t.s.Origin.Zone))
}

// draw returns a share of the hosts, drawn by a key of their own.
func (t *topology) draw(share Share, key uint64) []int32 {
	return t.sample(t.hosts, int(float64(share)*float64(len(t.hosts))+0.5), key)
}

// sample draws n of a list, in the order of the list.
func (t *topology) sample(list []int32, n int, key uint64) []int32 {
	n = min(n, len(list))
	var out []int32
	for i, left := 0, len(list); n > 0; i, left = i+1, left-1 {
		if unit(mix(t.salt^mix(key^uint64(list[i]))))*float64(left) < float64(n) {
			out = append(out, list[i])
			n--
		}
	}
	return out
}

// Keys of the draws, so that one does not depend on another.
const (
	keyClass = 0x100 * (iota + 1)
	keyLiar
	keyWarm
	keyFault
	keyArrival
	keyChurn
	keyPart
	keyContact
)

func (t *topology) classify() {
	for k, c := range t.s.Classes {
		for _, i := range t.draw(c.Share, uint64(keyClass+k)<<32) {
			n := &t.nodes[i]
			if c.Host.Up > 0 {
				n.up = float64(c.Host.Up)
			}
			if c.Host.Down > 0 {
				n.down = float64(c.Host.Down)
			}
			n.slow = c.Slow
		}
	}
}

func (t *topology) corrupt() {
	for k, l := range t.s.Liars {
		who := t.draw(l.Share, uint64(keyLiar+k)<<32)
		if l.Seeds > 0 {
			who = t.sample(t.seeds, l.Seeds, uint64(keyLiar+k)<<32)
		}
		for _, i := range who {
			t.nodes[i].lie = lies[l.How]
		}
	}
}

// lie is how a node does not keep the rules.
type lie uint8

const (
	honest     lie = iota
	lieCorrupt     // serves wrong bytes
	lieForge       // signs wrong bytes as read from the origin
	lieStall       // accepts requests and sends nothing
	lieBoast       // says it has all and has not
)

var lies = map[string]lie{"corrupt": lieCorrupt, "forge": lieForge, "stall": lieStall, "boast": lieBoast}

// flight returns how long a message takes from a to b.
func (t *topology) flight(a, b int32) time.Duration {
	return t.oneWay(a, b) + t.s.Delays.Process.std()
}

// oneWay returns the latency between two nodes: that of their zones, and a part that differs from pair to pair.
func (t *topology) oneWay(a, b int32) time.Duration {
	half := t.half[t.place[a]][t.place[b]]
	if t.s.Network.Jitter == 0 {
		return half
	}
	lo, hi := uint64(min(a, b)), uint64(max(a, b))
	return half + time.Duration(float64(half)*float64(t.s.Network.Jitter)*unit(mix(t.salt^(lo<<32|hi))))
}

func (t *topology) rtt(a, b int32) time.Duration { return 2 * t.oneWay(a, b) }

// window returns the width of the windows in which nodes cannot affect each other.
func (t *topology) window() time.Duration {
	least := t.origin
	for _, row := range t.half {
		for _, d := range row {
			least = min(least, d)
		}
	}
	return max(least+t.s.Delays.Process.std(), minDelay)
}

// member returns what a node is told of another.
func (t *topology) member(of, about int32) swarm.Member {
	n := &t.nodes[about]
	return swarm.Member{ID: n.id, Zone: t.s.Zones[n.zone].Name, Seed: n.seed, Relay: n.relay, RTT: t.rtt(of, about)}
}

// nodeSet is a set of nodes.
type nodeSet []uint64

func (s nodeSet) has(i int32) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s nodeSet) add(i int32)      { s[i/64] |= 1 << (i % 64) }
func (s nodeSet) remove(i int32)   { s[i/64] &^= 1 << (i % 64) }

// acquainted returns the nodes that a knows from the start.
func (t *topology) acquainted(a int32) nodeSet {
	s := make(nodeSet, (len(t.nodes)+63)/64)
	if t.small {
		for i := range t.nodes {
			s.add(int32(i))
		}
		return s
	}
	for _, i := range t.zones[t.place[a]] {
		s.add(i)
	}
	for _, i := range t.public {
		s.add(i)
	}
	if n := &t.nodes[a]; n.seed || n.relay {
		for i := range t.nodes {
			s.add(int32(i))
		}
		return s
	}
	for z := range t.zones {
		for i := range t.s.Mesh.Contacts {
			if z != int(t.place[a]) {
				s.add(t.contact(a, z, i))
			}
		}
	}
	return s
}

// knows reports whether a knows b from the start: all of its zone, seeds and relays, and some contacts elsewhere.
func (t *topology) knows(a, b int32) bool {
	na, nb := &t.nodes[a], &t.nodes[b]
	if t.small || na.zone == nb.zone || na.seed || na.relay || nb.seed || nb.relay {
		return true
	}
	for i := range t.s.Mesh.Contacts {
		if t.contact(a, int(nb.zone), i) == b {
			return true
		}
	}
	return false
}

// contact returns the i-th contact of a node in another zone.
func (t *topology) contact(a int32, zone, i int) int32 {
	z := t.zones[zone]
	return z[mix(t.salt^uint64(keyContact)<<40^mix(uint64(a)<<24|uint64(zone)<<8|uint64(i)))%uint64(len(z))]
}
