// Package dht knows who holds a digest: provider records in a Kademlia table of the mesh's own, under a key for each
// zone and a global one. It is the only package in which a CID appears.
//
// # Keys
//
// The key of digest D in zone Z is the CIDv1 (raw) of the SHA-256 of "meshd/zone\0Z\0D", the global key that of
// "meshd/global\0D", the key of span i (0 to 3) of it that of "meshd/span\0Z\0i\0D". So a lookup in a zone meets only
// holders of that zone, and a popular layer's records are spread over one place for each zone instead of lying all in one.
//
// A span is a quarter of a blob's pieces. Who holds a blob in part, and nobody at home wants it, announces the spans that
// are whole, once each time that it is told to; they are asked for when the zone's key has nobody.
//
// # What bounds the records
//
// kad-dht returns all providers of a key with every answer, so a key with many providers costs the square of the
// mesh. A zone key therefore gets about ZoneAnnouncers records, a global one about GlobalAnnouncers of each zone and
// those whom the caller names. Every member of a zone computes the same order of its members for a blob (Members.Place):
// the first of them announce at once, however many get the blob in the same second. Any other waits for some seconds,
// more the larger the zone, so that about eight look at a key in a second, and announces if it finds too few; it looks
// again whenever a record would be due for renewal, and leaves the key if others have become enough. Seeds always announce.
// A node keeps 1<<20 records of others, a sixteenth of them of one provider, and 8 addresses of each; kad-dht takes a record only
// from the provider itself and dates it by its own clock. Records are valid for RecordTTL only, are renewed at 0.3 to 0.45 of it, and live in memory (Records, ordered).
//
// The bucket size, which is the number of copies of a record, is 10 below 200 members and 20 from there on; kad-dht fixes
// it when it is made, so a mesh that grows past the bound has it made anew on the same records (table.go).
//
// # Why not kad-dht's sweeping provider
//
// It looks up a region of the key space once for all keys in it. Measured with 300 keys of one of 40 nodes, requests in
// all: the first announcement 3144 instead of 6630, of which 3000 are the records themselves; a renewal the same. So it
// would save half of the requests of a node, and no bytes that lie on other nodes. Against that it has one interval for
// everything, renews all or nothing, while most holders here have to look first whether they are needed, and brings three
// modules and its own ideas of being online. It is the better one where nodes announce many thousands of blobs.
//
// # Lifecycle
//
// New starts the table; it answers others from then on. Run renews the node's own records, fits the bucket size, and
// returns when ctx is done; Close ends the rest. All methods may be called from any goroutine; Find and Provide block for their network
// round trips, end with their ctx and leave nothing behind.
//
// It refuses to store anything but provider records (no values), to talk to the public IPFS table (own protocol
// prefix), and to keep addresses that Config.AddrFilter drops.
//
// Spec: https://github.com/libp2p/specs/tree/master/kad-dht, protocol <Prefix>/kad/1.0.0.
package dht
