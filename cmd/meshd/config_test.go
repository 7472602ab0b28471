package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/meshd-project/meshd/node"
)

// parse gives the node.Config of a `meshd run` command line.
func parse(t *testing.T, args ...string) (node.Config, error) {
	t.Helper()
	var cmds commands
	var out bytes.Buffer
	parser, err := newParser(&cmds, streams{out: &out, err: &out}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(append([]string{"run"}, args...))
	return cmds.Run.config(), err
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "meshd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNothingGivenIsDefault(t *testing.T) {
	got, err := parse(t)
	if err != nil {
		t.Fatal(err)
	}
	want := node.Default()
	if !reflect.DeepEqual(normal(got), normal(want)) {
		t.Errorf("parsing nothing gives\n%+v\nwant\n%+v", got, want)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the default does not validate: %v", err)
	}
}

// normal makes empty and nil lists equal.
func normal(c node.Config) node.Config {
	if len(c.P2P.Bootstrap) == 0 {
		c.P2P.Bootstrap = nil
	}
	if len(c.Origin.Registries) == 0 {
		c.Origin.Registries = nil
	}
	if len(c.Proxy.Rules) == 0 {
		c.Proxy.Rules = nil
	}
	return c
}

// Each source wins over those right of it: flag, environment, file, default.
func TestPrecedence(t *testing.T) {
	lists := []struct {
		flag, env, file, yaml string
		value                 func(node.Config) any
	}{
		{"zone", "MESHD_ZONE", "from-file", "zone: from-file", func(c node.Config) any { return c.Zone }},
		{"zone-from", "MESHD_ZONE_FROM", "file:from-file", "zone-from: file:from-file", func(c node.Config) any { return c.ZoneFrom }},
		{"mirror-addr", "MESHD_MIRROR_ADDR", "127.0.0.1:3", "mirror-addr: 127.0.0.1:3", func(c node.Config) any { return c.Mirror.Addr }},
		{"cache-size", "MESHD_CACHE_SIZE", "3GiB", "cache-size: 3GiB", func(c node.Config) any { return c.Store.CacheSize }},
		{"cache-low", "MESHD_CACHE_LOW", "3GiB", "cache-low: 3GiB", func(c node.Config) any { return c.Store.CacheLow }},
		{"min-free", "MESHD_MIN_FREE", "3GiB", "min-free: 3GiB", func(c node.Config) any { return c.Store.MinFree }},
		{"free-target", "MESHD_FREE_TARGET", "3GiB", "free-target: 3GiB", func(c node.Config) any { return c.Store.FreeTarget }},
		{"containerd-content", "MESHD_CONTAINERD_CONTENT", "/from-file", "containerd-content: /from-file", func(c node.Config) any { return c.Store.ContainerdContent }},
		{"seed-storage", "MESHD_SEED_STORAGE", "s3://from-file", "seed-storage: s3://from-file", func(c node.Config) any { return c.Store.SeedStorage }},
		{"files-ca", "MESHD_FILES_CA", "from-file", "files-ca: from-file", func(c node.Config) any { return c.Files.CA }},
		{"scrub-rate", "MESHD_SCRUB_RATE", "3MB/s", "scrub-rate: 3MB/s", func(c node.Config) any { return c.Store.ScrubRate }},
		{"origin-limit", "MESHD_ORIGIN_LIMIT", "3MB/s", "origin-limit: 3MB/s", func(c node.Config) any { return c.Origin.Limit }},
		{"bootstrap", "MESHD_BOOTSTRAP", "dns:three", "bootstrap: [dns:three]", func(c node.Config) any { return c.P2P.Bootstrap }},
		{"registry", "MESHD_REGISTRY", "three=http://h:3", "registry: [{host: three, url: 'http://h:3'}]", func(c node.Config) any { return c.Origin.Registries }},
		{"proxy-rule", "MESHD_PROXY_RULE", "three=mesh", "proxy-rule: [{host: three, action: mesh}]", func(c node.Config) any { return c.Proxy.Rules }},
	}
	replace := func(s, to string) string {
		s = strings.ReplaceAll(s, "from-file", "from-"+to)
		return strings.ReplaceAll(strings.ReplaceAll(s, "three", to), "3", map[string]string{"env": "2", "flag": "1"}[to])
	}
	for _, row := range lists {
		t.Run(row.flag, func(t *testing.T) {
			file := configFile(t, row.yaml+"\n")
			read := func(args ...string) any {
				c, err := parse(t, args...)
				if err != nil {
					t.Fatal(err)
				}
				return row.value(c)
			}
			alone := func(text string) any { return read("--" + row.flag + "=" + text) }
			check := func(what string, got, want any) {
				t.Helper()
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s: got %v, want %v", what, got, want)
				}
			}
			fromFlag, fromEnv, fromFile := alone(replace(row.file, "flag")), alone(replace(row.file, "env")), alone(row.file)
			check("nothing", read(), row.value(node.Default()))
			check("file", read("--config", file), fromFile)
			t.Setenv(row.env, replace(row.file, "env"))
			check("env", read(), fromEnv)
			check("env and file", read("--config", file), fromEnv)
			check("flag, env and file", read("--config", file, "--"+row.flag+"="+replace(row.file, "flag")), fromFlag)
		})
	}
}

