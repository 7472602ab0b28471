package gossip

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/opencontainers/go-digest"
)

// Bounds of messages.
const (
	maxMessage = 4 << 10 // bytes
	maxPeerID  = 64      // bytes
	maxZone    = 63      // bytes
	maxAddrs   = 8
	maxAddr    = 256 // bytes of one multiaddr
	maxItems   = 64
	maxEvery   = time.Hour // between two presence messages
)

const (
	kindPresence = 1
	kindHave     = 2
)

const (
	flagSeed = 1 << iota
	flagRelay
	flagLeaving
	flagInferred
	flagCoordinate
	flagsKnown = flagSeed | flagRelay | flagLeaving | flagInferred | flagCoordinate
)

var errMalformed = errors.New("malformed gossip message")

// presence is what a node says of itself.
type presence struct {
	ID       peer.ID
	Seq      uint64        // grows with each; Unix milliseconds, so that it grows over restarts too
	Every    time.Duration // until the next one, in whole milliseconds, not counting jitter
	Zone     string
	Inferred bool // nobody gave it the zone: it found out by itself, or has not yet
	Seed     bool
	Relay    bool
	Leaving  bool
	DataHost string // IP that the data port listens on; "" = the one the peer is reached at
	DataPort uint16
	Coord    *Coordinate    // nil = none yet
	Addrs    []ma.Multiaddr // without /p2p
}

// have says that a node holds blobs, or that they are on the way into its zone.
type have struct {
	ID    peer.ID
	Seq   uint64 // as in presence: what is said again is another message
	Zone  string
	Items []item
}

// item is one blob of a have message.
type item struct {
	Digest  digest.Digest
	Holding bool // false: importing
}

func (p presence) encode() []byte {
	b := []byte{kindPresence}
	b = appendBytes(b, string(p.ID))
	b = binary.AppendUvarint(b, p.Seq)
	b = binary.AppendUvarint(b, uint64(p.Every/time.Millisecond))
	var flags byte
	for _, f := range []struct {
		on  bool
		bit byte
	}{
		{p.Seed, flagSeed},
		{p.Relay, flagRelay},
		{p.Leaving, flagLeaving},
		{p.Inferred, flagInferred},
		{p.Coord != nil, flagCoordinate},
	} {
		if f.on {
			flags |= f.bit
		}
	}
	b = append(b, flags)
	b = appendBytes(b, p.Zone)
	b = appendBytes(b, p.DataHost)
	b = binary.AppendUvarint(b, uint64(p.DataPort))
	b = binary.AppendUvarint(b, uint64(len(p.Addrs)))
	for _, a := range p.Addrs {
		b = appendBytes(b, string(a.Bytes()))
	}
	if p.Coord != nil {
		b = p.Coord.append(b)
	}
	return b
}

func (h have) encode() []byte {
	b := []byte{kindHave}
	b = appendBytes(b, string(h.ID))
	b = binary.AppendUvarint(b, h.Seq)
	b = appendBytes(b, h.Zone)
	b = binary.AppendUvarint(b, uint64(len(h.Items)))
	for _, it := range h.Items {
		state := byte(1)
		if it.Holding {
			state = 2
		}
		b = append(b, state)
		sum, _ := hex.DecodeString(it.Digest.Encoded()) // checked by sendable or decode
		if it.Digest.Algorithm() == digest.SHA512 {
			b = append(b, 2)
		} else {
			b = append(b, 1)
		}
		b = append(b, sum...)
	}
	return b
}

// sendable reports whether a digest has a form on the wire.
func sendable(d digest.Digest) bool {
	return d.Validate() == nil && (d.Algorithm() == digest.SHA256 || d.Algorithm() == digest.SHA512)
}

// decode reads a message: a presence or a have.
func decode(b []byte) (any, error) {
	if len(b) == 0 || len(b) > maxMessage {
		return nil, fmt.Errorf("%w: %d bytes", errMalformed, len(b))
	}
	r := reader{b: b[1:]}
	var msg any
	switch b[0] {
	case kindPresence:
		msg = r.presence()
	case kindHave:
		msg = r.have()
	default:
		return nil, fmt.Errorf("%w: kind %d", errMalformed, b[0])
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("bytes left over")
	}
	if r.err != nil {
		return nil, r.err
	}
	return msg, nil
}

// reader takes fields off b; after the first error it returns zero values.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errMalformed, what)
	}
	r.b = nil
}

func (r *reader) uvarint(what string, limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit || n > 1 && r.b[n-1] == 0 { // the last: one form for each number
		r.fail(what)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) take(what string, n int) []byte {
	if len(r.b) < n {
		r.fail(what)
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) bytes(what string, limit uint64) []byte {
	return r.take(what, int(r.uvarint(what, limit)))
}

func (r *reader) byte(what string) byte {
	if b := r.take(what, 1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) peerID() peer.ID {
	raw := r.bytes("peer id", maxPeerID)
	id, err := peer.IDFromBytes(raw)
	if err != nil {
		r.fail("peer id")
	}
	return id
}

func (r *reader) zone() string {
	z := string(r.bytes("zone", maxZone))
	if !ValidZone(z) {
		r.fail("zone")
	}
	return z
}

func (r *reader) presence() presence {
	p := presence{ID: r.peerID(), Seq: r.uvarint("seq", 1<<63)}
	p.Every = time.Duration(r.uvarint("interval", uint64(maxEvery/time.Millisecond))) * time.Millisecond
	flags := r.byte("flags")
	if flags&^flagsKnown != 0 {
		r.fail("flags")
	}
	p.Seed, p.Relay, p.Leaving = flags&flagSeed != 0, flags&flagRelay != 0, flags&flagLeaving != 0
	p.Inferred = flags&flagInferred != 0
	p.Zone = r.zone()
	p.DataHost = string(r.bytes("data host", 45))
	if a, err := netip.ParseAddr(p.DataHost); p.DataHost != "" && (err != nil || a.String() != p.DataHost || a.IsUnspecified()) {
		r.fail("data host")
	}
	p.DataPort = uint16(r.uvarint("data port", 65535))
	for range r.uvarint("addresses", maxAddrs) {
		a, err := ma.NewMultiaddrBytes(r.bytes("address", maxAddr))
		if err != nil || len(a) == 0 {
			r.fail("address")
			break
		}
		p.Addrs = append(p.Addrs, a)
	}
	if flags&flagCoordinate != 0 {
		p.Coord = r.coordinate()
	}
	return p
}

func (r *reader) have() have {
	h := have{ID: r.peerID(), Seq: r.uvarint("seq", 1<<63), Zone: r.zone()}
	n := r.uvarint("items", maxItems)
	if n == 0 {
		r.fail("items")
	}
	for range n {
		state, alg := r.byte("state"), r.byte("algorithm")
		if state != 1 && state != 2 {
			r.fail("state")
		}
		var d digest.Digest
		switch alg {
		case 1:
			d = digest.NewDigestFromBytes(digest.SHA256, r.take("sum", 32))
		case 2:
			d = digest.NewDigestFromBytes(digest.SHA512, r.take("sum", 64))
		default:
			r.fail("algorithm")
		}
		if r.err != nil {
			break
		}
		h.Items = append(h.Items, item{Digest: d, Holding: state == 2})
	}
	return h
}

// ValidZone reports whether z may name a zone: 1 to 63 of a-z, 0-9, '.', '-', '_'.
func ValidZone(z string) bool {
	if len(z) == 0 || len(z) > maxZone {
		return false
	}
	for _, c := range []byte(z) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func appendBytes(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
