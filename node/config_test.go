package node

import (
	"reflect"
	"strings"
	"testing"
)

func TestDefaultIsValid(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateRefuses(t *testing.T) {
	for _, row := range []struct {
		name string
		edit func(*Config)
		want string // in the error; "" = accepted
	}{
		{"nothing wrong", func(*Config) {}, ""},
		{"no data dir", func(c *Config) { c.DataDir = "" }, "--data-dir"},
		{"zone in upper case", func(c *Config) { c.Zone = "DC1" }, "--zone"},
		{"zone too long", func(c *Config) { c.Zone = strings.Repeat("a", 64) }, "--zone"},
		{"zone of the undecided", func(c *Config) { c.Zone = "default" }, "until they have found theirs"},
		{"zone with dots and dashes", func(c *Config) { c.Zone = "eu-1.rack_2" }, ""},
		{"zone from nowhere", func(c *Config) { c.ZoneFrom = "metadata" }, "--zone-from"},
		{"zone from no file", func(c *Config) { c.ZoneFrom = "file:" }, "--zone-from"},
		{"zone from a cloud", func(c *Config) { c.ZoneFrom = "gcp" }, ""},
		{"mirror without a port", func(c *Config) { c.Mirror.Addr = "127.0.0.1" }, "--mirror-addr"},
		{"port too high", func(c *Config) { c.Exchange.DataAddr = "0.0.0.0:70000" }, "--data-addr"},
		{"admin for everybody", func(c *Config) { c.Admin.Addr = "0.0.0.0:65002" }, "--admin-addr"},
		{"admin for everybody with a token, in the clear", func(c *Config) { c.Admin = AdminConfig{Addr: "0.0.0.0:1", TokenFile: "t"} }, "--admin-cert"},
		{"admin for everybody with TLS and no token", func(c *Config) { c.Admin = AdminConfig{Addr: ":1", Cert: "c", Key: "k"} }, "--admin-token-file"},
		{"admin for everybody with both", func(c *Config) { c.Admin = AdminConfig{Addr: "0.0.0.0:1", TokenFile: "t", Cert: "c", Key: "k"} }, ""},
		{"admin with half of TLS", func(c *Config) { c.Admin.Cert = "c" }, "--admin-key"},
		{"admin on a socket", func(c *Config) { c.Admin.Addr = "unix:/run/meshd/admin.sock" }, ""},
		{"admin on a socket somewhere", func(c *Config) { c.Admin.Addr = "unix:admin.sock" }, "absolute"},
		{"admin without a port", func(c *Config) { c.Admin.Addr = "127.0.0.1" }, "--admin-addr"},
		{"admin on another loopback address", func(c *Config) { c.Admin.Addr = "127.0.0.9:65002" }, ""},
		{"default registry with a path", func(c *Config) { c.Mirror.DefaultRegistry = "a/b" }, "--default-registry"},
		{"no p2p address", func(c *Config) { c.P2P.Addrs = nil }, "--p2p-addr"},
		{"p2p address that is none", func(c *Config) { c.P2P.Addrs = []string{"0.0.0.0:1"} }, "--p2p-addr"},
		{"p2p over QUIC", func(c *Config) { c.P2P.Addrs = []string{"/ip4/0.0.0.0/udp/1/quic-v1"} }, "--p2p-addr"},
		{"p2p for others without a key", func(c *Config) { c.P2P.Addrs = []string{"/ip4/10.0.0.1/tcp/1"} }, "--mesh-key"},
		{"p2p for others with a key", func(c *Config) {
			c.P2P.Addrs, c.P2P.MeshKey = []string{"/ip4/10.0.0.1/tcp/1"}, "key"
		}, ""},
		{"data for others without a key", func(c *Config) { c.Exchange.DataAddr = "10.0.0.1:1" }, "--mesh-key"},
		{"bootstrap that is none", func(c *Config) { c.P2P.Bootstrap = []string{"mdns", "example.com"} }, "--bootstrap"},
		{"registry with credentials", func(c *Config) {
			c.Origin.Registries = []Registry{{Host: "a", URL: "https://u:secret@a"}}
		}, "--registry"},
		{"registry twice", func(c *Config) {
			c.Origin.Registries = []Registry{{Host: "a", URL: "https://a"}, {Host: "a", URL: "https://b"}}
		}, "twice"},
		{"low above high", func(c *Config) { c.Store.CacheLow = 51 << 30 }, "--cache-low"},
		{"low without high", func(c *Config) { c.Store.CacheSize, c.Store.CacheLow = 0, 1 }, "--cache-low"},
		{"no bound", func(c *Config) { c.Store.CacheSize = 0 }, ""},
		{"target below least", func(c *Config) { c.Store.FreeTarget = 1 << 20 }, "--free-target"},
		{"content store", func(c *Config) { c.Store.ContainerdContent = "content" }, "--containerd-content"},
		{"bucket", func(c *Config) { c.Seed, c.Store.SeedStorage = true, "s3://bucket" }, ""},
		{"bucket of no seed", func(c *Config) { c.Store.SeedStorage = "s3://bucket" }, "--seed-storage"},
		{"bucket of no scheme", func(c *Config) { c.Seed, c.Store.SeedStorage = true, "bucket" }, "--seed-storage"},
		{"bucket with password", func(c *Config) { c.Seed, c.Store.SeedStorage = true, "s3://me:secret@bucket" }, "--seed-storage"},
		{"negative scrub", func(c *Config) { c.Store.ScrubRate = -1 }, "--scrub-rate"},
		{"negative limit", func(c *Config) { c.Exchange.UploadLimit = -1 }, "--upload-limit"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := Default()
			row.edit(&c)
			err := c.Validate()
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestValidateTellsAllMistakes(t *testing.T) {
	c := Default()
	c.Zone, c.DataDir, c.Mirror.Addr = "?", "", "x"
	err := c.Validate()
	for _, flag := range []string{"--zone", "--data-dir", "--mirror-addr"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not in %v", flag, err)
		}
	}
}

func TestBytes(t *testing.T) {
	for _, row := range []struct {
		text string
		want Bytes // -1 = refused
		back string
	}{
		{"0", 0, "0"},
		{"4096", 4096, "4KiB"},
		{"50GiB", 50 << 30, "50GiB"},
		{"1.5G", 3 << 29, "1536MiB"},
		{" 10 MB ", 10_000_000, "10000000"},
		{"7kb", 7000, "7000"},
		{"3B", 3, "3"},
		{"2TiB", 2 << 40, "2TiB"},
		{"", -1, ""},
		{"GiB", -1, ""},
		{"-1", -1, ""},
		{"NaN", -1, ""},
		{"1e30", -1, ""},
		{"9000000TiB", -1, ""},
		{"5 apples", -1, ""},
	} {
		got, err := ParseBytes(row.text)
		if (err != nil) != (row.want < 0) || err == nil && got != row.want {
			t.Errorf("%q: %d, %v, want %d", row.text, got, err, row.want)
		}
		if err == nil && got.String() != row.back {
			t.Errorf("%q: prints as %s, want %s", row.text, got, row.back)
		}
	}
}

func TestRate(t *testing.T) {
	for text, want := range map[string]Rate{"0": 0, "100MB/s": 100_000_000, "20MiB": 20 << 20} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%q: %d, %v", text, r, err)
		}
		back, err := r.MarshalText()
		var again Rate
		if err != nil || again.UnmarshalText(back) != nil || again != r {
			t.Errorf("%q does not survive as %q", text, back)
		}
	}
	var r Rate
	if err := r.UnmarshalText([]byte("fast/s")); err == nil {
		t.Error("accepted nonsense")
	}
}

func TestParseRegistry(t *testing.T) {
	for _, row := range []struct {
		text string
		want Registry
		ok   bool
	}{
		{"docker.io=https://m.example", Registry{Host: "docker.io", URL: "https://m.example"}, true},
		{"h:5000=http://127.0.0.1:5000", Registry{Host: "h:5000", URL: "http://127.0.0.1:5000"}, true},
		{"h=https://h,ca=/etc/ca.pem,insecure", Registry{Host: "h", URL: "https://h", CA: "/etc/ca.pem", Insecure: true}, true},
		{"h=https://h,url=https://i,url=https://j,mirror=http://m,ca=a,cert=c,key=k,credentials=docker,insecure", Registry{
			Host: "h", URL: "https://h", URLs: []string{"https://i", "https://j"}, Mirrors: []string{"http://m"},
			CA: "a", Cert: "c", Key: "k", Credentials: "docker", Insecure: true,
		}, true},
		{"h=https://h,cert=c", Registry{}, false},
		{"h=https://h,key=k", Registry{}, false},
		{"h=https://h,ca=a,ca=b", Registry{}, false},
		{"h=https://h,mirror=m", Registry{}, false},
		{"h=https://h,url=https://u:secret@i", Registry{}, false},
		{"h", Registry{}, false},
		{"=https://h", Registry{}, false},
		{"h=h", Registry{}, false},
		{"h=ftp://h", Registry{}, false},
		{"h=https://h/path", Registry{}, false},
		{"h=https://h?x=1", Registry{}, false},
		{"h=https://h,ca=", Registry{}, false},
		{"h=https://h,verify", Registry{}, false},
		{"a/b=https://h", Registry{}, false},
	} {
		got, err := ParseRegistry(row.text)
		if (err == nil) != row.ok || row.ok && !reflect.DeepEqual(got, row.want) {
			t.Errorf("%q: %+v, %v", row.text, got, err)
		}
		if row.ok && got.String() != row.text {
			t.Errorf("%q prints as %q", row.text, got)
		}
	}
}

// What is accepted is written so that it is read back as the same.
func FuzzParseRegistry(f *testing.F) {
	for _, s := range []string{
		"h=https://h", "h=https://h,url=http://i,mirror=http://m,ca=a,cert=c,key=k,credentials=docker,insecure",
		"h=https://u:secret@h", "h=https://h,insecure,insecure", "h=,", "=", "h=https://h,ca", "h=https://h,url=https://u:secret@i",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRegistry(s)
		if err != nil {
			return
		}
		again, err := ParseRegistry(r.String())
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%q became %+v, and that %+v, %v", s, r, again, err)
		}
	})
}

