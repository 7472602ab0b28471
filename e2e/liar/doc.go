// Liar is a member of the mesh that lies: a test program. It has the mesh key, speaks all protocols of meshd through meshd's own
// packages, says that it holds every blob, and does with those who believe it what its kinds of lies say.
//
//	liar --mesh-key FILE --addr IP --zone NAME [--seed] --blobs DIR --lies KIND[,KIND...] PEER-MULTIADDR...
//
// It prints its peer id and runs until it is killed. DIR has the true blobs, each in a file that has the digest's name:
// whoever wants to lie well has to know the truth. With several kinds the answers take turns.
//
// In every kind it answers greetings with all pieces, says "ask me" to whoever wants to bring in a piece, and names itself as the one
// who knows the swarm. The kinds are those of lies.go and flood.go.
package main
