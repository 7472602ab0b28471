package trust

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// operator is the key of tests, always the same.
func operator(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(b)), ed25519.SeedSize)))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func newPeer(t testing.TB) peer.ID {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func sign(t testing.TB, key ed25519.PrivateKey, serial uint64, peers ...peer.ID) []byte {
	t.Helper()
	raw, err := List{serial, peers}.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestListRoundTrip(t *testing.T) {
	a, b := newPeer(t), newPeer(t)
	for _, peers := range [][]peer.ID{nil, {a}, {a, b}, {b, a, b}} {
		l, err := Parse(sign(t, operator('a'), 7, peers...), public(operator('a')))
		if err != nil || l.Serial != 7 {
			t.Fatalf("%v, %v", l, err)
		}
		for _, p := range peers {
			if !slices.Contains(l.Peers, p) {
				t.Errorf("%v of %v", l.Peers, peers)
			}
		}
	}
}

func TestListRefuses(t *testing.T) {
	key := operator('a')
	a, b := newPeer(t), newPeer(t)
	good := string(sign(t, key, 7, a, b))
	body := good[:strings.LastIndex(good, signWord)]
	resign := func(body string) string {
		raw := sign(t, key, 1)
		signed := ed25519.Sign(key, []byte(body))
		_ = raw
		return body + signWord + b64(signed) + "\n"
	}
	lines := strings.SplitAfter(body, "\n")
	for name, text := range map[string]string{
		"empty":                 "",
		"another operator":      string(sign(t, operator('b'), 7, a, b)),
		"one more peer":         strings.Replace(good, signWord, newPeer(t).String()+"\n"+signWord, 1),
		"another serial":        strings.Replace(good, "serial 7", "serial 8", 1),
		"no signature":          body,
		"something behind":      good + "x",
		"no newline":            strings.TrimSuffix(good, "\n"),
		"signed, other header":  resign("meshd-revoked/2\nserial 7\n"),
		"signed, no serial":     resign(listHeader + "serial \n"),
		"signed, long serial":   resign(listHeader + "serial 07\n"),
		"signed, out of order":  resign(lines[0] + lines[1] + lines[3] + lines[2]),
		"signed, twice":         resign(lines[0] + lines[1] + lines[2] + lines[2]),
		"signed, no peer id":    resign(lines[0] + lines[1] + "hello\n"),
		"signed, an empty line": resign(body + "\n"),
		"too long":              resign(listHeader + "serial 7\n" + strings.Repeat(a.String()+"\n", MaxList/50)),
	} {
		if l, err := Parse([]byte(text), public(key)); !errors.Is(err, ErrList) {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
	many := make([]peer.ID, MaxPeers+1)
	for i := range many {
		many[i] = newPeer(t)
	}
	if _, err := (List{1, many}).Sign(key); err == nil {
		t.Error("too many peers are signed")
	}
	if raw, err := (List{1, many[1:]}).Sign(key); err != nil || len(raw) > MaxList {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}

func TestOperatorKey(t *testing.T) {
	text, err := NewOperatorKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseOperatorKey([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := PublicText(key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParsePublic([]byte(pub)); err != nil || !got.Equal(key.Public()) {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", "x", pub, strings.Replace(text, "MC", "MD", 1)} {
		if _, err := ParseOperatorKey([]byte(bad)); err == nil || len(bad) > 0 && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := ParsePublic([]byte(text)); err == nil {
		t.Error("a private key is taken for a public one")
	}
}

func TestParseAllow(t *testing.T) {
	a, b := newPeer(t), newPeer(t)
	got, err := ParseAllow(fmt.Sprintf("# nodes\n%s\n\n  %s # the seed\n", a, b))
	if err != nil || !slices.Equal(got, []peer.ID{a, b}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := ParseAllow(""); err != nil || got == nil {
		t.Errorf("an empty list admits nobody, not everybody: %v, %v", got, err)
	}
	if _, err := ParseAllow(a.String() + "\nhello\n"); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("%v", err)
	}
}

// What Parse takes, Sign writes again to the byte; and nothing else has the operator's signature.
func FuzzParse(f *testing.F) {
	key := operator('a')
	id, _ := peer.Decode("12D3KooWGsuQMHMUPCxWz8bZkfXPLDhfVu4EZVv1TpL3QbSYj5Fb")
	for _, l := range []List{{1, nil}, {2, []peer.ID{id}}} {
		if raw, err := l.Sign(key); err == nil {
			f.Add(raw)
		}
	}
	f.Add([]byte(listHeader + serialWord + "1\n" + signWord + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := Parse(raw, public(key))
		if err != nil {
			if !errors.Is(err, ErrList) {
				t.Errorf("%v", err)
			}
			return
		}
		if again, err := l.Sign(key); err != nil || string(again) != string(raw) {
			t.Errorf("%q becomes %q, %v", raw, again, err)
		}
	})
}

func FuzzParseAllow(f *testing.F) {
	f.Add("12D3KooWGsuQMHMUPCxWz8bZkfXPLDhfVu4EZVv1TpL3QbSYj5Fb # a\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		peers, err := ParseAllow(text)
		for _, p := range peers {
			if p.Validate() != nil || err != nil {
				t.Errorf("%q, %v", p, err)
			}
		}
	})
}
