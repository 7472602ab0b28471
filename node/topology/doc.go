// Package topology knows where everybody is: the members' zones, their measured RTT and whether they are connected,
// and it keeps the connections that the mesh needs.
//
// # Which connections
//
// While the members known are at most Config.Small, every node connects to every other, so that a control connection
// stands before the first pull. In a larger mesh it connects to all seeds and relays that it knows (at most
// maxRemote of other zones) and to neighbours of its own zone picked by rendezvous hash, and otherwise on demand.
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
// Pings run on the control connections, which carry no bulk, three at a time when a peer connects and every
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
// Run owns all goroutines and returns when they have ended. All methods may be called from any goroutine; Up and
// Down are called one at a time by Run, without a lock held.
package topology
