package catalog

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
)

// Store is what a catalog is made of. List and Data are as *store.Store has them.
type Store interface {
	List() []store.Info
	Data(d digest.Digest, most int64) ([]byte, error)
}

// Root is something that people have a name for.
type Root struct {
	Name   string // REGISTRY/REPOSITORY, with :TAG or @DIGEST
	Source string // where the name is from
	Until  time.Time
	Digest digest.Digest // of its manifest or index; "" unknown
	// Blobs are known to be of it, by the names that the store has. Only: nothing else is, whatever its manifests name.
	Blobs []digest.Digest
	Only  bool
	// Registry gives the image for credentials only: what is of it may go by the private names of that registry. "" otherwise.
	Registry string
	// Documents are manifests that are not in the store. Roots may share them.
	Documents map[digest.Digest][]byte
}

// Kinds of blobs.
const (
	KindIndex    = "index"
	KindManifest = "manifest"
	KindConfig   = "config"
	KindLayer    = "layer"
	KindFile     = "file"
)

// Catalog is what is in the store, by name: /v1/cache. Fields are added, never renamed.
type Catalog struct {
	Images  []Image `json:"images"`  // by the order of the roots; then those that nobody named
	Files   []File  `json:"files"`   // plain ones
	Unnamed Rest    `json:"unnamed"` // blobs that nothing here names
	Partial bool    `json:"partial"` // there was too much to read: some names are missing
	LeftOut int     `json:"left_out,omitempty"`
	Blobs   []Blob  `json:"blobs"` // at most MaxBlobs; LeftOut counts the others
}

// Image is an image of which something is here.
type Image struct {
	Image     string    `json:"image"`             // the name, or the digest of one that nobody named
	Digest    string    `json:"digest,omitempty"`  // of the manifest or index, if known
	Platforms []string  `json:"platforms"`         // that are here at least in part, as far as that is known
	Source    string    `json:"source"`            // pin, preheat, pull, or digest: by nobody's tag
	Private   bool      `json:"private,omitempty"` // its registry gives it for credentials only
	Until     time.Time `json:"until,omitzero"`    // of a pin
	Blobs     int       `json:"blobs"`             // of its blobs that are known
	Missing   int       `json:"missing"`           // of these, not here whole
	Bytes     int64     `json:"bytes"`             // of those that are here
}

// File is a plain file.
type File struct {
	Name  digest.Digest `json:"name"`          // in the store
	URL   string        `json:"url,omitempty"` // without query, if it may be told
	Size  int64         `json:"size"`          // bytes
	Bytes int64         `json:"bytes"`         // here
}

// Rest sums up blobs.
type Rest struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"` // here
}

// Blob is one blob.
type Blob struct {
	Digest    digest.Digest `json:"digest"` // of its bytes
	Name      digest.Digest `json:"name"`   // in the store: another than the digest if it is private, or a file
	Private   bool          `json:"private"`
	Size      int64         `json:"size"`
	Bytes     int64         `json:"bytes"` // here
	Complete  bool          `json:"complete"`
	MediaType string        `json:"media_type,omitempty"`
	Pinned    bool          `json:"pinned"`
	Kind      string        `json:"kind,omitempty"`   // index, manifest, config, layer or file, if known
	Of        string        `json:"of,omitempty"`     // the first image that it is part of, or the file's URL
	Images    int           `json:"images,omitempty"` // that it is part of
}
