package wire

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

// Frame types.
const (
	typeCard byte = iota + 1
	typeHello
	typeHave
	typeBye
	typeJoin
	typeMembers
	typeWant
	typeRefuse
	typeClaim
	typeVerdict
)

// Flag bits.
const (
	cardSeed  = 1
	cardRelay = 2

	helloNoRange = 1
	helloWant    = 2
	helloReply   = 4

	byeFull    = 1
	joinWant   = 1
	denialDone = 1
)

// Forms of a bitmap.
const (
	bitmapEmpty byte = iota
	bitmapFull
	bitmapRaw
)

// AppendMessage appends the frame of a message to dst. It fails, and appends nothing, on a message that a
// decoder would refuse.
func AppendMessage(dst []byte, m swarm.Message) ([]byte, error) {
	var e encoder
	switch m := m.(type) {
	case swarm.Hello:
		e.hello(m)
	case swarm.Have:
		e.byte(typeHave)
		e.digest(m.Digest)
		e.byte(m.Load)
		e.units(m.Pieces)
	case swarm.Bye:
		e.byte(typeBye)
		e.digest(m.Digest)
		e.byte(flag(m.Full, byeFull))
	case swarm.Join:
		e.byte(typeJoin)
		e.digest(m.Digest)
		e.byte(flag(m.Want, joinWant))
	case swarm.Members:
		e.members(m)
	case swarm.Want:
		e.byte(typeWant)
		e.digest(m.Digest)
		e.size(m.Size)
		e.origin(m.Origin)
	case swarm.Refuse:
		e.byte(typeRefuse)
		e.digest(m.Digest)
		e.between("kind", byte(m.Kind), byte(swarm.OriginUnreachable), byte(swarm.OriginInvalid))
	case swarm.Claim:
		e.byte(typeClaim)
		e.digest(m.Digest)
		e.between("scope", byte(m.Scope), byte(swarm.ScopeOrigin), byte(swarm.ScopeZone))
		e.between("state", byte(m.State), byte(swarm.ClaimWant), byte(swarm.ClaimRelease))
		e.units(m.Units)
	case swarm.Verdict:
		e.verdict(m)
	default:
		return dst, fmt.Errorf("encode %T: %w", m, ErrMalformed)
	}
	return e.frame(dst)
}

// AppendCard appends the frame of a card to dst. It fails, and appends nothing, on a card that a decoder would
// refuse.
func AppendCard(dst []byte, c Card) ([]byte, error) {
	var e encoder
	e.byte(typeCard)
	e.zone(c.Zone)
	e.byte(flag(c.Seed, cardSeed) | flag(c.Relay, cardRelay))
	e.number(uint64(c.DataPort))
	return e.frame(dst)
}

// encoder collects type and body of one frame; the first error sticks.
type encoder struct {
	b   []byte
	err error
}

func (e *encoder) frame(dst []byte) ([]byte, error) {
	if e.err == nil && len(e.b) > MaxFrame {
		e.err = fmt.Errorf("%w: frame of %d bytes", ErrMalformed, len(e.b))
	}
	if e.err != nil {
		return dst, fmt.Errorf("encode frame: %w", e.err)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.b)))
	return append(dst, e.b...), nil
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
}

func (e *encoder) byte(b byte) { e.b = append(e.b, b) }

func (e *encoder) number(n uint64) { e.b = binary.AppendUvarint(e.b, n) }

func (e *encoder) between(what string, v, low, high byte) {
	if v < low || v > high {
		e.fail("%s %d", what, v)
	}
	e.byte(v)
}

func (e *encoder) string(what, s string, limit int) {
	if len(s) > limit {
		e.fail("%s of %d bytes", what, len(s))
		return
	}
	e.number(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) zone(z string) {
	if !validZone(z) {
		e.fail("zone %q", z)
	}
	e.string("zone", z, MaxZone)
}

func (e *encoder) peer(id swarm.PeerID) {
	if id == "" {
		e.fail("no peer id")
	}
	e.string("peer id", string(id), MaxPeerID)
}

func (e *encoder) digest(d digest.Digest) {
	alg, err := algorithmCode(d)
	if err != nil {
		e.fail("digest %q", d)
		return
	}
	e.byte(alg)
	raw, err := hex.DecodeString(d.Encoded())
	if err != nil {
		e.fail("digest %q", d)
	}
	e.b = append(e.b, raw...)
}

func (e *encoder) size(n int64) {
	if n < -1 || n > swarm.MaxBlobSize {
		e.fail("size %d", n)
	}
	e.number(uint64(n + 1))
}

func (e *encoder) units(us []swarm.Units) {
	if len(us) > MaxUnits {
		e.fail("%d runs of units", len(us))
		return
	}
	e.number(uint64(len(us)))
	for _, u := range us {
		e.unit(u)
	}
}

func (e *encoder) unit(u swarm.Units) {
	if !validUnits(uint64(u.First), uint64(u.Count)) {
		e.fail("units %d+%d", u.First, u.Count)
	}
	e.number(uint64(u.First))
	e.number(uint64(u.Count))
}

func (e *encoder) origin(o swarm.OriginRef) {
	if !ValidOrigin(o) {
		e.fail("origin %q %q", o.Registry, o.Repository)
	}
	e.string("registry", o.Registry, MaxName)
	e.string("repository", o.Repository, MaxName)
}

func (e *encoder) hello(m swarm.Hello) {
	e.byte(typeHello)
	e.digest(m.Digest)
	e.size(m.Size)
	e.byte(flag(m.NoRange, helloNoRange) | flag(m.Want, helloWant) | flag(m.Reply, helloReply))
	e.byte(m.Load)
	n := swarm.LayoutOf(m.Size).Pieces()
	switch {
	case m.Size < 0 && m.Have.Len() == 0:
	case m.Have.Len() == 0: // a sender that knows the size and has no room yet
		e.byte(bitmapEmpty)
	case m.Have.Len() != n:
		e.fail("bitmap of %d pieces for %d bytes", m.Have.Len(), m.Size)
	case m.Have.Count() == 0:
		e.byte(bitmapEmpty)
	case m.Have.Full():
		e.byte(bitmapFull)
	default:
		e.byte(bitmapRaw)
		e.b = append(e.b, m.Have.Bytes()...)
	}
}

func (e *encoder) members(m swarm.Members) {
	e.byte(typeMembers)
	e.digest(m.Digest)
	if len(m.Peers) > MaxMembers {
		e.fail("%d members", len(m.Peers))
		return
	}
	e.number(uint64(len(m.Peers)))
	for _, p := range m.Peers {
		e.peer(p.ID)
		e.zone(p.Zone)
	}
}

func (e *encoder) verdict(m swarm.Verdict) {
	e.byte(typeVerdict)
	e.digest(m.Digest)
	e.between("scope", byte(m.Scope), byte(swarm.ScopeOrigin), byte(swarm.ScopeZone))
	e.units(m.Granted)
	if len(m.Denied) > MaxDenials {
		e.fail("%d denials", len(m.Denied))
		return
	}
	e.number(uint64(len(m.Denied)))
	for _, d := range m.Denied {
		e.unit(d.Units)
		e.peer(d.Holder)
		e.byte(flag(d.Done, denialDone))
	}
}

func flag(on bool, bit byte) byte {
	if on {
		return bit
	}
	return 0
}
