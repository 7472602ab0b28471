// Package wire is the format of what meshd nodes say to each other about blobs: the frames of the control
// stream and the headers of the data port. It encodes and decodes; it opens nothing, waits for nothing and
// decides nothing. All functions may be called from any goroutine.
//
// # Control stream, protocol /meshd/swarm/1
//
// A node opens one stream to each peer that it has something to say to. Both ends start with a Card; after it
// only the opener speaks. A stream is a sequence of frames:
//
//	frame   = length type body       length: uvarint, bytes of type and body, at most MaxFrame
//	type    = 1 byte                 1 Card, 2 Hello, 3 Have, 4 Bye, 5 Join, 6 Members, 7 Want,
//	                                 8 Refuse, 9 Claim, 10 Verdict
//
// The bodies are their fields in order, without tags; a changed layout is a new protocol id.
//
//	number  = uvarint in its shortest form
//	size    = number, the size in bytes plus one; 0 is an unknown size
//	string  = number of bytes, bytes
//	digest  = 1 byte algorithm (1 sha256, 2 sha384, 3 sha512), raw hash
//	units   = number of runs, and for each: first, count (numbers, count at least 1)
//	flags   = 1 byte, unknown bits are refused
//
//	Card    = zone string, flags (1 seed, 2 relay), data port number
//	Hello   = digest, size, flags (1 no range, 2 want, 4 reply), load byte, bitmap
//	          bitmap: 1 byte 0 empty, 1 full, 2 followed by ceil(pieces/8) bytes, piece 0 in the lowest bit;
//	          absent while the size is unknown; decodes to the number of pieces that the size gives
//	Have    = digest, load byte, units
//	Bye     = digest, flags (1 full)
//	Join    = digest, flags (1 want)
//	Members = digest, number of members, and for each: id string, zone string
//	Want    = digest, size, registry string, repository string
//	Refuse  = digest, kind byte
//	Claim   = digest, scope byte, state byte, units
//	Verdict = digest, scope byte, granted units, number of denials, and for each: first, count, holder string,
//	          flags (1 done)
//
// A decoder refuses whatever an encoder would not write: numbers in a long form, bits past the end of a bitmap,
// bytes after the last field, names outside the OCI grammar. So every frame has one spelling, and a decoded
// value is safe to act on without a second look.
//
// # Data port
//
// A piece is fetched by HTTP/1.1 over TLS with libp2p identities on both sides:
//
//	GET /meshd/1/{digest}/{piece}
//
// 200 carries the piece and its Attestation in headers: who read the piece from the origin, its SHA-256, and
// that node's ed25519 signature over AttestedText. 503 is busy (Meshd-Wait in milliseconds, Meshd-Load), 404
// says that this node does not have the piece.
//
// Where both nodes allow it, the same request goes in plaintext over the same port. A node asks for a Ticket by opening a
// stream of protocol /meshd/ticket/1, on which the other writes the ticket, 8 bytes of Unix seconds and 32 of key, and
// closes. The request carries who asks, the end of the ticket and an HMAC over the path under its key, the answer one over
// path and attestation. So bytes can be read on the way, but not changed unseen, and whoever reads a request can repeat
// that one until its ticket ends.
//
// No URL and no credential is ever part of any of these protocols.
package wire
