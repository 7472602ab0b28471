package preheat

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// Document is a manifest or an index, verified against its digest if one was asked for.
type Document struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"media_type"`
	Data      []byte        `json:"data"`
}

// Origin answers what only a registry, or the operator's configuration of it, can say. Implementations are safe for
// concurrent use, keep within ctx and retry by themselves what is worth it. Errors hold no secret.
type Origin interface {
	// Listed reports whether this node may be made to fetch from a registry: the operator has named it.
	Listed(registry string) bool
	// Authorization is the header of the operator's own credentials for a registry, "" if there are none.
	Authorization(ctx context.Context, registry string) (string, error)
	// Manifest fetches the manifest that a tag or digest names. ErrUnknown if there is none, ErrDenied if these
	// credentials may not have it.
	Manifest(ctx context.Context, r Repository, reference, authorization string) (Document, error)
	// Public reports whether anybody may read a blob.
	Public(ctx context.Context, r Repository, d digest.Digest) bool
}

// Want is a blob to be brought in.
type Want struct {
	Repository Repository
	Digest     digest.Digest
	Size       int64 // bytes, as the manifest says; -1 if it does not
	// Private: the registry gives it for credentials only, so it goes by its private name here too. Without Authorization
	// it comes from peers alone.
	Private       bool
	Authorization string
}

// Blobs is this node's part of the mesh. Implementations are safe for concurrent use.
type Blobs interface {
	// Fetch brings a blob onto the disk, behind what clients of this node wait for, and returns when it is there. progress
	// is called with the bytes that are here, by one goroutine, and must not wait. When ctx ends, the fetch ends unless others
	// want the blob too; what has come stays.
	Fetch(ctx context.Context, w Want, progress func(bytes int64)) error
	// Keep puts a public manifest of a repository onto the disk.
	Keep(r Repository, d Document) error
}
