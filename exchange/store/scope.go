package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A private blob is kept under a name of its own for each registry that gives it out, so that who may have it of one
// registry cannot get it on the word of another, and nobody on the word of its digest. The name looks like a sha512
// digest and is carried as one by everything that carries digests:
//
//	bytes  0 to 15   scopeMark, which no SHA-512 begins with (1 in 2^128)
//	bytes 16 to 31   the start of SHA-256("meshd private blob" NUL registry)
//	bytes 32 to 63   the sha256 digest that the bytes must have
//
// So whoever holds or relays the blob can prove its bytes without being told more.
const scopeMark = "meshd private 1."

var scopedPrefix = string(digest.SHA512) + ":" + hex.EncodeToString([]byte(scopeMark))

// Scoped returns the name of the blob d as a registry (HOST or HOST:PORT, in its one spelling) gives it to those with
// credentials. ErrUnsupported for digests other than sha256, whose name would not fit.
func Scoped(registry string, d digest.Digest) (digest.Digest, error) {
	if err := checkDigest(d); err != nil {
		return "", err
	}
	if d.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("private blob %s: %w", d, ErrUnsupported)
	}
	scope := sha256.Sum256([]byte("meshd private blob\x00" + registry))
	return digest.Digest(scopedPrefix + hex.EncodeToString(scope[:16]) + d.Encoded()), nil
}

// Content returns the digest that the bytes of a blob must have: d itself, unless d is a name that Scoped has made.
func Content(d digest.Digest) (content digest.Digest, scoped bool) {
	name, ok := strings.CutPrefix(string(d), scopedPrefix)
	if !ok || len(name) != 2*(16+32) {
		return d, false
	}
	return digest.NewDigestFromEncoded(digest.SHA256, name[2*16:]), true
}
