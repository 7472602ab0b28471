// Package testbed is what a mesh of real processes on one machine is made of: children that end with their parent, network
// namespaces for them to stand in (Linux), a registry that counts what it sends, a generated image, a client that pulls it
// and checks every digest, and the part of a node's status that tells where bytes came from. `meshd demo`, package lab and
// the end-to-end tests put their meshes together from it.
//
// A Process is started from the binary that runs, so what is tested is what is run. Each is used by one goroutine, but
// for the registry, which serves many at a time, and the clients, which share their Seen.
//
// The package decides nothing: who runs where, on what network and when something ends is the caller's. It keeps
// no state outside the files that it is given and reads of any answer only a bounded part.
package testbed
