package gossip

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"
)

// testID returns a peer id that differs for each n.
func testID(n int) peer.ID {
	return peer.ID(append([]byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}, bytes.Repeat([]byte{byte(n), byte(n >> 8)}, 16)...))
}

func testDigest(s string) digest.Digest { return digest.FromString(s) }

func fullPresence() presence {
	return presence{
		ID: testID(1), Seq: 1764000000000, Every: 12500 * time.Millisecond, Zone: "dc-1", Seed: true, Relay: true, DataHost: "10.0.0.7", DataPort: 65004,
		Inferred: true, Coord: &Coordinate{Vec: [Dimensions]float32{0.001, -0.02}, Height: 1e-5, Error: 0.25},
		Addrs: []ma.Multiaddr{
			ma.StringCast("/ip4/10.0.0.7/tcp/65003"), ma.StringCast("/ip6/2001:db8::1/tcp/65003"),
		},
	}
}

func genPresence(t *rapid.T) presence {
	p := presence{
		ID:       testID(rapid.IntRange(0, 65535).Draw(t, "id")),
		Seq:      rapid.Uint64Range(0, 1<<63).Draw(t, "seq"),
		Every:    time.Duration(rapid.IntRange(0, int(maxEvery/time.Millisecond)).Draw(t, "every")) * time.Millisecond,
		Zone:     rapid.StringMatching(`[a-z0-9._-]{1,63}`).Draw(t, "zone"),
		Seed:     rapid.Bool().Draw(t, "seed"),
		Relay:    rapid.Bool().Draw(t, "relay"),
		Leaving:  rapid.Bool().Draw(t, "leaving"),
		DataHost: rapid.SampledFrom([]string{"", "127.0.0.3", "2001:db8::1"}).Draw(t, "host"),
		DataPort: rapid.Uint16().Draw(t, "port"),
	}
	p.Inferred = rapid.Bool().Draw(t, "inferred")
	if rapid.Bool().Draw(t, "coordinate") {
		p.Coord = &Coordinate{Error: rapid.Float32Range(0, maxError).Draw(t, "error")}
		for i := range p.Coord.Vec {
			p.Coord.Vec[i] = rapid.Float32Range(-maxSeconds, maxSeconds).Draw(t, "component")
		}
	}
	for range rapid.IntRange(0, maxAddrs).Draw(t, "addrs") {
		p.Addrs = append(p.Addrs, ma.StringCast(rapid.SampledFrom([]string{
			"/ip4/10.1.2.3/tcp/1", "/ip6/::1/tcp/65003", "/dns4/a.example/tcp/65003",
		}).Draw(t, "addr")))
	}
	return p
}

func genHave(t *rapid.T) have {
	h := have{ID: testID(rapid.IntRange(0, 65535).Draw(t, "id")), Seq: rapid.Uint64Range(0, 1<<63).Draw(t, "seq"), Zone: rapid.StringMatching(`[a-z0-9._-]{1,63}`).Draw(t, "zone")}
	for range rapid.IntRange(1, maxItems).Draw(t, "items") {
		alg := rapid.SampledFrom([]digest.Algorithm{digest.SHA256, digest.SHA512}).Draw(t, "algorithm")
		h.Items = append(h.Items, item{
			Digest:  alg.FromString(rapid.String().Draw(t, "blob")),
			Holding: rapid.Bool().Draw(t, "holding"),
		})
	}
	return h
}

func TestMessageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, h := genPresence(t), genHave(t)
		for _, raw := range [][]byte{p.encode(), h.encode()} {
			if len(raw) > maxMessage {
				t.Skip("addresses too long together")
			}
			got, err := decode(raw)
			if err != nil {
				t.Fatalf("decode: %v", err)
			}
			if again := encodeAny(got); !bytes.Equal(again, raw) {
				t.Fatalf("got %x, want %x", again, raw)
			}
		}
	})
}

func TestHaveOfMaxItemsFits(t *testing.T) {
	h := have{ID: testID(1), Zone: strings.Repeat("z", maxZone)}
	for range maxItems {
		h.Items = append(h.Items, item{Digest: testDigest("x")})
	}
	if n := len(h.encode()); n > maxMessage {
		t.Errorf("a full have message has %d bytes, more than %d", n, maxMessage)
	}
}

