// Package dht knows who holds a digest: provider records in a Kademlia table of the mesh's own, under a key for each
// zone and a global one. It is the only package in which a CID appears.
//
// # Keys
//
// The key of digest D in zone Z is the CIDv1 (raw) of the SHA-256 of "meshd/zone\0Z\0D", the global key that of
// "meshd/global\0D". So a lookup in a zone meets only holders of that zone, and a popular layer's records are spread
// over one place for each zone instead of lying all in one.
//
// # What bounds the records
//
// kad-dht returns all providers of a key with every answer, so a key with many providers costs the square of the
// mesh. A zone key therefore gets about ZoneAnnouncers records: a node that has just seen as many in a lookup does
// not add itself, unless it is a seed. The caller decides who announces globally (a few nodes of each zone).
// Records are valid for RecordTTL only, are renewed at less than half of it, and live in memory (Records, ordered).
//
// # Lifecycle
//
// New starts the table; it answers others from then on. Run renews the node's own records and returns when ctx is
// done; Close ends the rest. All methods may be called from any goroutine; Find and Provide block for their network
// round trips, end with their ctx and leave nothing behind.
//
// It refuses to store anything but provider records (no values), to talk to the public IPFS table (own protocol
// prefix), and to keep addresses that Config.AddrFilter drops.
//
// Spec: https://github.com/libp2p/specs/tree/master/kad-dht, protocol <Prefix>/kad/1.0.0.
package dht
