package mirror

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
)

// hash is a key made of strings that are not kept.
type hash [sha256.Size]byte

// hasher makes keys. Its salt is made anew in each process, so that a key tells
// nothing about the credentials in it to whoever reads the memory later.
type hasher struct{ salt [32]byte }

func newHasher() hasher {
	var h hasher
	_, _ = rand.Read(h.salt[:]) // never fails since Go 1.24
	return h
}

// sum hashes the parts with their lengths, so that no two lists of parts collide.
func (h hasher) sum(parts ...string) hash {
	buf := make([]byte, 0, 512)
	buf = append(buf, h.salt[:]...)
	for _, p := range parts {
		buf = binary.AppendUvarint(buf, uint64(len(p)))
		buf = append(buf, p...)
	}
	return sha256.Sum256(buf)
}
