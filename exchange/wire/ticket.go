package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// Headers of a request in plaintext, and of its answer.
const (
	headerPeer  = "Meshd-Peer"  // who asks: peer id, base64 without padding
	headerUntil = "Meshd-Until" // end of the ticket, Unix seconds of the clock of who gave it
	headerProof = "Meshd-Proof" // HMAC-SHA256 over the request, base64 without padding
	headerSeal  = "Meshd-Seal"  // HMAC-SHA256 over the answer's attestation, base64 without padding
)

// TicketSize is the length of a ticket in bytes.
const TicketSize = 8 + sha256.Size

// Ticket lets one peer ask for pieces in plaintext for a short time. It is given over the control connection; its key never
// travels in the clear: what an eavesdropper sees of a request is good for that request.
type Ticket struct {
	Until time.Time // whole seconds
	Key   [sha256.Size]byte
}

// NewTicket returns the ticket of a peer until a time. The same secret gives the same ticket.
func NewTicket(secret []byte, id swarm.PeerID, until time.Time) Ticket {
	t := Ticket{Until: time.Unix(until.Unix(), 0)}
	b := append([]byte("meshd ticket 1\x00"), id...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Until.Unix()))
	t.Key = [sha256.Size]byte(sum(secret, b))
	return t
}

// AppendTicket writes a ticket as it goes over a control stream.
func AppendTicket(b []byte, t Ticket) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(t.Until.Unix()))
	return append(b, t.Key[:]...)
}

// DecodeTicket is the inverse of AppendTicket. Errors wrap ErrMalformed.
func DecodeTicket(b []byte) (Ticket, error) {
	if len(b) != TicketSize || b[0] != 0 {
		return Ticket{}, fmt.Errorf("%w: ticket", ErrMalformed)
	}
	return Ticket{
		Until: time.Unix(int64(binary.BigEndian.Uint64(b)), 0),
		Key:   [sha256.Size]byte(b[8:]),
	}, nil
}

// Claim is what a request in plaintext says of itself.
type Claim struct {
	Peer  swarm.PeerID
	Until time.Time
	proof []byte
}

// SignRequest puts a claim on a path into the headers of a request.
func (t Ticket) SignRequest(h http.Header, id swarm.PeerID, path string) {
	h[headerPeer] = []string{base64.RawStdEncoding.EncodeToString([]byte(id))}
	h[headerUntil] = []string{strconv.FormatInt(t.Until.Unix(), 10)}
	h[headerProof] = []string{base64.RawStdEncoding.EncodeToString(sum(t.Key[:], requestText(path)))}
}

// ParseClaim reads the claim of a request; Ticket.Allows checks it. Errors wrap ErrMalformed.
func ParseClaim(h http.Header) (Claim, error) {
	id, err := base64.RawStdEncoding.DecodeString(h.Get(headerPeer))
	if err != nil || len(id) == 0 || len(id) > MaxPeerID {
		return Claim{}, fmt.Errorf("%w: %s", ErrMalformed, headerPeer)
	}
	until, err := strconv.ParseUint(h.Get(headerUntil), 10, 40)
	if err != nil {
		return Claim{}, fmt.Errorf("%w: %s", ErrMalformed, headerUntil)
	}
	proof, err := base64.RawStdEncoding.DecodeString(h.Get(headerProof))
	if err != nil || len(proof) != sha256.Size {
		return Claim{}, fmt.Errorf("%w: %s", ErrMalformed, headerProof)
	}
	return Claim{Peer: swarm.PeerID(id), Until: time.Unix(int64(until), 0), proof: proof}, nil
}

// Allows reports, in a time that does not depend on the proof, whether a claim on a path was made with this ticket.
func (t Ticket) Allows(c Claim, path string) bool {
	return hmac.Equal(c.proof, sum(t.Key[:], requestText(path)))
}

// SealAnswer puts into the headers of an answer the proof that who gave the ticket says so of the piece.
func (t Ticket) SealAnswer(h http.Header, path string, a Attestation) {
	h[headerSeal] = []string{base64.RawStdEncoding.EncodeToString(sum(t.Key[:], answerText(path, a)))}
}

// Sealed reports whether the answer for a path, with an attestation, is of who gave the ticket.
func (t Ticket) Sealed(h http.Header, path string, a Attestation) bool {
	seal, err := base64.RawStdEncoding.DecodeString(h.Get(headerSeal))
	return err == nil && hmac.Equal(seal, sum(t.Key[:], answerText(path, a)))
}

func requestText(path string) []byte { return append([]byte("request\x00"), path...) }

func answerText(path string, a Attestation) []byte {
	b := append([]byte("answer\x00"), path...)
	b = append(b, 0)
	b = append(b, a.Hash[:]...)
	b = append(b, a.Signature...)
	return append(b, a.Attester...)
}

func sum(key, text []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(text)
	return m.Sum(nil)
}
