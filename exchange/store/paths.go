package store

import (
	"errors"
	"fmt"
	"path/filepath"

	// The hashes that digests may name have to be linked in.
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
)

const (
	metaExt    = ".meta"
	journalExt = ".journal"
	tempExt    = ".tmp"
)

// algorithms are those that blobs may be addressed by.
var algorithms = []digest.Algorithm{digest.SHA256, digest.SHA512}

// paths names the files under the store's directory.
type paths struct{ root string }

func (p paths) lock() string                    { return filepath.Join(p.root, "lock") }
func (p paths) pins() string                    { return filepath.Join(p.root, "pins") }
func (p paths) blobs(a digest.Algorithm) string { return filepath.Join(p.root, "blobs", string(a)) }
func (p paths) partials(a digest.Algorithm) string {
	return filepath.Join(p.root, "partial", string(a))
}
func (p paths) trash() string { return filepath.Join(p.root, "trash") }
func (p paths) blob(d digest.Digest) string {
	return filepath.Join(p.blobs(d.Algorithm()), d.Encoded())
}
func (p paths) meta(d digest.Digest) string { return p.blob(d) + metaExt }
func (p paths) partial(d digest.Digest) string {
	return filepath.Join(p.partials(d.Algorithm()), d.Encoded())
}
func (p paths) journal(d digest.Digest) string { return p.partial(d) + journalExt }

// dirs lists every directory, parents first.
func (p paths) dirs() []string {
	out := []string{p.root, filepath.Join(p.root, "blobs"), filepath.Join(p.root, "partial"), p.trash()}
	for _, a := range algorithms {
		out = append(out, p.blobs(a), p.partials(a))
	}
	return out
}

// checkDigest refuses what cannot name a file here. A digest that passes has only lower-case hex after its
// algorithm, so it cannot leave the directory.
func checkDigest(d digest.Digest) error {
	switch err := d.Validate(); {
	case errors.Is(err, digest.ErrDigestUnsupported):
		return fmt.Errorf("digest %q: %w", d, ErrUnsupported)
	case err != nil:
		return fmt.Errorf("digest %q: %w: %w", d, ErrInvalid, err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return fmt.Errorf("digest %q: %w", d, ErrUnsupported)
	}
	return nil
}
