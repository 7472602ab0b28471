package exchange

import (
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
)

// notary signs piece hashes as this node.
type notary struct {
	key crypto.PrivKey
	id  swarm.PeerID
}

func (n notary) attest(d digest.Digest, size int64, piece swarm.PieceIndex, hash swarm.Hash) (wire.Attestation, error) {
	sig, err := n.key.Sign(wire.AttestedText(d, size, piece, hash))
	if err != nil {
		return wire.Attestation{}, fmt.Errorf("sign piece %d of %s: %w", piece, d, err)
	}
	return wire.Attestation{Hash: hash, Attester: n.id, Signature: sig}, nil
}

// checkAttestation verifies the signature against the key that the attester's id carries.
func checkAttestation(a wire.Attestation, d digest.Digest, size int64, piece swarm.PieceIndex) error {
	id, err := peer.IDFromBytes([]byte(a.Attester))
	if err != nil {
		return fmt.Errorf("attester: %w", err)
	}
	key, err := id.ExtractPublicKey()
	if err != nil {
		return fmt.Errorf("attester %s: %w", id, err)
	}
	ok, err := key.Verify(wire.AttestedText(d, size, piece, a.Hash), a.Signature)
	if err != nil {
		return fmt.Errorf("attester %s: %w", id, err)
	}
	if !ok {
		return fmt.Errorf("attester %s did not sign piece %d of %s", id, piece, d)
	}
	return nil
}
