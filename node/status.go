package node

import (
	"time"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/node/topology"
)

// Status is /v1/status of the admin API. Fields are added, never renamed.
type Status struct {
	PeerID string `json:"peer_id"`
	Zone   string `json:"zone"` // in effect
	// ZoneSource is flag, file, aws, gcp, azure, inferred (by RTT, now or in an earlier run) or none (not found yet).
	ZoneSource  string `json:"zone_source"`
	ZoneNext    string `json:"zone_next,omitempty"`    // found; in effect once nothing is being pulled
	ZoneProblem string `json:"zone_problem,omitempty"` // why --zone-from gave none, or why RTT speaks against the label
	Zones       []Zone `json:"zones"`                  // of the members known

	MeshKeys []MeshKey `json:"mesh_keys"` // those accepted, the one to use first

	Seed    bool     `json:"seed"`
	Relay   bool     `json:"relay"`   // on the backbone
	Peers   int      `json:"peers"`   // members connected
	Members int      `json:"members"` // members known
	Addrs   []string `json:"addrs"`   // that others reach it at
	Uptime  float64  `json:"uptime_seconds"`

	CoordinateError float64 `json:"coordinate_error"` // of the own coordinate: estimates of RTT begin at 0.5

	exchange.Status // bytes_in, bytes_out, origin_requests, duplicate_bytes, pulls, quarantined

	Store StoreStatus `json:"store"`
	// Storage is of a seed with --seed-storage.
	Storage *StorageStatus `json:"seed_storage,omitempty"`
	DHT     DHTStatus      `json:"dht"`
	Gossip  GossipStatus   `json:"gossip"`
}

// DHTStatus is the node's part in the table of provider records. Counters begin with the node's life in its zone.
type DHTStatus struct {
	Peers      int   `json:"peers"`       // in the routing table
	BucketSize int   `json:"bucket_size"` // copies of a record
	Records    int   `json:"records"`     // kept for others
	Announced  int   `json:"announced"`   // keys that this node stands under
	Left       int   `json:"left"`        // keys that it leaves to others
	Lookups    int64 `json:"lookups"`     // searches for holders
	Looks      int64 `json:"looks"`       // at whether others are enough
	Placed     int64 `json:"placed"`      // records placed or renewed
	Failed     int64 `json:"failed"`      // of these, not at the first try
	AskedFind  int64 `json:"asked_find"`  // requests of others
	AskedStore int64 `json:"asked_store"` // records brought by others
}

// GossipStatus is what gossip cost. Counters begin with the node's life in its zone.
type GossipStatus struct {
	BytesIn    int64 `json:"bytes_in"`  // frames of neighbours
	BytesOut   int64 `json:"bytes_out"` // to neighbours
	Delivered  int64 `json:"delivered"` // messages
	Duplicates int64 `json:"duplicates"`
	Rejected   int64 `json:"rejected"` // nonsense
	Dropped    int64 `json:"dropped"`  // too many, or a full queue
}

// StoreStatus is what is on disk.
type StoreStatus struct {
	Bytes    int64 `json:"bytes"`
	Capacity int64 `json:"capacity"` // bytes, 0 = no limit
	Pinned   int64 `json:"pinned"`   // bytes that pins hold
	Shelved  int64 `json:"shelved"`  // bytes of blobs served from containerd's content store, not in bytes
	Blobs    int   `json:"blobs"`    // complete
	Partials int   `json:"partials"` // arriving or left by an earlier run

	Scrub ScrubStatus `json:"scrub"`
}

// ScrubStatus is how far the search for what has rotted on disk is. Counters begin with the node's life in its zone.
type ScrubStatus struct {
	Paused  bool    `json:"paused"`
	Due     int     `json:"due"`            // blobs that it has yet to look at
	Blobs   int64   `json:"blobs"`          // looked at to the end
	Bytes   int64   `json:"bytes"`          // hashed
	Corrupt int64   `json:"corrupt"`        // blobs with wrong bytes; what holds of them was kept
	Oldest  float64 `json:"oldest_seconds"` // since the blob whose turn was longest ago was hashed
}

