// Package demo is `meshd demo`: a whole mesh on this machine.
//
// It starts a registry and some nodes as child processes of its own binary (the nodes are plain `meshd run`), each node
// on a loopback address of its own, pushes a generated image, pulls it through every node's mirror at once, checks every
// digest, and prints who got how many bytes from where. The registry counts the bytes of blobs that it sends in its own
// process, so the number does not rest on what the nodes say about themselves.
//
// Everything is stopped and removed when the command ends, on Ctrl-C too; children die with their parent even if that is
// killed (Linux). The package refuses to run if it cannot bind loopback addresses.
package demo