func TestParseBootstrap(t *testing.T) {
	const id = "/p2p/12D3KooWJQ93Np88KkHdRM5ZRTHPnDvugjf5LvaP6HAgJ8CHLU2X"
	for _, row := range []struct {
		text string
		kind bootstrapKind // 0 = refused
	}{
		{"/ip4/10.0.0.1/tcp/65003", bootstrapAddr},
		{"/ip4/10.0.0.1/tcp/65003" + id, bootstrapAddr},
		{"/ip6/::1/tcp/1" + id, bootstrapAddr},
		{"/dns4/mesh.example/tcp/65003", bootstrapAddr},
		{"/dnsaddr/mesh.example", bootstrapAddr},
		{"dns:meshd.default.svc", bootstrapDNS},
		{"dns:meshd.default.svc:65103", bootstrapDNS},
		{"file:/etc/meshd/peers", bootstrapFile},
		{"mdns", bootstrapMDNS},
		{"", 0},
		{"mesh.example", 0},
		{"dns:", 0},
		{"dns:a/b", 0},
		{"dns:a:port", 0},
		{"dns:a:0", 0},
		{"file:", 0},
		{"/ip4/10.0.0.1", 0},
		{"/ip4/10.0.0.1/udp/1/quic-v1", 0},
		{id, 0},
		{"/nonsense", 0},
	} {
		spec, err := parseBootstrap(row.text)
		if (err != nil) != (row.kind == 0) || spec.kind != row.kind {
			t.Errorf("%q: kind %d, %v, want %d", row.text, spec.kind, err, row.kind)
		}
		if strings.HasSuffix(row.text, id) && err == nil && spec.id.String() != strings.TrimPrefix(id, "/p2p/") {
			t.Errorf("%q: id %s", row.text, spec.id)
		}
	}
	if spec, _ := parseBootstrap("dns:a"); spec.port != defaultP2PPort {
		t.Errorf("port %d without one given", spec.port)
	}
}
