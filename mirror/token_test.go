package mirror

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestSealer(t *testing.T) {
	s, now := newSealer(), time.Unix(1_800_000_000, 0)
	for _, p := range []pass{
		{expires: now.Add(time.Minute)},
		{auth: "Basic dTpw", registry: "h.example:5000", expires: now.Add(time.Minute)},
		{auth: "Basic " + strings.Repeat("x", maxLogin), registry: strings.Repeat("r", maxName), expires: now.Add(time.Second)},
	} {
		token := s.seal(p)
		if got, err := s.open(token, now); err != nil || got != p {
			t.Errorf("%.40q: %v", token, err)
		}
		if len(token) > maxToken || s.seal(p) == token {
			t.Errorf("token of %d bytes, or the same twice", len(token))
		}
		for name, wrong := range map[string]string{
			"another node's": newSealer().seal(p),
			"cut":            token[:len(token)-1],
			"longer":         token + "A",
			"no mark":        strings.TrimPrefix(token, tokenMark),
			"only the mark":  tokenMark,
			"padded":         token + "=",
		} {
			if _, err := s.open(wrong, now); !errors.Is(err, errToken) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := s.open(token, p.expires); !errors.Is(err, errToken) {
			t.Errorf("expired: %v", err)
		}
	}
}

// TestSealerSeesEveryChange flips each byte of a token.
func TestSealerSeesEveryChange(t *testing.T) {
	s, now := newSealer(), time.Now()
	token := s.seal(pass{auth: "Basic dTpw", registry: "h.example", expires: now.Add(time.Minute)})
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, tokenMark))
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		raw[i] ^= 1
		if _, err := s.open(tokenMark+base64.RawURLEncoding.EncodeToString(raw), now); !errors.Is(err, errToken) {
			t.Fatalf("byte %d: %v", i, err)
		}
		raw[i] ^= 1
	}
}

// FuzzToken: only what was sealed here opens, whatever comes, and what it says is what was sealed.
func FuzzToken(f *testing.F) {
	s, now := newSealer(), time.Unix(1_800_000_000, 0)
	f.Add("meshd.", "h.example", "Basic dTpw")
	f.Add(newSealer().seal(pass{auth: "Basic dTpw", expires: now.Add(time.Hour)}), "", "")
	f.Add("meshd.AAAA", strings.Repeat("r", 300), "\x00")
	f.Fuzz(func(t *testing.T, token, registry, auth string) {
		if _, err := s.open(token, now); !errors.Is(err, errToken) {
			t.Fatalf("%q opens: %v", token, err)
		}
		if p, err := parsePass([]byte(token)); err == nil && len(p.registry)+len(p.auth) > len(token) {
			t.Fatalf("%q says more than it has", token)
		}
		want := pass{auth: auth, registry: registry, expires: now.Add(time.Minute)}
		sealed := s.seal(want)
		if got, err := s.open(sealed, now); len(sealed) <= maxToken && (err != nil || got != want) {
			t.Fatalf("%v, %v", got, err)
		}
	})
}
