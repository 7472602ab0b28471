package origin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestZeroConfigIsDefault(t *testing.T) {
	got, want := Config{}.withDefaults(), Default()
	if got.DialTimeout != want.DialTimeout || got.HeaderTimeout != want.HeaderTimeout || got.IdleTimeout != want.IdleTimeout ||
		got.Attempts != want.Attempts || got.Backoff != want.Backoff || got.MaxRetryAfter != want.MaxRetryAfter ||
		got.MaxConns != want.MaxConns || got.UserAgent != want.UserAgent {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := want.Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	one := func(name string, r Registry) Config { return Config{Registries: map[string]Registry{name: r}} }
	for _, tt := range []struct {
		name string
		cfg  Config
		want string // part of the error; empty: valid
	}{
		{"empty", Config{}, ""},
		{"address by default", one("harbor.test", Registry{}), ""},
		{"https", one("harbor.test", Registry{URL: "https://harbor.test:8443"}), ""},
		{"http with path", one("harbor.test", Registry{URL: "http://10.0.0.1/cache/"}), ""},
		{"no scheme", one("harbor.test", Registry{URL: "harbor.test:8443"}), "https://"},
		{"other scheme", one("harbor.test", Registry{URL: "ftp://harbor.test"}), "https://"},
		{"no host", one("harbor.test", Registry{URL: "https:///x"}), "malformed"},
		{"credentials", one("harbor.test", Registry{URL: "https://u:geheim@harbor.test"}), "credentials"},
		{"query", one("harbor.test", Registry{URL: "https://harbor.test/?k=geheim"}), "query"},
		{"fragment", one("harbor.test", Registry{URL: "https://harbor.test/#geheim"}), "fragment"},
		{"no URL", one("harbor.test", Registry{URL: "https://u:geheim@har bor\x00"}), "not a URL"},
		{"bad name", one("har bor", Registry{}), "malformed"},
		{"twice", Config{Registries: map[string]Registry{"docker.io": {}, "index.docker.io": {}}}, "the same"},
		{"negative time", Config{IdleTimeout: -time.Second}, "idle time-out is negative"},
		{"negative attempts", Config{Attempts: -1}, "attempts is negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cfg.Validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "geheim") {
				t.Errorf("error holds the secret: %v", err)
			}
			if c, newErr := New(tt.cfg); (newErr == nil) != (err == nil) {
				t.Errorf("New: %v, Validate: %v", newErr, err)
			} else if c != nil {
				_ = c.Close()
			}
		})
	}
}

func TestNewReadsCA(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, ca, want string
	}{
		{"good", caFile(t), ""},
		{"missing", filepath.Join(t.TempDir(), "none.pem"), "no such file"},
		{"no certificate", empty, "no certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := New(Config{Registries: map[string]Registry{"harbor.test": {CA: tt.ca}}})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if c != nil {
				_ = c.Close()
			}
		})
	}
}

func TestEndpoint(t *testing.T) {
	c, err := New(Config{Registries: map[string]Registry{
		"Harbor.Test:8443": {URL: "http://10.0.0.1:80/cache/"},
		"quay.io":          {},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tt := range []struct {
		registry, base string
		listed         bool
	}{
		{"harbor.test:8443", "http://10.0.0.1:80/cache", true},
		{"HARBOR.test:8443", "http://10.0.0.1:80/cache", true},
		{"harbor.test", "https://harbor.test", false},
		{"quay.io", "https://quay.io", true},
		{"docker.io", "https://registry-1.docker.io", false},
		{"index.docker.io", "https://registry-1.docker.io", false},
		{"ghcr.io", "https://ghcr.io", false},
		{"no host", "", false},
	} {
		if got := c.Listed(tt.registry); got != tt.listed {
			t.Errorf("Listed(%q) = %v", tt.registry, got)
		}
		ep, err := c.endpoint(tt.registry)
		if err != nil {
			if tt.base != "" {
				t.Errorf("%s: %v", tt.registry, err)
			}
			continue
		}
		if got := ep.base.String(); got != tt.base {
			t.Errorf("%s is at %s, want %s", tt.registry, got, tt.base)
		}
	}
}