func TestConfigFile(t *testing.T) {
	file := configFile(t, `
# a comment
zone: fra1
seed: true
mesh-key: /etc/meshd/mesh.key
bootstrap:
  - dns:meshd.example
  - file:/etc/meshd/peers;odd
registry:
  - docker.io=https://mirror.example
  - host: harbor.example:8443
    url: https://harbor.example:8443
    ca: /etc/ssl/harbor.pem
    insecure: true
  - host: quay.io
    url: [https://quay.io, https://10.0.0.1]
    mirror:
      - https://m1.example
      - http://m2.example:5000
    cert: /etc/meshd/client.pem
    key: /etc/meshd/client.key
    credentials: docker
proxy-rule:
  - host: registry-1.docker.io
    action: mesh
  - regexp: .*\.corp;x
    action: refuse
  - example.com:22=direct
upload-limit: 100MB/s
`)
	t.Setenv("MESHD_CONFIG", file)
	c, err := parse(t)
	if err != nil {
		t.Fatal(err)
	}
	want := node.Default()
	want.Zone, want.Seed, want.P2P.MeshKey = "fra1", true, "/etc/meshd/mesh.key"
	want.P2P.Bootstrap = []string{"dns:meshd.example", "file:/etc/meshd/peers;odd"}
	want.Origin.Registries = []node.Registry{
		{Host: "docker.io", URL: "https://mirror.example"},
		{Host: "harbor.example:8443", URL: "https://harbor.example:8443", CA: "/etc/ssl/harbor.pem", Insecure: true},
		{
			Host: "quay.io", URL: "https://quay.io", URLs: []string{"https://10.0.0.1"}, Mirrors: []string{"https://m1.example", "http://m2.example:5000"},
			Cert: "/etc/meshd/client.pem", Key: "/etc/meshd/client.key", Credentials: "docker",
		},
	}
	for _, s := range []string{"registry-1.docker.io=mesh", `/.*\.corp;x/=refuse`, "example.com:22=direct"} {
		var r node.ProxyRule
		if err := r.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		want.Proxy.Rules = append(want.Proxy.Rules, r)
	}
	want.Exchange.UploadLimit = 100e6
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestConfigFileRefused(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"unknown key", "zone: a\n\nzonee: b\n", `:3: unknown key "zonee"`},
		{"config is no key", "config: x\n", `:1: unknown key "config"`},
		{"second document", "zone: a\n---\nzone: b\n", `:2: a second document`},
		{"more than is read", "zone: a\n" + strings.Repeat("#\n", maxConfigFile/2), "more than 1048576 bytes"},
		{"key twice", "zone: a\nseed: true\nzone: b\n", `:3: key "zone" is there twice`},
		{"not a mapping", "- zone\n", ":1: want KEY: VALUE lines"},
		{"not YAML", "zone: [\n", "line"},
		{"bad size", "zone: a\ncache-size: 50 apples\n", ":2: "},
		{"bad bool", "seed: maybe\n", ":1: "},
		{"empty value", "zone: a\nmesh-key:\n", ":2: mesh-key: want one value"},
		{"list for one", "zone: [a, b]\n", ":1: zone: want one value"},
		{"map in a list", "bootstrap:\n  - mdns\n  - a: b\n", ":3: bootstrap: want a value"},
		{"bad registry", "registry:\n  - docker.io=https://a\n  - docker.io\n", ":3: "},
		{"registry without address", "registry:\n  - host: a\n", ":2: --registry: a: want a URL"},
		{"empty list of addresses", "registry:\n  - host: a\n    url: []\n", ":2: --registry: a: want a URL"},
		{"list for one file", "registry:\n  - host: a\n    url: https://a\n    ca: [b, c]\n", ":4: registry: ca: want one value"},
		{"certificate without key", "registry:\n  - host: a\n    url: https://a\n    cert: b\n", ":2: --registry: a: cert and key go together"},
		{"unknown registry key", "registry:\n  - host: a\n    uri: b\n", `:3: registry: unknown key "uri"`},
		{"bad proxy rule", "proxy-rule:\n  - a=mesh\n  - a=tunnel\n", `:3: `},
		{"unknown proxy rule key", "proxy-rule:\n  - host: a\n    do: b\n", `:3: proxy-rule: key "do"`},
		{"host and regexp", "proxy-rule:\n  - host: a\n    regexp: b\n", `:3: proxy-rule: key "regexp"`},
		{"bad log level", "log-level: loud\n", "log-level"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := parse(t, "--config", configFile(t, row.text)); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want it to contain %q", err, row.want)
			}
		})
	}
	if _, err := parse(t, "--config", filepath.Join(t.TempDir(), "absent.yaml")); err == nil {
		t.Error("a missing file is not refused")
	}
}

