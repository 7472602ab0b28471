package store

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A file has no digest that anybody knows before it was read to its end. Its name says which version of which file it is;
// what that version's bytes are is the word of those who read them from its origin, piece by piece. The name looks like a
// sha512 digest and is carried as one by everything that carries digests:
//
//	bytes  0 to 15   fileMark, which no SHA-512 begins with (1 in 2^128)
//	bytes 16 to 63   SHA-384 of what tells this version from all others
//
// So a file is proven by the hashes of its pieces, and these by their proofs; Partial.Root sums them up.
const fileMark = "meshd file    1."

var filePrefix = string(digest.SHA512) + ":" + hex.EncodeToString([]byte(fileMark))

// File returns the name of the version of a file that identity describes.
func File(identity []byte) digest.Digest {
	sum := sha512.Sum384(identity)
	return digest.Digest(filePrefix + hex.EncodeToString(sum[:]))
}

// IsFile reports whether d is a name that File may have made.
func IsFile(d digest.Digest) bool {
	return strings.HasPrefix(string(d), filePrefix) && d.Validate() == nil
}

// Root returns the SHA-256 over the hashes of all pieces in order: two partials of one size have the same root only if
// they have the same bytes. ErrIncomplete while pieces are missing.
func (p *Partial) Root() (Hash, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held < len(p.pieces) {
		return Hash{}, fmt.Errorf("store: root of %s: %w", p.e.digest, ErrIncomplete)
	}
	h := sha256.New()
	for i := range p.pieces {
		h.Write(p.pieces[i].hash[:])
	}
	return Hash(h.Sum(nil)), nil
}
