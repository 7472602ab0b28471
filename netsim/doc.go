// Package netsim runs thousands of unmodified policy cores (package swarm) in one process, on a virtual network and in
// virtual time, and rivals on the same network beside them. What it shows of meshd is a statement about the code that
// ships; what it leaves out is listed below.
//
// A scenario (Parse, Expand) says who is where, what is pulled when and what goes wrong; Scenario.Run plays it; the
// Result can be written as a table, as JSON and as pictures. The same scenario and seed give the same result, byte
// for byte, whatever the number of processors; only the table also tells the wall time. A run may use all processors
// while it lasts and leaves nothing behind; runs of different scenarios do not share anything.
//
// # Model
//
// Time goes on in windows as long as the least time between a cause at one node and its effect at another. Within a
// window nodes cannot affect each other: they run in parallel, and beside them the network. So nothing is
// rounded to windows but the events themselves, which carry their times in nanoseconds.
//
// Bytes are flows over links of fixed capacity: uplink and downlink of each host, the pipes out of and into each zone, the
// pipe of a pair of zones if it has one of its own, the registry's egress. All flows share all links max-min fairly
// at every moment (solver.go). A flow is also held to a TCP window each round trip and, on a lossy network, to what TCP
// makes of the loss. Slow start is a wait in front of the transfer, as long as the ramp takes more than the full
// rate would (conn.ramp); a connection idle for a second starts again, as Linux does. The first request to a peer
// waits for TCP and TLS, the first to the registry for its challenge and token as well.
//
// Control messages take half a round trip and the node's own handling, in order for each pair; lost ones come a
// retransmission later. They are counted with the sizes of package wire and take no capacity: they are some
// hundredths of a per cent of the bytes. Gossip and the DHT answer after delays taken from measurement. A piece is hashed
// and written at a rate after its last byte. The latency of each pair of nodes differs a little, drawn once.
//
// Nodes know the members of their zone, all seeds and relays and some contacts in other zones, as gossip tells them; in a
// small mesh everybody knows everybody. A node that is killed resets its connections, unless it goes silently;
// one that is stopped keeps them. A zone that is cut off loses its connections after a silence. The client of a node reads
// each layer in order as fast as it comes.
//
// Not modelled: CPU, disks that are slower than the network, unfairness of TCP, queues in switches, and the
// registry's own limits on requests.
//
// # Bound
//
// Results are given as multiples of a time that no system can beat: see Bound.
//
// # Rivals
//
// Systems lists what the same scenario can be run with for comparison. They are models of how others work, after their
// documentation, code and published measurements, and are checked against measurements where there are any
// (TestRandomSwarmIsLikeKraken). They are kind: no rival here ever loses a connection, stalls or fills a disk.
//
// # Invariants
//
// Every event that a core is told and every action that it decides is checked against the rules of checker
// (invariant.go), always. The first that breaks one ends the run with an *InvariantError. Options.Record has both written
// down.
//
// # What it refuses
//
// It decides nothing that a core should decide, opens no socket, reads no clock but for the wall time and no file but
// the scenario. A run without progress for a virtual minute stops with a StalledError that says who waits for whom.
package netsim
