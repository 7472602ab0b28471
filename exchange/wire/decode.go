package wire

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
)

// DecodeMessage decodes the type and body of a frame, as ReadFrame returns them. The message shares nothing
// with b. Errors wrap ErrMalformed.
func DecodeMessage(b []byte) (swarm.Message, error) {
	d := decoder{b: b}
	kind := d.byte()
	if d.err != nil {
		return nil, fmt.Errorf("decode message: %w", d.err)
	}
	m := d.message(kind)
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("decode message of type %d: %w", kind, err)
	}
	return m, nil
}

// DecodeCard decodes the type and body of a Card's frame. Errors wrap ErrMalformed.
func DecodeCard(b []byte) (Card, error) {
	d := decoder{b: b}
	if k := d.byte(); k != typeCard {
		d.fail("type %d in place of a card", k)
	}
	var c Card
	c.Zone = d.zone()
	f := d.flags(cardSeed | cardRelay)
	c.Seed, c.Relay = f&cardSeed != 0, f&cardRelay != 0
	c.DataPort = uint16(d.number(1<<16 - 1))
	if err := d.end(); err != nil {
		return Card{}, fmt.Errorf("decode card: %w", err)
	}
	return c, nil
}

// decoder takes fields off the front of b; the first error sticks and everything after it is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) message(kind byte) swarm.Message {
	switch kind {
	case typeHello:
		return d.hello()
	case typeHave:
		return swarm.Have{Digest: d.digest(), Load: d.byte(), Pieces: d.units()}
	case typeBye:
		return swarm.Bye{Digest: d.digest(), Full: d.flags(byeFull) != 0}
	case typeJoin:
		return swarm.Join{Digest: d.digest(), Want: d.flags(joinWant) != 0}
	case typeMembers:
		return d.members()
	case typeWant:
		return swarm.Want{Digest: d.digest(), Size: d.size(), Origin: d.origin()}
	case typeRefuse:
		return swarm.Refuse{Digest: d.digest(), Kind: swarm.OriginErrorKind(
			d.between("kind", byte(swarm.OriginUnreachable), byte(swarm.OriginInvalid)))}
	case typeClaim:
		return swarm.Claim{
			Digest: d.digest(),
			Scope:  d.scope(),
			State:  swarm.ClaimState(d.between("state", byte(swarm.ClaimWant), byte(swarm.ClaimRelease))),
			Units:  d.units(),
		}
	case typeVerdict:
		return d.verdict()
	}
	d.fail("unknown type")
	return nil
}

// end returns the first error, or one if bytes are left.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes too many", len(d.b))
	}
	return d.err
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
	d.b = nil
}

// take returns the next n bytes, which alias the input.
func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail("cut short")
	}
	if d.err != nil {
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

// number reads a uvarint in its shortest form that is at most limit.
func (d *decoder) number(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 || v > limit {
		d.fail("bad number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) flags(known byte) byte {
	f := d.byte()
	if f&^known != 0 {
		d.fail("flags %#x", f)
	}
	return f & known
}

func (d *decoder) between(what string, low, high byte) byte {
	v := d.byte()
	if v < low || v > high {
		d.fail("%s %d", what, v)
	}
	return v
}

func (d *decoder) scope() swarm.Scope {
	return swarm.Scope(d.between("scope", byte(swarm.ScopeOrigin), byte(swarm.ScopeZone)))
}

func (d *decoder) string(limit int) string { return string(d.take(int(d.number(uint64(limit))))) }

func (d *decoder) zone() string {
	z := d.string(MaxZone)
	if !validZone(z) {
		d.fail("zone %q", z)
	}
	return z
}

func (d *decoder) peer() swarm.PeerID {
	id := d.string(MaxPeerID)
	if id == "" {
		d.fail("no peer id")
	}
	return swarm.PeerID(id)
}

func (d *decoder) digest() digest.Digest {
	alg, size := algorithmOf(d.byte())
	if size == 0 {
		d.fail("unknown digest algorithm")
	}
	raw := d.take(size)
	if d.err != nil {
		return ""
	}
	return digest.NewDigestFromEncoded(alg, hex.EncodeToString(raw))
}

func (d *decoder) size() int64 { return int64(d.number(swarm.MaxBlobSize+1)) - 1 }

func (d *decoder) units() []swarm.Units {
	n := d.count(MaxUnits, 2)
	if n == 0 {
		return nil
	}
	us := make([]swarm.Units, n)
	for i := range us {
		us[i] = d.unit()
	}
	return us
}

// count reads the length of a list whose elements take at least least bytes each.
func (d *decoder) count(limit, least int) int {
	n := int(d.number(uint64(limit)))
	if n*least > len(d.b) {
		d.fail("cut short")
		return 0
	}
	return n
}

func (d *decoder) unit() swarm.Units {
	first, count := d.number(maxUnit), d.number(maxUnit)
	if !validUnits(first, count) {
		d.fail("units %d+%d", first, count)
	}
	return swarm.Units{First: uint32(first), Count: uint32(count)}
}

func (d *decoder) origin() swarm.OriginRef {
	o := swarm.OriginRef{Registry: d.string(MaxName), Repository: d.string(MaxName)}
	if !ValidOrigin(o) {
		d.fail("origin %q %q", o.Registry, o.Repository)
	}
	return o
}

func (d *decoder) hello() swarm.Message {
	m := swarm.Hello{Digest: d.digest(), Size: d.size()}
	f := d.flags(helloNoRange | helloWant | helloReply)
	m.NoRange, m.Want, m.Reply = f&helloNoRange != 0, f&helloWant != 0, f&helloReply != 0
	m.Load = d.byte()
	if d.err == nil && m.Size >= 0 {
		m.Have = d.bitmap(swarm.LayoutOf(m.Size).Pieces())
	}
	return m
}

func (d *decoder) bitmap(n int) swarm.Bitmap {
	switch form := d.byte(); form {
	case bitmapEmpty:
		return swarm.NewBitmap(n)
	case bitmapFull:
		if n == 0 {
			d.fail("full bitmap of no pieces")
		}
		return swarm.FullBitmap(n)
	case bitmapRaw:
		raw := d.take((n + 7) / 8)
		if d.err != nil {
			return swarm.Bitmap{}
		}
		b := swarm.BitmapFromBytes(n, raw)
		if c := b.Count(); c == 0 || c == n || n%8 != 0 && raw[len(raw)-1]>>(n%8) != 0 {
			d.fail("bitmap of %d pieces", n)
		}
		return b
	default:
		d.fail("bitmap form %d", form)
		return swarm.Bitmap{}
	}
}

func (d *decoder) members() swarm.Message {
	m := swarm.Members{Digest: d.digest()}
	for range d.count(MaxMembers, 3) {
		m.Peers = append(m.Peers, swarm.MemberRef{ID: d.peer(), Zone: d.zone()})
	}
	return m
}

func (d *decoder) verdict() swarm.Message {
	m := swarm.Verdict{Digest: d.digest(), Scope: d.scope(), Granted: d.units()}
	for range d.count(MaxDenials, 5) {
		m.Denied = append(m.Denied, swarm.Denial{
			Units:  d.unit(),
			Holder: d.peer(),
			Done:   d.flags(denialDone) != 0,
		})
	}
	return m
}
