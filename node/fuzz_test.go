package node

import (
	"strings"
	"testing"

	"github.com/multiformats/go-multiaddr"
)

func FuzzParseBootstrap(f *testing.F) {
	for _, s := range []string{
		"mdns", "file:", "file:/x", "dns:seeds.example", "dns:seeds.example:65003", "dns:[::1]:1", "dns::1", "dns:x:0", "/ip4/192.0.2.1/tcp/65003", "/ip6/::1/tcp/1",
		"/dnsaddr/seeds.example", "/dns4/a/tcp/1/p2p/12D3KooWJQ93Np88KkHdRM5ZRTHPnDvugjf5LvaP6HAgJ8CHLU2X", "/ip4/192.0.2.1/udp/1/quic-v1", "/unix/a", "/p2p-circuit",
		"/ip4/192.0.2.1/tcp/1/p2p/x", "/ip6zone/a/ip6/fe80::1/tcp/1", "/", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		spec, err := parseBootstrap(s)
		if err != nil {
			return
		}
		switch spec.kind {
		case bootstrapAddr:
			if p := spec.addr.Protocols(); len(p) > 2 || len(p) == 2 && p[1].Code != multiaddr.P_TCP {
				t.Fatalf("%q: %v", s, spec.addr)
			}
			if err := spec.id.Validate(); spec.id != "" && err != nil {
				t.Fatalf("%q: id: %v", s, err)
			}
		case bootstrapDNS:
			if spec.name == "" || strings.ContainsAny(spec.name, "/: ") || spec.port < 1 || spec.port > 65535 {
				t.Fatalf("%q: %q, port %d", s, spec.name, spec.port)
			}
		case bootstrapFile:
			if spec.path == "" {
				t.Fatalf("%q: no path", s)
			}
		case bootstrapMDNS:
		default:
			t.Fatalf("%q: kind %d", s, spec.kind)
		}
	})
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"50GiB", "1.5G", "500 mb", "4096", "-1", "nan", "inf", "0x1p4", "9223372036854775807", "8EiB", "1e18", ".B", "1_0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := ParseBytes(s)
		if err != nil {
			return
		}
		if b < 0 {
			t.Fatalf("%q is %d", s, int64(b))
		}
		// Above 2^53 a float carries no byte more.
		if again, err := ParseBytes(b.String()); err != nil || again != b && b < 1<<53 {
			t.Fatalf("%q is %v, and that %v, %v", s, b, again, err)
		}
		if r := Rate(0); r.UnmarshalText([]byte(s)) == nil && r != Rate(b) {
			t.Fatalf("%q is %v and the rate %v", s, b, r)
		}
	})
}
