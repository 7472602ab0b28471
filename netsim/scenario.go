package netsim

import (
	"time"
)

// Scenario is an experiment: who is where, on what network, what is pulled when, and what goes wrong. It is read
// from YAML by Load; the field names there are these in snake case.
type Scenario struct {
	Name  string
	About string // one paragraph for the reader of the result
	// Seed is where all randomness comes from: the same scenario and seed give the same result, byte for byte.
	Seed uint64
	// Limit ends a run at this virtual time. Default 1h.
	Limit Duration
	// Host and SeedHost are the links of hosts and seeds where their zone says nothing else. Default 250MB/s.
	Host, SeedHost Link
	Zones          []Zone
	WAN            WAN `yaml:"wan"`
	Origin         Origin
	// Layers are the blobs of the image that every host pulls.
	Layers []Layer
	Pull   Pull
	// Arrivals say when hosts begin to pull. Default: all at once.
	Arrivals []Arrival
	// Classes make a share of the hosts differ from the others.
	Classes []Class
	Faults  []Fault
	Churn   Churn
	Liars   []Liars
	// Warm says who has what on disk at the start.
	Warm    []Warm
	Mesh    Mesh
	Network Network
	Delays  Delays
	// Swarm overrides fields of swarm.Config, by their names in snake case.
	Swarm map[string]string
	// Sweep runs the scenario once for each combination of values.
	Sweep []Sweep
	// Baseline tunes the rivals.
	Baseline Baseline
	// Goals are what a run of meshd has to reach.
	Goals Goals

	file  string
	lines map[string]int
}

// Link is what a host may send and receive. A configured limit and the speed of the card are the same thing here.
type Link struct{ Up, Down Rate }

// Zone is a data centre: hosts behind a pipe to the others.
type Zone struct {
	Name string
	// Count makes so many zones of this kind, named with a number appended. Default 1.
	Count int
	// Hosts pull the image. Seeds come in addition and pull only what they are asked for.
	Hosts, Seeds int
	// Host and SeedHost override the links given for all zones.
	Host, SeedHost Link
	// Out and In are the zone's pipe to all other zones. Default wan.out, wan.in.
	Out, In Rate
	// RTT between two hosts of the zone. Default 500us.
	RTT Duration `yaml:"rtt"`
}

// WAN is the network between zones.
type WAN struct {
	RTT     Duration `yaml:"rtt"` // between zones. Default 30ms
	Out, In Rate     // of each zone. Default 1.25GB/s
	Pairs   []Pair
}

// Pair says how two zones differ from the others.
type Pair struct {
	A, B string
	RTT  Duration `yaml:"rtt"`
	Rate Rate     // of a pipe of their own within the zones', in each direction
}

// Origin is the registry.
type Origin struct {
	// Zone has the registry inside: bytes from it to other zones cross their pipes. "" is outside all zones.
	// Default: the first zone.
	Zone string
	// Egress bounds all it sends, PerConnection one response. Default 500MB/s and no limit.
	Egress, PerConnection Rate
	RTT                   Duration `yaml:"rtt"` // from everywhere. Default 20ms
	NoRange               bool     // it ignores ranges
	Down                  bool     // it cannot be reached
}

// Layer is a blob, or Count blobs of the same size.
type Layer struct {
	Size  Bytes
	Count int
}

// Pull is how a local client reads.
type Pull struct {
	Parallel int  // layers at a time. Default 3, docker's
	Unsized  bool // the client does not know the sizes
}

// Arrival has a share of the hosts begin to pull.
type Arrival struct {
	// Kind is "at_once"; "poisson", at Rate hosts a second; "rolling", one after the other over Over, zone by
	// zone; or "uniform", at random times within Over.
	Kind  string
	Share Share    // of all hosts. Default: those that no other entry takes
	At    Duration // when the first may begin
	Over  Duration
	Rate  float64 // hosts per second
}

// Class is a share of the hosts with other links.
type Class struct {
	Name  string
	Share Share
	Host  Link
	// Slow hosts do not count in the times of the result or in the bound.
	Slow bool
}

// Fault is something that goes wrong at a time. One of the fields that name what is set.
type Fault struct {
	At Duration
	// Kill ends a share of the hosts: their connections break. KillSeeds and KillHosts are numbers of them.
	Kill                 Share
	KillSeeds, KillHosts int
	// Silent hosts go without a sign: others find out by silence.
	Silent bool
	// Stop halts a share of the hosts for For, with their connections open. StopSeeds is a number of seeds.
	Stop      Share
	StopSeeds int
	// Slow multiplies the links of a share of the hosts by Factor, for For or for good.
	Slow   Share
	Factor float64
	// Cut takes a zone off the network for For.
	Cut string
	// Pipe multiplies a zone's pipe by Factor, for For or for good.
	Pipe string
	// Origin has the registry vanish for For, or for good.
	Origin bool
	For    Duration
	// Spread draws the times of the hosts hit from [At, At+Spread].
	Spread Duration
}

