package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"
)

func genDigest() *rapid.Generator[digest.Digest] {
	return rapid.Custom(func(t *rapid.T) digest.Digest {
		alg := rapid.SampledFrom([]digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512}).Draw(t, "alg")
		return alg.FromBytes(rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "content"))
	})
}

func genUnit() *rapid.Generator[swarm.Units] {
	return rapid.Custom(func(t *rapid.T) swarm.Units {
		first := rapid.Uint32Range(0, maxUnit-1).Draw(t, "first")
		return swarm.Units{First: first, Count: rapid.Uint32Range(1, maxUnit-first).Draw(t, "count")}
	})
}

func genUnits(t *rapid.T, label string) []swarm.Units {
	us := rapid.SliceOfN(genUnit(), 0, 20).Draw(t, label)
	if len(us) == 0 {
		return nil
	}
	return us
}

func genPeer(t *rapid.T) swarm.PeerID {
	return swarm.PeerID(rapid.SliceOfN(rapid.Byte(), 1, MaxPeerID).Draw(t, "peer"))
}

func genZone(t *rapid.T) string { return rapid.StringMatching(`[!-~]{0,64}`).Draw(t, "zone") }

func genSize(t *rapid.T) int64 {
	return rapid.OneOf(rapid.Int64Range(-1, 4<<20), rapid.Int64Range(4<<20, 64<<30),
		rapid.Just(int64(swarm.MaxBlobSize))).Draw(t, "size")
}

func genScope(t *rapid.T) swarm.Scope {
	return rapid.SampledFrom([]swarm.Scope{swarm.ScopeOrigin, swarm.ScopeZone}).Draw(t, "scope")
}

func genBitmap(t *rapid.T, n int) swarm.Bitmap {
	switch rapid.IntRange(0, 2).Draw(t, "form") {
	case 0:
		return swarm.NewBitmap(n)
	case 1:
		return swarm.FullBitmap(n)
	}
	b := swarm.NewBitmap(n)
	for _, i := range rapid.SliceOfN(rapid.IntRange(0, max(n-1, 0)), 0, 30).Draw(t, "pieces") {
		b.Set(swarm.PieceIndex(i))
	}
	return b
}

func genMessage(t *rapid.T) swarm.Message {
	d := genDigest().Draw(t, "digest")
	yes := func(l string) bool { return rapid.Bool().Draw(t, l) }
	switch rapid.IntRange(0, 8).Draw(t, "kind") {
	case 0:
		size := genSize(t)
		m := swarm.Hello{
			Digest: d, Size: size, NoRange: yes("norange"), Want: yes("want"), Reply: yes("reply"),
			Load: rapid.Byte().Draw(t, "load"),
		}
		if size >= 0 {
			m.Have = genBitmap(t, swarm.LayoutOf(size).Pieces())
		}
		return m
	case 1:
		return swarm.Have{Digest: d, Load: rapid.Byte().Draw(t, "load"), Pieces: genUnits(t, "pieces")}
	case 2:
		return swarm.Bye{Digest: d, Full: yes("full")}
	case 3:
		return swarm.Join{Digest: d, Want: yes("want")}
	case 4:
		m := swarm.Members{Digest: d}
		for range rapid.IntRange(0, 40).Draw(t, "members") {
			m.Peers = append(m.Peers, swarm.MemberRef{ID: genPeer(t), Zone: genZone(t)})
		}
		return m
	case 5:
		return swarm.Want{Digest: d, Size: genSize(t), Origin: swarm.OriginRef{
			Registry:   rapid.SampledFrom([]string{"docker.io", "127.0.0.1:5000", "[::1]:443", "Reg-1.example"}).Draw(t, "registry"),
			Repository: rapid.StringMatching(`[a-z0-9]{1,9}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}(/[a-z0-9]{1,9}){0,3}`).Draw(t, "repository"),
		}}
	case 6:
		return swarm.Refuse{Digest: d, Kind: swarm.OriginErrorKind(rapid.IntRange(1, 7).Draw(t, "kind"))}
	case 7:
		return swarm.Claim{
			Digest: d, Scope: genScope(t), State: swarm.ClaimState(rapid.IntRange(1, 4).Draw(t, "state")),
			Units: genUnits(t, "units"),
		}
	default:
		m := swarm.Verdict{Digest: d, Scope: genScope(t), Granted: genUnits(t, "granted")}
		for range rapid.IntRange(0, 20).Draw(t, "denials") {
			m.Denied = append(m.Denied, swarm.Denial{Units: genUnit().Draw(t, "units"), Holder: genPeer(t), Done: yes("done")})
		}
		return m
	}
}

func TestMessageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genMessage(t)
		frame, err := AppendMessage(nil, want)
		if err != nil {
			t.Fatalf("encode %+v: %v", want, err)
		}
		r := bufio.NewReader(bytes.NewReader(frame))
		body, err := ReadFrame(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeMessage(body)
		if err != nil {
			t.Fatalf("decode %+v: %v", want, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
		if _, err := ReadFrame(r, body); err != io.EOF {
			t.Fatalf("after the last frame: %v", err)
		}
	})
}

func TestCardRoundTrip(t *testing.T) {
	for _, want := range []Card{{}, {Zone: "eu-1", Seed: true, DataPort: 65004}, {Zone: strings.Repeat("z", MaxZone), Relay: true, DataPort: 65535}} {
		frame, err := AppendCard(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		body, err := ReadFrame(bufio.NewReader(bytes.NewReader(frame)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeCard(body); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if m, err := DecodeMessage(body); !errors.Is(err, ErrMalformed) {
			t.Errorf("a card decoded as message %v, %v", m, err)
		}
	}
}

var someDigest = digest.FromString("x")

func TestEncodeRefuses(t *testing.T) {
	long := swarm.Units{First: maxUnit, Count: 1}
	for name, m := range map[string]swarm.Message{
		"nil":                 nil,
		"no digest":           swarm.Bye{},
		"upper case digest":   swarm.Bye{Digest: digest.Digest(strings.ToUpper(string(someDigest)))},
		"unknown algorithm":   swarm.Bye{Digest: "md5:d41d8cd98f00b204e9800998ecf8427e"},
		"size below -1":       swarm.Hello{Digest: someDigest, Size: -2},
		"size above the max":  swarm.Hello{Digest: someDigest, Size: swarm.MaxBlobSize + 1},
		"bitmap of other len": swarm.Hello{Digest: someDigest, Size: 5, Have: swarm.NewBitmap(2)},
		"bitmap without size": swarm.Hello{Digest: someDigest, Size: -1, Have: swarm.NewBitmap(2)},
		"empty run":           swarm.Have{Digest: someDigest, Pieces: []swarm.Units{{First: 1}}},
		"run past the end":    swarm.Have{Digest: someDigest, Pieces: []swarm.Units{long}},
		"too many runs":       swarm.Have{Digest: someDigest, Pieces: make([]swarm.Units, MaxUnits+1)},
		"no peer id":          swarm.Members{Digest: someDigest, Peers: []swarm.MemberRef{{Zone: "a"}}},
		"zone with a space":   swarm.Members{Digest: someDigest, Peers: []swarm.MemberRef{{ID: "p", Zone: "a b"}}},
		"no origin":           swarm.Want{Digest: someDigest},
		"refusal kind 0":      swarm.Refuse{Digest: someDigest},
		"scope 0":             swarm.Claim{Digest: someDigest, State: swarm.ClaimWant},
		"state 9":             swarm.Claim{Digest: someDigest, Scope: swarm.ScopeZone, State: 9},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := AppendMessage([]byte("kept"), m)
			if !errors.Is(err, ErrMalformed) || string(b) != "kept" {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
}

func TestReadFrameRefuses(t *testing.T) {
	for name, row := range map[string]struct {
		in   string
		want error
	}{
		"empty":           {"", io.EOF},
		"cut in length":   {"\x80", io.ErrUnexpectedEOF},
		"cut in body":     {"\x05abc", io.ErrUnexpectedEOF},
		"no body":         {"\x05", io.ErrUnexpectedEOF},
		"zero length":     {"\x00", ErrMalformed},
		"long form":       {"\x81\x00a", ErrMalformed},
		"over the bound":  {"\x81\x80\x10", ErrMalformed},
		"endless length":  {"\xff\xff\xff\xff", ErrMalformed},
		"gigantic length": {"\xff\xff\xff\xff\x0f", ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadFrame(bufio.NewReader(strings.NewReader(row.in)), nil)
			if !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
}

func TestValidOrigin(t *testing.T) {
	for _, o := range []swarm.OriginRef{
		{Registry: "docker.io", Repository: "library/nginx"},
		{Registry: "localhost:5000", Repository: "a"},
		{Registry: "[fe80::1]:5000", Repository: "a/b-c/d__e"},
		{Registry: "10.0.0.1", Repository: "a--b/c.d"},
	} {
		if !ValidOrigin(o) {
			t.Errorf("%v refused", o)
		}
	}
	for _, o := range []swarm.OriginRef{
		{},
		{Registry: "docker.io"},
		{Repository: "a"},
		{Registry: "docker.io/x", Repository: "a"},
		{Registry: "http://x", Repository: "a"},
		{Registry: "a:b", Repository: "a"},
		{Registry: "a:", Repository: "a"},
		{Registry: "a:123456", Repository: "a"},
		{Registry: "-a", Repository: "a"},
		{Registry: "a..b", Repository: "a"},
		{Registry: "[", Repository: "a"},
		{Registry: "[]", Repository: "a"},
		{Registry: "user@host", Repository: "a"},
		{Registry: "a", Repository: "A"},
		{Registry: "a", Repository: "../etc"},
		{Registry: "a", Repository: "a//b"},
		{Registry: "a", Repository: "a/"},
		{Registry: "a", Repository: "/a"},
		{Registry: "a", Repository: "a___b"},
		{Registry: "a", Repository: "a._b"},
		{Registry: "a", Repository: "a?b"},
		{Registry: "a", Repository: "a-"},
		{Registry: "a", Repository: strings.Repeat("a", 256)},
		{Registry: strings.Repeat("a", 256), Repository: "a"},
	} {
		if ValidOrigin(o) {
			t.Errorf("%q %q accepted", o.Registry, o.Repository)
		}
	}
}

// FuzzDecodeMessage checks that whatever decodes has exactly one spelling: encoding it gives the input back.
func FuzzDecodeMessage(f *testing.F) {
	half := swarm.NewBitmap(20)
	half.Set(3)
	for _, m := range []swarm.Message{
		swarm.Hello{Digest: someDigest, Size: -1, Want: true},
		swarm.Hello{Digest: someDigest, Size: 20 << 20, Have: swarm.FullBitmap(40)},
		swarm.Hello{Digest: someDigest, Size: 10 << 20, Have: half, Reply: true},
		swarm.Have{Digest: someDigest, Load: 3, Pieces: []swarm.Units{{First: 1, Count: 300}}},
		swarm.Bye{Digest: digest.SHA512.FromString("x")},
		swarm.Join{Digest: someDigest, Want: true},
		swarm.Members{Digest: someDigest, Peers: []swarm.MemberRef{{ID: "peer", Zone: "a"}}},
		swarm.Want{Digest: someDigest, Size: 7, Origin: swarm.OriginRef{Registry: "docker.io", Repository: "library/nginx"}},
		swarm.Refuse{Digest: someDigest, Kind: swarm.OriginNotFound},
		swarm.Claim{Digest: someDigest, Scope: swarm.ScopeOrigin, State: swarm.ClaimWant, Units: []swarm.Units{{First: 0, Count: 4}}},
		swarm.Verdict{Digest: someDigest, Scope: swarm.ScopeZone, Denied: []swarm.Denial{{Units: swarm.Units{First: 2, Count: 1}, Holder: "peer", Done: true}}},
	} {
		frame, err := AppendMessage(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		body, _ := ReadFrame(bufio.NewReader(bytes.NewReader(frame)), nil)
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > MaxFrame {
			return
		}
		m, err := DecodeMessage(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error %v does not wrap ErrMalformed", err)
			}
			return
		}
		frame, err := AppendMessage(nil, m)
		if err != nil {
			t.Fatalf("decoded %+v cannot be encoded: %v", m, err)
		}
		back, err := ReadFrame(bufio.NewReader(bytes.NewReader(frame)), nil)
		if err != nil || !bytes.Equal(back, b) {
			t.Fatalf("%+v: encoded as %x, came as %x (%v)", m, back, b, err)
		}
	})
}

// FuzzReadFrame checks that a reader never takes more than MaxFrame and never fails in an unknown way.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x03abc\x01x"))
	f.Add([]byte("\x80\x80\x10"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		var buf []byte
		for {
			body, err := ReadFrame(r, buf)
			if err == nil {
				if len(body) == 0 || len(body) > MaxFrame {
					t.Fatalf("frame of %d bytes", len(body))
				}
				buf = body
				continue
			}
			if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
	})
}

func BenchmarkAppendHave(b *testing.B) {
	m := swarm.Have{Digest: someDigest, Pieces: []swarm.Units{{First: 10, Count: 3}, {First: 50, Count: 1}}}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendMessage(buf, m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeHello(b *testing.B) {
	have := swarm.NewBitmap(1024)
	for i := swarm.PieceIndex(0); i < 1024; i += 2 {
		have.Set(i)
	}
	frame, err := AppendMessage(nil, swarm.Hello{Digest: someDigest, Size: 1 << 30, Have: have})
	if err != nil {
		b.Fatal(err)
	}
	body, _ := ReadFrame(bufio.NewReader(bytes.NewReader(frame)), nil)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeMessage(body); err != nil {
			b.Fatal(err)
		}
	}
}
