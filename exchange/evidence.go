package exchange

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
)

// Bounds of what a session remembers of a blob that proved wrong.
const (
	maxSuspects = 16 << 10 // signed hashes, some 150 bytes each
	maxAccused  = 4        // pieces that are evidence against one peer
)

// Evidence proves to anybody that a peer lied: its signature is under a piece hash that is not the one of the blob whose
// SHA-256 is its digest. Who has the blob can compute the proven hash; who has not has this node's word for that.
type Evidence struct {
	Time      time.Time     `json:"time"`
	Peer      peer.ID       `json:"peer"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`        // of the blob, in bytes
	Piece     int           `json:"piece"`       // from 0
	PieceSize int64         `json:"piece_size"`  // bytes; the last piece may be shorter
	Signed    string        `json:"signed_hash"` // SHA-256 in hex, as the peer attested it
	Proven    string        `json:"proven_hash"` // SHA-256 in hex, of the piece of the right blob
	Signature []byte        `json:"signature"`   // ed25519, over wire.AttestedText
}

// Check returns nil if the peer has signed this hash for this piece of this blob, and another is proven.
func (e Evidence) Check() error {
	var signed, proven swarm.Hash
	for _, h := range []struct {
		text string
		to   *swarm.Hash
	}{{e.Signed, &signed}, {e.Proven, &proven}} {
		raw, err := hex.DecodeString(h.text)
		if err != nil || len(raw) != len(signed) {
			return fmt.Errorf("evidence against %s: %q is no SHA-256", e.Peer, h.text)
		}
		copy(h.to[:], raw)
	}
	if signed == proven {
		return errors.New("evidence against " + e.Peer.String() + ": the hashes are the same")
	}
	if err := e.Digest.Validate(); err != nil || e.Size < 0 || e.Piece < 0 {
		return fmt.Errorf("evidence against %s: no such blob or piece", e.Peer)
	}
	a := wire.Attestation{Hash: signed, Attester: swarm.PeerID(e.Peer), Signature: e.Signature}
	return checkAttestation(a, e.Digest, e.Size, swarm.PieceIndex(e.Piece))
}

// suspect remembers the words that a blob rests on whose whole is wrong: one of those who gave them lied, or
// the origin is corrupt.
func (x *Exchange) suspect(s *session, p *store.Partial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range p.Pieces() {
		if len(s.suspects) == maxSuspects {
			return
		}
		a, err := wire.ParseProof(swarm.Hash(p.Hash(i)), p.Proof(i))
		if err == nil && a.Attester != x.notary.id {
			s.suspects = append(s.suspects, suspectWord{i, a})
		}
	}
}

// suspectWord is a signed hash that may be wrong.
type suspectWord struct {
	piece int
	wire.Attestation
}

// accuse reports who had signed other hashes than those of the blob that has proven right.
func (x *Exchange) accuse(s *session, p *store.Partial) {
	s.mu.Lock()
	words := s.suspects
	s.suspects = nil
	s.mu.Unlock()
	words = slices.DeleteFunc(words, func(w suspectWord) bool { return w.Hash == swarm.Hash(p.Hash(w.piece)) })
	accused := make(map[swarm.PeerID]int)
	for _, w := range words {
		if accused[w.Attester]++; accused[w.Attester] > maxAccused {
			continue
		}
		proven := p.Hash(w.piece)
		e := Evidence{
			Time: time.Now().UTC(), Peer: peer.ID(w.Attester), Digest: p.Digest(), Size: p.Size(), Piece: w.piece, PieceSize: p.PieceSize(),
			Signed: hex.EncodeToString(w.Hash[:]), Proven: hex.EncodeToString(proven[:]), Signature: w.Signature,
		}
		log.Warnw("a peer has signed a wrong hash", "peer", e.Peer, "blob", e.Digest, "piece", e.Piece)
		x.cfg.Evidence(e)
	}
}

// Sign returns the signature under e.Signed that would make e true of the owner of key.
func (e Evidence) Sign(key crypto.PrivKey) ([]byte, error) {
	var signed swarm.Hash
	if n, err := hex.Decode(signed[:], []byte(e.Signed)); err != nil || n != len(signed) {
		return nil, fmt.Errorf("%q is no SHA-256", e.Signed)
	}
	return key.Sign(wire.AttestedText(e.Digest, e.Size, swarm.PieceIndex(e.Piece), signed))
}
