// Package trust says who of those that have the mesh key may be a member: an optional list of peer ids that the operator
// gives each node, and a list of revoked peer ids that the operator signs once and the nodes pass on to each other.
//
// # Revocation
//
// The list is one document, signed by the operator's ed25519 key; nodes know the public key. It is text:
//
//	meshd-revoked/1
//	serial NUMBER
//	PEER                  one a line, sorted, at most MaxPeers
//	signature BASE64      over all bytes before this line
//
// A node takes a list only if the signature is right and the serial is higher than that of the one it has, so an old list
// cannot be played back and nobody but the operator can take anything off it or put anybody on it. It is kept on disk
// and checked again when it is read. A list has one spelling: Parse refuses what List.Sign would not write.
//
// # Spreading
//
// Protocol /meshd/revoked/1: both sides of a stream send one frame (4 bytes length, big endian, then the list or nothing).
// A node exchanges lists over each connection that it has dialed, with every peer when its list has changed, and
// with one of its peers at random every minute. Who is revoked is cut first, so it may never hear of it.
//
// # What a Gate cuts
//
// Gate is libp2p's connection gater: a peer that is not admitted gets no control connection, hence no DHT, no gossip
// and, as the data port serves connected peers only, no data. Connections that are there are closed when the list
// comes. Node refuses its attestations and drops what gossip says of it.
//
// # Bounds and concurrency
//
// A list has at most MaxList bytes; at most 16 streams are handled at once, each within 5 s. Gate may be used
// concurrently. Run returns when its goroutines have ended.
package trust
