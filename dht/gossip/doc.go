// Package gossip says who is in the mesh and which zone holds or imports which blob. It never carries pieces.
//
// # Topics
//
//	/meshd/3/zone/<zone>  every node of the zone: presence, have messages, and what the backbone tells of other zones
//	/meshd/3/backbone     seeds and relays only: their presence, and one have message for each (zone, blob, state)
//
// A relay is one of the Relays members of a zone that rank highest by rendezvous hash over (zone, peer id). Every
// node ranks for itself; views that differ cost a few messages more, never a loss. One that should be a relay and is not
// connected for 20 s is passed over until it is: dead, or made up. So about 8 % of gossip crosses
// zones, where one flat topic sends a third.
//
// # Messages
//
// One message is one kind byte and a body; integers are unsigned varints, strings and lists carry their length in
// front, bytes left over make a message invalid. New layouts get new topic names.
//
//	1 presence  peer id, seq, milliseconds to the next (at most an hour), flags (1 seed, 2 relay, 4 leaving, 8 zone
//	            inferred, 16 coordinate), zone,
//	            data host (IP or empty), data port, addresses (at most 8), coordinate if the flag says so: 10
//	            big-endian float32 (vector of 8 and height in seconds, error)
//	2 have      peer id, seq, zone, items (at most 64): state (1 importing, 2 holding), algorithm (1 sha256, 2 sha512), sum
//
// Messages are not signed: connections are authenticated and everybody has the mesh key. The id of a message is the
// hash of topic and body, so what several relays repeat is one message, and what its author says again has another
// seq and is another one (pubsub drops what it has seen in the last two minutes). Nonsense is not passed on, so the
// neighbour that it came from is its author or no member of this protocol: the log names it, once a minute. What a connected peer says of itself in
// hello (below) is never overruled by hearsay, but for its turn as a relay and its coordinate, which move; hearsay about
// this node is dropped. A coordinate is finite, its components are within 10 s and its error within 0 and 1.5, or the
// message is invalid; nothing here believes it, node/topology says what it is good for. A member whose
// coordinate moves by less than 0.5 ms counts as unchanged.
//
// # Hello
//
// On every new connection the dialer opens a stream of protocol /meshd/hello/3; both sides send one frame (length,
// then presence, then a roster of up to 256 members with their age in seconds) and close. So zones are known in one
// round trip, from the peer itself, and a newcomer learns the members before its first gossip heartbeat.
//
// # Limits
//
// A message has at most 4 KiB, a hello 64 KiB; each neighbour may forward 100 messages a second (burst 500), the
// rest is dropped. A blob and state is told at most three times a minute in a zone, once on the backbone; and that it is
// held not at all while three of the zone have said so in the last quarter of an hour. If a whole zone is about to say
// the same, the three that rendezvous hashing puts first do it at once and the others hear it before their turn, which
// comes within a second. What is said while nobody is there to hear it does not count.
//
// Presence comes every Interval, jittered by a fifth, from a node that knows up to 20 members, and every n/20 intervals
// from one that knows n: two a second are told in a zone, whatever its size. A newcomer begins with three at the shortest
// interval. A member that is not connected is forgotten after 3.5 of the intervals that it told. At most 20000 are known;
// beyond that hearsay is not taken in, and who comes in person takes the place of the hearsay that is oldest. A number
// more than an hour ahead of the time of day does not hold against a later message with one that is not.
//
// # Volume
//
// Measured with real gossipsub on a simulated network (TestVolumeIsBounded; bytes of pubsub frames that a node sends, mean
// and busiest): see the table. Before presence was scaled and announcements took turns the law was 77 B/s for each
// node of the zone (50 nodes: 3.9 kB/s idle, 35 kB for a layer that all pull at once).
//
//	nodes   idle B/s       bytes for a layer that all pull at once
//	   25   1056, 1293     1901, 2654
//	   48   1042, 1296     1553, 2185
//	  100    986, 1229     2692, 3710
//	  200   1095, 1396     1852, 2638
//
// So it is the same for a zone of 1000: 1.1 kB/s, the busiest 1.4 kB/s. (The interval is an hour at most: beyond 7200
// members the volume grows with them. A relay and a seed send as much again on the backbone.) What the zone holds adds to it: each blob is told
// by three nodes in a quarter of an hour, which is 0.5 B/s at every node.
//
// # Lifecycle
//
// New joins the topics, Run works until ctx is done, tells the zone that this node leaves, and returns when its
// goroutines have ended; a Gossip runs once. Announce, Holders and Members may be called from any goroutine and never block on the
// network. Config.Changed, Lost and Turned are called one at a time, without a lock held, in the order of the facts.
package gossip
