// Package topology knows where everybody is: the members' zones, their measured RTT and whether they are connected,
// and it keeps the connections that the mesh needs.
//
// # Which connections
//
// While the members known are at most Config.Small, every node connects to every other, so that a control connection
// stands before the first pull. In a larger mesh it connects to all seeds and relays that it knows (at most
// maxRemote of other zones) and to neighbours of its own zone picked by rendezvous hash, and otherwise on demand. Those
// that three dials did not reach are tried on, ever more rarely, and others connected to in their place.
// Dials are few at once and back off per peer; of two nodes that learn of each other at the same time, one waits.
//
// # Who is up
//
// A member is up, and told to Config.Up, while its presence is known and it is connected, or need not be. It is told
// again whenever zone, flags, data address or (by a fifth) RTT changed. It is down when its connection breaks or its
// presence ends. So whoever is up can be reached at once.
//
// # RTT
//
// Pings run on the control connections, which carry no bulk, three at a time: eagerRounds when a peer connects, then every
// PingInterval; the RTT is the least of the last rttWindow rounds, because queues only add.
//
// # Coordinates
//
// The same samples feed a Vivaldi coordinate (serf/coordinate; no adjustment terms, because they spread one peer's lie
// over all), which the node tells in its presence. RTTs below leastRTT count as that. After about 100 samples estimates
// between places are off by a few per cent. They order strangers only: who is dialed first, and what the
// core knows of members that need not be connected, with the errors of both coordinates added (Distance). A coordinate
// with an error above usableError is not used.
//
// What a peer says of itself gains it nothing that a measurement does not confirm. A measured RTT always overrides. A
// coordinate that contradicts it (by offFactor and offSlack, while both sides claim to know) gets a strike for each
// such round and is neither learned from nor used from distrustAt strikes on, also after the connection ended; a
// round that fits takes one strike back. A sample moves this node by at most maxStep and raises its error by at most
// maxDoubt, is skipped if it is off by more than maxPull, and claims of certainty count as minClaim.
//
// # Zones
//
// A node that was told its zone is in it, whatever RTT says; Doubt tells the operator when RTT says otherwise (its
// zone is wrongFactor times as far as another, and beyond nearRTT). A node that was not told one finds out
// (Config.Inferred), by this rule and without anybody to ask. It looks around once a ZoneWindow (30 s), at the
// members that it is connected to and has measured.
//
//  1. Who is within nearRTT (3 ms) stands in the same place, who is beyond farRTT (6 ms) does not, in between counts
//     for nothing. A name is one of this place if more tell it within than beyond. Undecided ("default") is no name.
//  2. Names that only one tells are passed over if any is told by support (2), this node itself counted. So one liar
//     decides nothing where two agree, and two labelled nodes can give an inferred zone its name.
//  3. The best name is a label (the nearest by median RTT); without labels the inferred name that is oldest.
//     Inferred names are auto-YYMMDD-HHMMSS-XXXXXX, the UTC time of the founding and six characters of the founder, so
//     all nodes order them alike, by age. Names dated before 2025 or more than a day ahead do not count.
//  4. An undecided node joins the best name at once. If there is none for foundWindows (3) it founds one, if its id is
//     the least of the undecided nearby; the others wait twice as long for that.
//  5. A node with a name changes when another one is the best for changeWindows (6) in a row; from label to label only
//     if that is twice as near. It founds a name if for as long it sees the others of its zone elsewhere only.
//  6. What is not seen changes nothing: a node that is alone, cut off or restarted keeps its name.
//
// Two names in one place become one, because everybody there goes to the older; relays are connected to all zones,
// so both are seen in meshes of any size. In simulations of 200 nodes in 3 places (noise, joins, restarts, churn, one
// liar; five seeds) every place has one name of its own and a node decides within 12 windows; 0 to 29 % of the nodes
// were renamed once, none twice.
//
// Gossip topics, DHT keys and the core are bound to a zone, so a change takes effect in the next Map: Moved
// tells it, and package node comes back under the new name.
//
// Run owns all goroutines and returns when they have ended. All methods may be called from any goroutine; Up and
// Down are called one at a time by Run, without a lock held.
package topology
