package wire

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

// Headers of the data port.
const (
	headerHash      = "Meshd-Hash"      // SHA-256 of the piece, hex
	headerAttester  = "Meshd-Attester"  // peer id, base64 without padding
	headerSignature = "Meshd-Signature" // ed25519, base64 without padding
	headerWait      = "Meshd-Wait"      // milliseconds
	headerLoad      = "Meshd-Load"      // uploads under way or queued
)

// signatureSize is the length of an ed25519 signature in bytes.
const signatureSize = 64

// MaxWait bounds how long a busy peer can make another wait.
const MaxWait = 30 * time.Second

const piecePrefix = "/meshd/1/"

// Attestation says whose word a piece's hash rests on: Attester read the piece from the origin, or holds the
// whole verified blob, and signed AttestedText.
type Attestation struct {
	Hash      swarm.Hash
	Attester  swarm.PeerID
	Signature []byte // 64 bytes
}

// AttestedText returns what an attester signs for a piece. The blob's size is in it, so that a hash cannot be
// moved to another layout of the same blob.
func AttestedText(d digest.Digest, size int64, piece swarm.PieceIndex, hash swarm.Hash) []byte {
	b := append(make([]byte, 0, 192), "meshd piece 1\x00"...)
	b = append(b, d...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(size))
	b = binary.BigEndian.AppendUint32(b, uint32(piece))
	return append(b, hash[:]...)
}

// SetAttestation puts an attestation into the headers of an answer.
func SetAttestation(h http.Header, a Attestation) {
	h[headerHash] = []string{hex.EncodeToString(a.Hash[:])}
	h[headerAttester] = []string{base64.RawStdEncoding.EncodeToString([]byte(a.Attester))}
	h[headerSignature] = []string{base64.RawStdEncoding.EncodeToString(a.Signature)}
}

// ParseAttestation reads the attestation of an answer. The signature is not checked. Errors wrap ErrMalformed.
func ParseAttestation(h http.Header) (Attestation, error) {
	var a Attestation
	raw, err := hex.DecodeString(h.Get(headerHash))
	if err != nil || len(raw) != len(a.Hash) {
		return a, fmt.Errorf("%w: %s", ErrMalformed, headerHash)
	}
	copy(a.Hash[:], raw)
	id, err := base64.RawStdEncoding.DecodeString(h.Get(headerAttester))
	if err != nil || len(id) == 0 || len(id) > MaxPeerID {
		return a, fmt.Errorf("%w: %s", ErrMalformed, headerAttester)
	}
	a.Attester = swarm.PeerID(id)
	a.Signature, err = base64.RawStdEncoding.DecodeString(h.Get(headerSignature))
	if err != nil || len(a.Signature) != signatureSize {
		return a, fmt.Errorf("%w: %s", ErrMalformed, headerSignature)
	}
	return a, nil
}

// Proof returns the form in which the store keeps an attestation beside its piece; the hash is not in it.
func (a Attestation) Proof() []byte {
	return append(append(make([]byte, 0, signatureSize+len(a.Attester)), a.Signature...), a.Attester...)
}

// ParseProof is the inverse of Proof for the hash kept beside it. Errors wrap ErrMalformed.
func ParseProof(hash swarm.Hash, proof []byte) (Attestation, error) {
	if len(proof) <= signatureSize || len(proof) > signatureSize+MaxPeerID {
		return Attestation{}, fmt.Errorf("%w: proof of %d bytes", ErrMalformed, len(proof))
	}
	return Attestation{
		Hash:      hash,
		Attester:  swarm.PeerID(proof[signatureSize:]),
		Signature: proof[:signatureSize:signatureSize],
	}, nil
}

// SetBusy puts into the headers of a refusal when to ask again, and the load.
func SetBusy(h http.Header, wait time.Duration, load uint8) {
	h[headerWait] = []string{strconv.FormatInt(int64(wait/time.Millisecond), 10)}
	h[headerLoad] = []string{strconv.Itoa(int(load))}
	h["Retry-After"] = []string{strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)} // for who does not know ours
}

// ParseBusy reads what SetBusy wrote. Nonsense reads as zero, more than MaxWait as MaxWait.
func ParseBusy(h http.Header) (wait time.Duration, load uint8) {
	if ms, err := strconv.ParseUint(h.Get(headerWait), 10, 32); err == nil {
		wait = min(time.Duration(ms)*time.Millisecond, MaxWait)
	}
	if n, err := strconv.ParseUint(h.Get(headerLoad), 10, 8); err == nil {
		load = uint8(n)
	}
	return wait, load
}

// PiecePath returns the path of a piece at the data port.
func PiecePath(d digest.Digest, piece swarm.PieceIndex) string {
	return piecePrefix + string(d) + "/" + strconv.FormatUint(uint64(piece), 10)
}

// ParsePiecePath is the inverse of PiecePath. It accepts only what PiecePath returns. Errors wrap ErrMalformed.
func ParsePiecePath(path string) (digest.Digest, swarm.PieceIndex, error) {
	rest, ok := strings.CutPrefix(path, piecePrefix)
	name, index, found := strings.Cut(rest, "/")
	d := digest.Digest(name)
	if !ok || !found || len(name) > 256 {
		return "", 0, fmt.Errorf("%w: path", ErrMalformed)
	}
	if _, err := algorithmCode(d); err != nil {
		return "", 0, fmt.Errorf("%w: path: %w", ErrMalformed, err)
	}
	i, err := strconv.ParseUint(index, 10, 32)
	if err != nil || i >= maxUnit || len(index) > 1 && (index[0] == '0' || index[0] == '+') {
		return "", 0, fmt.Errorf("%w: path: piece", ErrMalformed)
	}
	return d, swarm.PieceIndex(i), nil
}
