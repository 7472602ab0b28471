package netsim

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// world is a mesh of hosts in a run: what they share, and what befalls them.
type world struct {
	*engine
	layers *layers
	cfg    swarm.Config
	hosts  []*host
	byID   []int32 // nodes in the order of their ids
	dir    *directory
	core   func(swarm.Config, uint64) policy

	cut     []swarm.Time // zones are off the network until then
	down    swarm.Time   // the registry is away until then
	arrived []swarm.Time // when each host's client comes; never: a seed

	open      int // pulls that are yet to end
	replacers []int32

	rec      *recorder   // nil: nothing is recorded
	breached atomic.Bool // some host broke a rule
}

func newWorld(s *Scenario) (*world, error) { return newWorldOf(s, newCore) }

// newWorldOf makes a world of hosts that obey a policy.
func newWorldOf(s *Scenario, core func(swarm.Config, uint64) policy) (*world, error) {
	t := newTopology(s)
	w := &world{engine: newEngine(t), core: core, layers: newLayers(s), cfg: swarm.DefaultConfig(), cut: make([]swarm.Time, len(s.Zones))}
	for name, value := range s.Swarm {
		if err := override(&w.cfg, name, value); err != nil {
			return nil, err
		}
	}
	w.dir = newDirectory(t, len(w.layers.list))
	w.share = w.act
	for i := range t.nodes {
		w.byID = append(w.byID, int32(i))
	}
	slices.SortFunc(w.byID, func(a, b int32) int { return cmp.Compare(t.nodes[a].id, t.nodes[b].id) })
	for i := range t.nodes {
		h := newHost(w, int32(i))
		w.hosts = append(w.hosts, h)
		w.agents[i] = h
		w.cal.put(event{node: int32(i), kind: evStart})
	}
	w.warm()
	w.arrive()
	w.schedule()
	return w, nil
}

// warm fills disks before the start.
func (w *world) warm() {
	for k, spec := range w.t.s.Warm {
		who := w.t.draw(spec.Share, uint64(keyWarm+k)<<32)
		if spec.Seeds {
			who = w.t.seeds
		}
		for _, i := range who {
			if z := spec.Zone; z != "" && w.t.s.zone(z) != int(w.t.nodes[i].zone) {
				continue
			}
			for b := range w.layers.list {
				w.fill(i, int32(b), spec.Part)
			}
		}
	}
}

// fill puts a share of a layer's pieces on a disk, drawn piece by piece.
func (w *world) fill(node, b int32, part Share) {
	p := &w.hosts[node].pulls[b]
	for i := range p.have.Len() {
		key := uint64(keyPart)<<40 ^ uint64(node)<<20 ^ uint64(i)
		if part >= 1 || unit(mix(w.t.salt^mix(key^uint64(b)<<48))) < float64(part) {
			p.keep(swarm.PieceIndex(i), -1, false)
		}
	}
}

// source classifies the bytes that one node has from another.
func (w *world) source(from, to int32) int {
	if w.t.place[from] == w.t.place[to] {
		return fromZone
	}
	return fromOther
}

// attester returns the id of who vouches for a piece; nobody for what was on the own disk.
func (w *world) attester(i int32) swarm.PeerID {
	if i < 0 {
		return ""
	}
	return w.t.nodes[i].id
}

// cutBetween returns until when nothing passes between two nodes.
func (w *world) cutBetween(a, b int32) swarm.Time {
	za, zb := w.t.place[a], w.t.place[b]
	if za == zb {
		return 0
	}
	return max(w.cut[za], w.cut[zb])
}

// originFails returns how the registry fails a node now, 0 if it does not.
func (w *world) originFails(node int32, now swarm.Time) swarm.OriginErrorKind {
	z := w.t.nodes[node].zone
	away := w.t.s.Origin.Down || now < w.down
	if home := w.t.home; home != z {
		away = away || now < w.cut[z] || home >= 0 && now < w.cut[home]
	}
	if away {
		return swarm.OriginUnreachable
	}
	return 0
}

// act carries out what a host does to what all share.
func (w *world) act(s shared) {
	switch s.do {
	case shareFind:
		w.dir.find(s, w.now, func(ev event) { w.cal.put(ev) })
	case shareRecord:
		w.rec.gather(w.hosts[s.node].log)
	case shareDone:
		w.ended(s.node)
		w.open--
		w.replacers = append(w.replacers, s.node)
	default:
		w.dir.announce(s)
	}
}

// directory is discovery: who announced what, in gossip and in the DHT. Announcements are seen after the delays of the
// scenario.
type directory struct {
	t      *topology
	gossip [][]announced // by blob and zone
	zone   [][]announced
	global [][]announced // by blob
}

type announced struct {
	node int32
	seen swarm.Time
}

// What discovery returns and keeps.
const (
	maxProviders  = 32 // of one answer
	zoneRecords   = 32 // announcers under a zone's key
	globalRecords = 3  // of each zone under the global key
)

func newDirectory(t *topology, blobs int) *directory {
	n := blobs * len(t.s.Zones)
	return &directory{t: t, gossip: make([][]announced, n), zone: make([][]announced, n), global: make([][]announced, blobs)}
}

func (d *directory) key(blob int32, zone int32) int { return int(blob)*len(d.t.s.Zones) + int(zone) }

// announce notes what a node says of a blob.
func (d *directory) announce(s shared) {
	zone := d.t.nodes[s.node].zone
	k := d.key(s.blob, zone)
	add := func(list *[]announced, after Duration, limit int) {
		for _, a := range *list {
			if a.node == s.node {
				return
			}
		}
		if len(*list) < limit {
			*list = append(*list, announced{s.node, s.at.Add(after.std())})
		}
	}
	add(&d.gossip[k], d.t.s.Delays.Gossip, zoneRecords)
	if s.do == shareImporting {
		return
	}
	add(&d.zone[k], d.t.s.Delays.ZoneDHT, zoneRecords)
	if s.do == shareHoldingGlobal {
		add(&d.global[s.blob], d.t.s.Delays.DHT, globalRecords*len(d.t.s.Zones))
	}
}

// find answers a search in three parts: what gossip in the zone said, the zone's key, the global key.
func (d *directory) find(s shared, now swarm.Time, put func(event)) {
	k := d.key(s.blob, d.t.nodes[s.node].zone)
	answer := func(list []announced, after time.Duration, flag uint8) {
		at := max(s.at.Add(after), now)
		var found []int32
		for _, a := range list {
			if a.seen <= at && a.node != s.node && len(found) < maxProviders {
				found = append(found, a.node)
			}
		}
		put(event{at: at, node: s.node, kind: evProviders, blob: s.blob, flag: flag, msg: found})
	}
	answer(d.gossip[k], 0, 0)
	answer(d.zone[k], d.t.s.Delays.ZoneDHT.std(), 0)
	answer(d.global[s.blob], d.t.s.Delays.DHT.std(), okay)
}
