// Package storage gives seeds a bucket behind their disks: what one has once, all have for good.
//
// # What it owns
//
// Bucket is a store.Keeper over an object store (S3, GCS, Azure or a directory, by gocloud.dev/blob), with this layout:
//
//	blobs/ALG/HEX         a blob, byte for byte
//	blobs/ALG/HEX.meta    its store.Outline, written last: a blob is there when this is
//	claims/ALG/HEX        that a seed is writing the blob; taken over after claimFor, by that seed at once
//
// Tier puts a Keeper behind a seed's store. It writes through what the store completes, and stands before the registry:
// what the bucket has is read from there, with the local disk as the hot cache in front. Several seeds share a bucket; a
// blob is written once.
//
// # Trust
//
// A bucket is a place, not an authority. Each piece that comes from it has to match the outline before a byte of it goes
// on, the whole its digest, as if it had come from the registry; a blob that does not is read from the registry from then on.
// A private blob lies under the name that store.Scoped gives it, and is asked for only by a fetch that brings credentials of
// its registry. Whoever may read the bucket can read every blob, and whoever may write to it can have a seed vouch for
// wrong pieces until the whole is checked: both are for seeds only. Credentials of the bucket come from where its provider's
// tools look for them, never from the URL.
//
// # A bad day
//
// Every question has a time limit, every transfer a least pace. A bucket that fails is left alone for a while that doubles
// up to maxRest; meanwhile seeds work as without one, and what waits to be written stays on disk and is found again, also
// after a restart. State says what is wrong.
//
// All methods may be called from any goroutine. It knows no peers and no swarm.
package storage
