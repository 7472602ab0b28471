// Package gossip says who is in the mesh and which zone holds or imports which blob. It never carries pieces.
//
// # Topics
//
//	/meshd/2/zone/<zone>  every node of the zone: presence, have messages, and what the backbone tells of other zones
//	/meshd/2/backbone     seeds and relays only: their presence, and one have message for each (zone, blob, state)
//
// A relay is one of the Relays members of a zone that rank highest by rendezvous hash over (zone, peer id). Every
// node ranks for itself; views that differ cost a few messages more, never a loss. So about 8 % of gossip crosses
// zones, where one flat topic sends a third.
//
// # Messages
//
// One message is one kind byte and a body; integers are unsigned varints, strings and lists carry their length in
// front, bytes left over make a message invalid. New layouts get new topic names.
//
//	1 presence  peer id, seq, flags (1 seed, 2 relay, 4 leaving, 8 zone inferred, 16 coordinate), zone,
//	            data host (IP or empty), data port, addresses (at most 8), coordinate if the flag says so: 10
//	            big-endian float32 (vector of 8 and height in seconds, error)
//	2 have      peer id, zone, items (at most 64): state (1 importing, 2 holding), algorithm (1 sha256, 2 sha512), sum
//
// Messages are not signed: connections are authenticated and everybody has the mesh key. The id of a message is the
// hash of topic and body, so what several relays repeat is one message. What a connected peer says of itself in
// hello (below) is never overruled by hearsay, but for its turn as a relay and its coordinate, which move; hearsay about
// this node is dropped. A coordinate is finite, its components are within 10 s and its error within 0 and 1.5, or the
// message is invalid; nothing here believes it, node/topology says what it is good for. A member whose
// coordinate moves by less than 0.5 ms counts as unchanged.
//
// # Hello
//
// On every new connection the dialer opens a stream of protocol /meshd/hello/2; both sides send one frame (length,
// then presence, then a roster of up to 128 members with their age in seconds) and close. So zones are known in one
// round trip, from the peer itself, and a newcomer learns the members before its first gossip heartbeat.
//
// # Limits
//
// A message has at most 4 KiB, a hello 64 KiB; each neighbour may forward 100 messages a second (burst 500), the
// rest is dropped. A blob and state is told at most three times a minute in a zone, once on the backbone. Presence
// comes every Interval (jittered by a fifth) and a member that is not connected is forgotten after 3.5 intervals.
//
// # Lifecycle
//
// New joins the topics, Run works until ctx is done, tells the zone that this node leaves, and returns when its
// goroutines have ended; a Gossip runs once. Announce, Holders and Members may be called from any goroutine and never block on the
// network. Config.Changed, Lost and Turned are called one at a time, without a lock held, in the order of the facts.
package gossip
