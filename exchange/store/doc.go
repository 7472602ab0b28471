// Package store keeps blobs on local disk: complete ones, and those that are still arriving piece by piece.
//
// # What it owns
//
// One directory, under an exclusive lock, with this layout (ALG is sha256 or sha512):
//
//	lock                       held (flock) while a Store is open; names the owner's pid
//	blobs/ALG/HEX              a complete blob, byte for byte; absent if it lies on the shelf
//	blobs/ALG/HEX.meta         its sidecar: piece size, piece hashes, media type; its mtime is the last use
//	partial/ALG/HEX            an arriving blob, already at its full length
//	partial/ALG/HEX.journal    which of its pieces have been written, with hash and proof
//	pins                       what must stay, by name and with an end; JSON
//	trash/                     what is being deleted; emptied by Open
//
// # Lifecycle of a blob
//
// Begin reserves room, WritePiece adds pieces in any order, Verify checks the digest of the whole, Commit makes
// it durable and moves it to blobs/. From then on Get hands it out, until it is evicted or deleted. Put does all
// of that at once for a small blob in memory. A driver that streams to readers calls Verify, wakes them, and
// leaves Commit, which waits for the disk, to the background:
//
//	p, err := s.Begin(d, size, pieceSize)
//	for each piece:  p.WritePiece(i, data, sum, proof)
//	if err := p.Verify(ctx); err == nil { /* readers may have the last bytes now */ }
//	blob, err := p.Commit(ctx)
//	p.Close()
//
// # Names
//
// A blob is named by its digest. A private one, which a registry gives out for credentials only, is named by what
// Scoped makes of the registry and the digest; the store treats that as one more digest, but proves the bytes by
// the one within. A file of no known digest is named by what File makes of its identity: its pieces are proven one by
// one, the whole by that all are there.
//
// # What is trusted, and when
//
// Nothing is trusted because a file says so; files say what is worth hashing.
//
//   - A journalled piece is re-hashed when Begin resumes a partial after Close or a crash, before Have says yes.
//     The journal is written after the data and never synced: a record whose data did not reach the disk fails
//     its hash, a torn tail is cut at the first bad checksum.
//   - The digest of the whole is computed while the prefix grows, by a goroutine that reads behind the writers
//     out of the page cache, so that Verify does not read the blob again.
//   - A file in blobs/ was verified and synced before it was renamed there. Still, bits rot: each piece of a
//     blob that this process has not itself written or hashed is hashed against its sidecar before ReadAt
//     returns bytes of it. Readers of OpenFile's descriptors (sendfile) call Blob.Check first. A file that changed
//     size or mtime under us, or was last hashed longer than Config.Recheck ago, is hashed anew. A piece that
//     fails takes the blob out of use: what holds of it is left as an arriving blob, so that only the rest is fetched again.
//   - Run scrubs: it hashes every blob that is not in use once in Config.ScrubEvery, slowly, from the disk and not from
//     memory.
//   - A missing or damaged sidecar is computed again from the data, which must then match its digest. A file without
//     its sidecar is dropped: nothing else says what its bytes are.
//
// Put does not sync: what it wrote is small and hashed before its first use after a restart, so a power loss
// costs a cache entry and never correctness.
//
// # Room
//
// Config.Capacity bounds the bytes of all blobs, arriving ones at their full size; sidecars and journals (under
// 0.02 %) are not counted. Begin and Put make room by deleting closed partials that are older than
// Config.PartialTTL, then whatever was used least recently. A blob that is in use (an open Blob), a live Partial, what
// a Pin lists, or anything at all when even that would not suffice, is never deleted: ErrNoSpace. Blocks are allocated by
// Begin where the file system can, so that a disk that fills up later does not fail a pull half-way.
//
// # Backends
//
// Backend and Keeper are where complete blobs may lie besides: a Store is one (Local), a Layout of files that others keep is
// one that is only read, and package storetest has one in memory and the kit that all of them pass. Config.Shelf is a
// Layout whose blobs are served in place (shelf.go).
//
// # Concurrency
//
// All methods of Store, Blob and Partial may be called from any goroutine. Different pieces of a Partial are
// written in parallel; Reset, Commit, Discard and Close wait for writes under way. Each live Partial owns at most
// two goroutines (hashing, flushing), which exist while there is work and end in Close. Callbacks run in the
// goroutine whose call made the blob leave, with no lock held.
//
// # What it refuses
//
// Digests other than sha256 and sha512 (ErrUnsupported), a second process on the same directory (ErrLocked), a
// second live Partial of one digest (ErrInUse). It knows no peers, no swarm and no origin; proofs are opaque to it.
// Whether a piece's hash is the right one is the caller's knowledge: the store only keeps and re-checks it.
package store
