package dht

import (
	"crypto/sha256"
	"strconv"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
	"github.com/opencontainers/go-digest"
)

// zoneKey returns the key under which the holders of d in a zone announce themselves.
func zoneKey(zone string, d digest.Digest) cid.Cid {
	return keyOf("meshd/zone\x00" + zone + "\x00" + d.String())
}

// globalKey returns the key under which a few holders of each zone announce themselves.
func globalKey(d digest.Digest) cid.Cid { return keyOf("meshd/global\x00" + d.String()) }

// spanKey returns the key under which those of a zone announce themselves that hold a span of d and not the whole.
func spanKey(zone string, d digest.Digest, span int) cid.Cid {
	return keyOf("meshd/span\x00" + zone + "\x00" + strconv.Itoa(span) + "\x00" + d.String())
}

func keyOf(s string) cid.Cid {
	sum := sha256.Sum256([]byte(s))
	m, err := mh.Encode(sum[:], mh.SHA2_256)
	if err != nil {
		panic("dht: sha2-256 multihash: " + err.Error()) // a constant code and length: cannot fail
	}
	return cid.NewCidV1(cid.Raw, m)
}
