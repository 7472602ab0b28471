// Package node is the composition root: it makes the parts of a meshd node out of one Config, plugs them together,
// and stops them in order. Run is all of it that a program needs.
//
// # Who talks to whom
//
//	mirror   -> exchange          blobs (adapters.go: meshBlobs; held back while the mesh is sought: settle.go)
//	         -> seed/origin       which blobs are private, and those that the mesh cannot hold (direct.go)
//	         -> exchange/store    manifests (documents)
//	         -> seed/origin       questions to registries (mirrorOrigin)
//	mirror/proxy -> mirror        pulls of clients that use the node as their proxy
//	         -> seed/origin       the rest of what they ask registries (proxy.go)
//	exchange -> seed/origin       byte ranges (exchangeOrigin)
//	         -> dht, dht/gossip   who holds a digest; both fit without an adapter
//	seed/preheat -> exchange      blobs, behind clients' (preheat.go: preheatBlobs)
//	         -> seed/origin       manifests, and the operator's credentials (preheatOrigin)
//	seed/harbor, seed/notify -> seed/preheat   what Harbor and registries ask for (harbor.go)
//	gossip   -> topology          members, as they describe themselves
//	topology -> exchange          members that can be used, with RTT and data address
//
// The packages below know of each other only by the interfaces that they declare themselves; imports_test.go holds the
// directions.
//
// # What it owns
//
// The data dir and the files named in config.go; the node's identity; the proxy's certificate authority (ca.go); the
// libp2p host, which is TCP, TLS and yamux under the mesh key and nothing else; the way into the mesh (bootstrap.go) and
// back into it after a restart (peersfile.go); which addresses are worth telling (addrs.go); the status and metrics that
// node/admin shows.
//
// # The zone
//
// It comes from --zone, else --zone-from, else from what an earlier run wrote into DATA-DIR/zone, else the node finds
// out (package topology has the rule). Every part is bound to a zone from its making, so a zone that is found takes
// effect by another life of the node: it stops as for a signal once no client and no blob is under way (waitIdle), and
// starts again in the same process on the same sockets (kept.go), in which clients queue meanwhile. Counters begin
// anew. A node that knows no zone at its start looks around once before it serves anybody (findPlace): it waits for members whose
// distance has been measured, within the bounds of settle.go.
//
// # Admission
//
// Whoever has the mesh key is a member, unless the allow list or the operator's revocations say otherwise (node/trust,
// members.go). Without --mesh-key a node makes a key of its own and listens on loopback only. The key encrypts the control connections (libp2p's private network), and the data port
// serves only peers that have one. While it is rotated there are two (meshkey.go, privatenet.go): a node dials with the
// first and accepts both, and moves what it has dialed to the first as its peers get that.
//
// # Concurrency
//
// start makes everything in one goroutine (node.go). run holds the parts in errgroups by the stage in which they stop
// (run.go); each part's Run returns when its goroutines have ended. The fields of node do not change after start, but for the atomic
// ones.
package node
