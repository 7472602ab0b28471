// Package exchange moves pieces of blobs: from peers, from the origin, to peers and to local readers. It drives
// the policy core in exchange/swarm with a real network, a real clock and a real disk, and decides nothing that
// can be argued about: who is asked for which piece, who reads the origin, who is served first is the core's.
//
// # What it owns
//
//   - the loop: one goroutine that owns the Core. Everything that happens becomes an event in its bounded inbox;
//     the actions that come back are handed to workers, which answer with events. The loop itself never waits
//     for anything but its inbox, its timer and its end.
//   - control streams (/meshd/swarm/1, see exchange/wire): one outbound stream per peer with a bounded queue. A
//     queue that is full or a stream that breaks is told to the core as MemberLost, then Member if the peer is
//     still there, because a lost message is never repeated.
//   - the data port: HTTP/1.1 over TLS with libp2p identities on both ends, on a Transport. Only peers with a live control connection
//     get through the handshake, and each for a bounded number of connections (callers.go); who has not come that far makes
//     way for others (door.go). Bulk never touches the control connections, so that pings on them stay true. Between nodes
//     that both have Config.Plaintext, pieces go unencrypted through the same port, by sendfile, for tickets given over the
//     control connection (plain.go, fork.go).
//   - names: a private blob goes by store.Scoped's name for it, a file of no known digest by store.File's, here and in
//     everything that peers are told.
//   - sessions: one per digest that is being brought in (single flight), with the store's Partial, the readers
//     and, in memory only, the credentials that local clients brought for its origin.
//   - what is here in part and wanted by nobody here (dormant.go): it is opened for peers, who find it by its spans, for
//     an hour, and makes room when something else is wanted.
//   - what the store has no room for, or cannot write (unkept.go): it streams through bounded memory to local readers, in the
//     order in which they read, and nobody is told of it. The reader of the whole proves it against its digest. One that
//     was proven and could not be made durable is hashed again, piece by piece, as it is read (suspect.go).
//   - the byte accounts by source, and the rates (exchange/pace): of pieces from peers and the origin, and of pieces to peers.
//
// # Lifecycle
//
//	x, err := exchange.New(cfg, host, store, origin, providers, gossip)
//	go x.Run(ctx)                          // returns when all its goroutines ended
//	h, err := x.Open(ctx, exchange.Want{Digest: d, Size: -1, Origin: ref})
//	r, err := h.Reader(0, -1)
//	n, err := r.WriteTo(w)                 // bytes flow while the blob is being fetched
//	r.Close(); h.Close()
//	err = x.Fetch(ctx, want, progress)     // onto the disk, for nobody to read yet
//
// Run ends in this order: no new streams and requests; sessions fail with ErrClosed; transfers are cancelled and
// waited for; partial blobs are closed and stay on disk. The host and the store belong to the caller and are
// closed after Run has returned.
//
// # Trust
//
// A piece from a peer is stored only if its bytes match a hash signed by whoever vouches for it (who read it from
// the origin, or holds the whole verified blob), over digest, blob size, piece index and hash. Local readers get
// verified pieces as they come, but the last piece of a blob only once the SHA-256 of the whole matches its
// digest: a corrupt blob never ends cleanly. If a blob proves wrong, readers that were given some of it fail;
// readers that were not go on with what comes next, of up to 64 MiB when all of it is proven. A blob of one piece is handed out whole or not at all. Who wants a
// part of a blob (Want.Off, Want.End) gets the last piece on its hash alone while others are missing: a part says
// nothing of the whole, and lazy pullers read their index there.
//
// A file has no digest: its pieces are proven by the word of who read them alone, and the whole by Config.Seal, by which
// nodes find out that they have different bytes under one name. What fails there is treated as a blob that proved wrong.
//
// # Concurrency
//
// All exported methods may be called from any goroutine. Readers may be closed from another goroutine than the
// one that reads; that ends a blocked Read or WriteTo.
//
// # What it refuses
//
// Peers that are not members, digests that go-digest does not validate, blobs above swarm.MaxBlobSize, identities
// other than ed25519. It never sends a URL, a path or a credential to a peer.
package exchange