func TestDecodeRefuses(t *testing.T) {
	p := fullPresence()
	edit := func(f func(*presence)) []byte {
		q := p
		f(&q)
		return q.encode()
	}
	good := p.encode()
	coordinate := func(f func(*Coordinate)) []byte {
		return edit(func(q *presence) { c := *p.Coord; f(&c); q.Coord = &c })
	}
	for _, row := range []struct {
		name string
		raw  []byte
	}{
		{"nothing", nil},
		{"too long", make([]byte, maxMessage+1)},
		{"unknown kind", []byte{9, 1, 2}},
		{"cut off", good[:len(good)-1]},
		{"bytes left over", append(bytes.Clone(good), 0)},
		{"no peer id", edit(func(p *presence) { p.ID = "" })},
		{"peer id that is none", edit(func(p *presence) { p.ID = "hello" })},
		{"empty zone", edit(func(p *presence) { p.Zone = "" })},
		{"zone with a slash", edit(func(p *presence) { p.Zone = "a/b" })},
		{"zone in upper case", edit(func(p *presence) { p.Zone = "A" })},
		{"zone too long", edit(func(p *presence) { p.Zone = strings.Repeat("a", 64) })},
		{"data host that is a name", edit(func(p *presence) { p.DataHost = "example.com" })},
		{"data host unspecified", edit(func(p *presence) { p.DataHost = "0.0.0.0" })},
		{"seq in two forms", []byte{kindPresence, 2, 'x', 'y', 0x80, 0x00}},
		{"too many addresses", edit(func(p *presence) {
			for range maxAddrs {
				p.Addrs = append(p.Addrs, p.Addrs[0])
			}
		})},
		{"coordinate cut off", good[:len(good)-4]},
		{"coordinate not a number", coordinate(func(c *Coordinate) { c.Vec[3] = float32(math.NaN()) })},
		{"coordinate infinite", coordinate(func(c *Coordinate) { c.Vec[0] = float32(math.Inf(-1)) })},
		{"coordinate beyond the moon", coordinate(func(c *Coordinate) { c.Vec[7] = 10.5 })},
		{"height below zero", coordinate(func(c *Coordinate) { c.Height = -1e-6 })},
		{"error below zero", coordinate(func(c *Coordinate) { c.Error = -0.1 })},
		{"error above the start", coordinate(func(c *Coordinate) { c.Error = 1.6 })},
		{"have without items", have{ID: p.ID, Zone: "a"}.encode()},
		{"have with too many items", have{ID: p.ID, Zone: "a", Items: make65()}.encode()},
	} {
		t.Run(row.name, func(t *testing.T) {
			msg, err := decode(row.raw)
			if !errors.Is(err, errMalformed) {
				t.Errorf("got %+v, %v, want errMalformed", msg, err)
			}
		})
	}
}

func make65() []item {
	items := make([]item, maxItems+1)
	for i := range items {
		items[i].Digest = testDigest("x")
	}
	return items
}

func encodeAny(msg any) []byte {
	switch m := msg.(type) {
	case presence:
		return m.encode()
	case have:
		return m.encode()
	}
	return nil
}

func FuzzDecode(f *testing.F) {
	f.Add(fullPresence().encode())
	f.Add(presence{ID: testID(2), Zone: "z", Leaving: true}.encode())
	f.Add(have{ID: testID(3), Zone: "z", Items: []item{
		{Digest: testDigest("a")}, {Digest: digest.SHA512.FromString("b"), Holding: true},
	}}.encode())
	f.Add([]byte{kindPresence, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		msg, err := decode(raw)
		if err != nil {
			if msg != nil {
				t.Fatalf("a message beside the error %v", err)
			}
			return
		}
		if again := encodeAny(msg); !bytes.Equal(again, raw) {
			t.Fatalf("%x reads as %+v, which is %x", raw, msg, again)
		}
		switch m := msg.(type) {
		case presence:
			if m.Coord != nil && !m.Coord.valid() || !ValidZone(m.Zone) || len(m.Addrs) > maxAddrs || m.ID.Validate() != nil {
				t.Fatalf("out of bounds: %+v", m)
			}
		case have:
			for _, it := range m.Items {
				if !sendable(it.Digest) {
					t.Fatalf("bad digest %s", it.Digest)
				}
			}
		}
	})
}

func FuzzDecodeHello(f *testing.F) {
	f.Add(hello{self: fullPresence()}.encode())
	f.Add(hello{self: fullPresence(), roster: []rosterEntry{{presence: fullPresence(), age: 3e9}}}.encode())
	f.Add([]byte{0xff, 0xff, 0x03})
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := decodeHello(raw)
		if err != nil {
			return
		}
		if len(h.roster) > maxRoster {
			t.Fatalf("%d members in the roster", len(h.roster))
		}
		if again := h.encode(); !bytes.Equal(again, raw) {
			t.Fatalf("%x reads as %+v, which is %x", raw, h, again)
		}
	})
}