// Zone is what the node knows of a zone.
type Zone struct {
	Zone     string  `json:"zone"`
	Members  int     `json:"members"` // this node not among them
	Seeds    int     `json:"seeds"`
	Measured int     `json:"measured"`      // members with a measured RTT
	Median   float64 `json:"median_rtt_ms"` // of those, 0 if there are none
}

// Peer is one member in /v1/peers.
type Peer struct {
	PeerID    string   `json:"peer_id"`
	Zone      string   `json:"zone"`
	Inferred  bool     `json:"zone_inferred"` // it was not told its zone
	Seed      bool     `json:"seed"`
	Relay     bool     `json:"relay"`
	Connected bool     `json:"connected"`
	RTT       float64  `json:"rtt_ms"`          // 0 while unknown
	Estimated bool     `json:"rtt_estimated"`   // by coordinates; it is not measured
	RTTAge    float64  `json:"rtt_age_seconds"` // since the last round of pings, 0 if there was none
	Rounds    int      `json:"rtt_rounds"`      // of pings on this connection
	Distrust  bool     `json:"coordinate_distrusted"`
	DataAddr  string   `json:"data_addr"`
	Addrs     []string `json:"addrs"`
}

func (n *node) status() Status {
	u := n.store.Usage()
	s := Status{
		PeerID: n.host.ID().String(), Zone: n.zone.name, ZoneSource: n.zone.source, ZoneProblem: n.zone.problem,
		MeshKeys: n.meshKeys.status(), Seed: n.cfg.Seed, Relay: n.gossip.Relay(),
		Peers: n.topology.Connected(), Members: len(n.topology.Members()), Addrs: []string{},
		Uptime: time.Since(n.started).Seconds(),
		Status: n.exchange.Status(),
		Store:  StoreStatus{Bytes: u.Bytes, Capacity: u.Capacity, Pinned: u.Pinned, Shelved: u.Shelved, Blobs: u.Blobs, Partials: u.Partials},
	}
	s.Store.Scrub = n.scrubStatus()
	s.Storage = n.storageStatus()
	s.DHT = DHTStatus(n.dht.Stats())
	s.Gossip = GossipStatus(n.gossip.Stats())
	if next := n.nextZone.Load(); next != nil && *next != n.zone.name {
		s.ZoneNext = *next
	}
	zones := n.topology.Zones()
	if doubt := n.zone.doubt(zones); doubt != "" {
		s.ZoneProblem = doubt
	}
	s.Zones = zoneList(zones)
	s.CoordinateError = float64(n.topology.Coordinate().Error)
	for _, a := range n.host.Addrs() {
		s.Addrs = append(s.Addrs, a.String())
	}
	return s
}

func (n *node) scrubStatus() ScrubStatus {
	s := n.store.Scrub()
	return ScrubStatus{s.Paused, s.Due, s.Blobs, s.Bytes, s.Corrupt, s.Oldest.Seconds()}
}

func (n *node) peers() []Peer {
	out := []Peer{}
	for _, m := range n.topology.Members() {
		out = append(out, peerOf(m))
	}
	return out
}

func peerOf(m topology.Member) Peer {
	p := Peer{
		PeerID: m.ID.String(), Zone: m.Zone, Inferred: m.Inferred, Seed: m.Seed, Relay: m.Relay, Connected: m.Connected,
		RTT: milliseconds(m.RTT), Rounds: m.Rounds, Distrust: m.Distrust, DataAddr: m.DataAddr, Addrs: []string{},
	}
	if m.RTT == 0 && m.Estimate > 0 {
		p.RTT, p.Estimated = milliseconds(m.Estimate), true
	}
	if m.Rounds > 0 {
		p.RTTAge = time.Since(m.Measured).Seconds()
	}
	for _, a := range m.Addrs {
		p.Addrs = append(p.Addrs, a.String())
	}
	return p
}

func zoneList(zones []topology.Zone) []Zone {
	out := []Zone{}
	for _, z := range zones {
		out = append(out, Zone{z.Name, z.Members, z.Seeds, z.Measured, milliseconds(z.Median)})
	}
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
