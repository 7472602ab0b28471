package file

import (
	"net/netip"
	"net/url"
	"testing"
)

func hosts(t testing.TB, patterns ...string) Hosts {
	t.Helper()
	var hs Hosts
	for _, s := range patterns {
		h, err := ParseHost(s)
		if err != nil {
			t.Fatal(err)
		}
		hs = append(hs, h)
	}
	return hs
}

func TestHosts(t *testing.T) {
	for _, row := range []struct {
		pattern, url string
		want         bool
	}{
		{"a.example", "http://a.example/", true},
		{"a.example", "https://A.Example./", true},
		{"A.example", "http://a.example:80/", true},
		{"a.example", "http://a.example:8080/", false},
		{"a.example", "https://a.example:80/", false},
		{"a.example:8080", "http://a.example:8080/", true},
		{"a.example:8080", "http://a.example/", false},
		{"a.example:443", "https://a.example/", true},
		{"a.example", "http://b.a.example/", false},
		{"a.example", "http://a.example.evil.example/", false},
		{"*.example", "http://a.example/", true},
		{"*.example", "http://b.a.example/", true},
		{"*.example", "http://example/", false},
		{"*.example", "http://evilexample/", false},
		{"*", "https://a.example/", true},
		{"*", "https://a.example:8443/", false},
		{"*:8443", "https://a.example:8443/", true},
		{"127.0.0.1:81", "http://127.0.0.1:81/", true},
		{"127.0.0.1:81", "http://[::ffff:127.0.0.1]:81/", true},
		{"[::1]:81", "http://[::1]:81/", true},
		{"::1", "http://[::1]/", true},
		{"[::1]", "http://[::2]/", false},
	} {
		u, err := url.Parse(row.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := hosts(t, row.pattern).Allow(u); got != row.want {
			t.Errorf("%s, %s: %v", row.pattern, row.url, got)
		}
	}
	if Hosts(nil).Allow(&url.URL{Scheme: "http", Host: "a"}) {
		t.Error("no pattern allows a host")
	}
}

func TestAddressByItselfOnly(t *testing.T) {
	for _, row := range []struct {
		pattern, addr string
		want          bool
	}{
		{"127.0.0.1:81", "127.0.0.1:81", true},
		{"127.0.0.1:81", "[::ffff:127.0.0.1]:81", true},
		{"127.0.0.1:81", "127.0.0.1:82", false},
		{"127.0.0.1", "127.0.0.1:80", true},
		{"127.0.0.1", "127.0.0.1:81", false},
		{"*:81", "127.0.0.1:81", false},
		{"*", "127.0.0.1:80", false},
		{"localhost:81", "127.0.0.1:81", false},
	} {
		if got := hosts(t, row.pattern).Address(netip.MustParseAddrPort(row.addr)); got != row.want {
			t.Errorf("%s, %s: %v", row.pattern, row.addr, got)
		}
	}
}

func TestParseHostRefuses(t *testing.T) {
	for _, s := range []string{"", ":80", "a:", "a:0", "a:x", "a:65536", "http://a", "a/b", "*a", "*.", "a*b", "..", ".a", "a..b", "a b", "[::1", "u@a"} {
		if h, err := ParseHost(s); err == nil {
			t.Errorf("%q: %v", s, h)
		}
	}
}

// FuzzHost: a pattern's text is the pattern.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"a.example:80", "*.b", "[::1]:81", "*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHost(s)
		if err != nil {
			return
		}
		if again, err := ParseHost(h.String()); err != nil || again != h {
			t.Fatalf("%q: %q comes back as %v, %v", s, h, again, err)
		}
	})
}