// Churn has hosts die and others begin to pull in their place.
type Churn struct {
	Rate  float64 // hosts per second
	From  Duration
	Until Duration
}

// Liars are hosts that do not keep the rules, from the start.
type Liars struct {
	Share Share
	// How is "corrupt": serves wrong bytes; "forge": signs wrong bytes as read from the origin; "stall":
	// accepts requests and sends nothing; "boast": says it has all and has not.
	How   string
	Seeds int // so many seeds instead of a share of the hosts
}

// Warm puts layers on the disks of a share of the hosts before the start.
type Warm struct {
	Share Share
	Part  Share // of each layer's pieces. Default all
	Seeds bool  // all seeds instead
	Zone  string
}

// Mesh is what nodes know of each other.
type Mesh struct {
	// Relays of each zone are known everywhere. Default 4.
	Relays int
	// Contacts of each zone are known to each host of the others, drawn for each. Default 8, as relays announce.
	// In a mesh of at most Small nodes everybody knows everybody. Default 256.
	Contacts, Small int
}

// Network is what the model adds to capacities and latencies.
type Network struct {
	// Jitter spreads the latency of each pair of hosts by up to this share, once. Default 10%.
	Jitter Share
	// Loss of packets. A lost control message comes a retransmission later, and those behind it wait; a transfer is
	// held to what TCP makes of the loss (Mathis 1997).
	Loss Share
	// Overhead is what headers take of every link beside the bytes that they carry; the bound leaves it out. Default 0.
	// TCP with time stamps over Ethernet: 4.6% (1514 bytes for 1448).
	Overhead Share
	// Window bounds a connection's bytes in flight, and so its rate. Default 6MiB.
	Window Bytes
	// InitialWindow is what a cold connection may have in flight; it doubles each round trip. Default 14600.
	InitialWindow Bytes
	// Tolerance of the fair shares: smaller changes of a link's level are not passed on. Default 0.1%.
	Tolerance Share
}

// Delays of what is not simulated packet by packet.
type Delays struct {
	Process Duration // a node's handling of a message, on top of the network. Default 100us
	Store   Rate     // hash and write of a piece after its last byte. Default 2GB/s
	Open    Duration // room in the store. Default 2ms
	Verify  Duration // the rest of the check of the whole, fsync and rename. Default 20ms
	Gossip  Duration // an announcement reaches the zone. Default 10ms
	ZoneDHT Duration `yaml:"zone_dht"` // a look-up under the zone's key. Default 20ms
	DHT     Duration `yaml:"dht"`      // a look-up under the global key. Default 150ms
	Detect  Duration // silence after which a connection counts as lost. Default 15s
}

// Sweep gives a field several values in turn.
type Sweep struct {
	Field  string // "origin.egress", "zones[0].hosts", "swarm.outstanding"
	Values []string
	// With are fields that change along with this one, such as a goal: as many values as here.
	With []With
}

// With gives a field one value for each of a sweep's.
type With struct {
	Field  string
	Values []string
}

// Baseline tunes the rivals that are run for comparison.
type Baseline struct {
	// Warm has the rival's own origin hold the layers at the start.
	Warm bool
	// Tie is how the random swarm chooses among the rarest: "same", by lowest index on every host; "random".
	Tie string
	// PieceSize of the random swarm and the tree. Default 4MiB.
	PieceSize Bytes
	// Start is what an agent of the random swarm needs before its first connection. Default 1.4s: with it one agent
	// takes as long as Kraken was measured to.
	Start Duration
}

// defaults returns a scenario in which only zones and layers are missing.
func defaults() Scenario {
	return Scenario{
		Seed:     1,
		Limit:    Duration(time.Hour),
		Host:     Link{Up: 250e6, Down: 250e6},
		SeedHost: Link{Up: 250e6, Down: 250e6},
		WAN:      WAN{RTT: Duration(30 * time.Millisecond), Out: 1.25e9, In: 1.25e9},
		Origin:   Origin{Zone: firstZone, Egress: 500e6, RTT: Duration(20 * time.Millisecond)},
		Pull:     Pull{Parallel: 3},
		Mesh:     Mesh{Relays: 4, Contacts: 8, Small: 256},
		Network:  Network{Jitter: 0.1, Window: 6 << 20, InitialWindow: 14600, Tolerance: 0.001},
		Delays: Delays{
			Process: Duration(100 * time.Microsecond), Store: 2e9, Open: Duration(2 * time.Millisecond),
			Verify: Duration(20 * time.Millisecond), Gossip: Duration(10 * time.Millisecond),
			ZoneDHT: Duration(20 * time.Millisecond), DHT: Duration(150 * time.Millisecond),
			Detect: Duration(15 * time.Second),
		},
		Baseline: Baseline{Tie: "random", PieceSize: 4 << 20, Start: Duration(1400 * time.Millisecond)},
	}
}

// firstZone stands for the name of the first zone until the zones are known.
const firstZone = "\x00first"