// MESHD_CONFIG is for `meshd run`: other commands must not fail by it.
func TestConfigVariableLeavesOtherCommandsAlone(t *testing.T) {
	t.Setenv("MESHD_CONFIG", filepath.Join(t.TempDir(), "absent.yaml"))
	var out bytes.Buffer
	if code := run([]string{"version"}, streams{out: &out, err: &out}); code != 0 {
		t.Errorf("meshd version: exit code %d: %s", code, &out)
	}
}

func TestFlagsRefused(t *testing.T) {
	for _, args := range [][]string{
		{"--no-such-flag"},
		{"--cache-size=50apples"},
		{"--cache-size="},
		{"--cache-size=-1GiB"},
		{"--cache-size=50GiB/s"},
		{"--upload-limit=fast"},
		{"--upload-limit=99999999999TiB/s"},
		{"--registry=docker.io"},
		{"--registry=docker.io=ftp://a"},
		{"--registry=docker.io=https://user:secret@a"},
		{"--registry=docker.io=https://a,unsafe"},
		{"--registry=docker.io=https://a,mirror=ftp://b"},
		{"--registry=docker.io=https://a,url="},
		{"--registry=docker.io=https://a,ca=b,ca=c"},
		{"--proxy-rule=a"},
		{"--proxy-rule=a=tunnel"},
		{"--log-level=loud"},
		{"stray"},
	} {
		if _, err := parse(t, args...); err == nil {
			t.Errorf("meshd run %v is not refused", args)
		}
	}
}

func TestHelpNamesEnvironment(t *testing.T) {
	var out bytes.Buffer
	if code := run([]string{"run", "--help"}, streams{out: &out, err: &out}); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, f := range runFlags(t) {
		if len(f.Envs) != 1 || !strings.Contains(out.String(), "$"+f.Envs[0]) {
			t.Errorf("--%s: --help does not name its environment variable %v", f.Name, f.Envs)
		}
	}
}
