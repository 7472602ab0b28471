package mirror

import (
	"errors"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	known := func(s string) bool { return s == "harbor" || s == "odd_host" }
	for _, c := range []struct {
		name       string
		path, ns   string
		registry   string
		repository string
		err        error
	}{
		{"default", "alpine", "", "docker.io", "library/alpine", nil},
		{"default with two components", "grafana/loki", "", "docker.io", "grafana/loki", nil},
		{"library already there", "library/alpine", "", "docker.io", "library/alpine", nil},
		{"ns", "team/app", "harbor.example", "harbor.example", "team/app", nil},
		{"ns with port", "app", "harbor.example:8443", "harbor.example:8443", "app", nil},
		{"ns in upper case", "app", "Harbor.Example", "harbor.example", "app", nil},
		{"ns and the same prefix", "harbor.example/team/app", "harbor.example", "harbor.example", "team/app", nil},
		{"ns and the same prefix in another case", "HARBOR.example/team/app", "harbor.example", "harbor.example", "team/app", nil},
		{"ns wins over another prefix", "quay.io/team/app", "harbor.example", "harbor.example", "quay.io/team/app", nil},
		{"ns is Docker Hub's API host", "alpine", "registry-1.docker.io", "docker.io", "library/alpine", nil},
		{"ns and prefix are two names of Docker Hub", "index.docker.io/alpine", "docker.io", "docker.io", "library/alpine", nil},
		{"prefix by dot", "quay.io/app", "", "quay.io", "app", nil},
		{"prefix by colon", "registry:5000/app", "", "registry:5000", "app", nil},
		{"prefix localhost", "localhost/app", "", "localhost", "app", nil},
		{"prefix by configuration", "harbor/app", "", "harbor", "app", nil},
		{"prefix by configuration outside the grammar", "odd_host/app", "", "odd_host", "app", nil},
		{"prefix Docker Hub", "docker.io/alpine", "", "docker.io", "library/alpine", nil},
		{"prefix address", "10.0.0.1:5000/a", "", "10.0.0.1:5000", "a", nil},
		{"prefix IPv6", "[::1]:5000/a", "", "[::1]:5000", "a", nil},
		{"configured name alone is a repository", "harbor", "", "docker.io", "library/harbor", nil},
		{"host-like name alone is a repository", "my.app", "", "docker.io", "library/my.app", nil},

		{"upper case repository", "Alpine", "", "", "", errName},
		{"traversal", "../../etc/passwd", "", "", "", errName},
		{"traversal after a registry", "quay.io/../../etc", "", "", "", errName},
		{"empty component", "a//b", "", "", "", errName},
		{"leading slash", "/a", "", "", "", errName},
		{"empty name", "", "", "", "", errName},
		{"ns is a URL", "a", "http://evil.example/", "", "", errName},
		{"ns with user", "a", "user@harbor.example", "", "", errName},
		{"ns with a path", "a", "harbor.example/x", "", "", errName},
		{"ns with a space", "a", "harbor example", "", "", errName},
		{"ns with port 0", "a", "h.example:0", "", "", errName},
		{"ns with a port too large", "a", "h.example:65536", "", "", errName},
		{"ns with a signed port", "a", "h.example:+80", "", "", errName},
		{"ns with an empty port", "a", "h.example:", "", "", errName},
		{"ns with an empty label", "a", "h..example", "", "", errName},
		{"ns with a bare IPv6", "a", "::1", "", "", errName},
		{"ns with an IPv6 zone", "a", "[fe80::1%25eth0]:5000", "", "", errName},
		{"ns with an IPv4 in brackets", "a", "[127.0.0.1]:80", "", "", errName},
		{"ns of 10k", "a", strings.Repeat("a", 10_000), "", "", errName},
		{"label of 64", "a", strings.Repeat("a", 64) + ".example", "", "", errName},
		{"repository of 256", strings.Repeat("a/", 127) + "aa", "quay.io", "", "", errName},
		{"library/ makes it too long", strings.Repeat("a", 250), "", "", "", errName},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := resolve(c.path, c.ns, "docker.io", known)
			want := Ref{c.registry, c.repository}
			if !errors.Is(err, c.err) || got != want {
				t.Fatalf("resolve(%.60q, %.60q) = %+v, %v; want %+v, %v", c.path, c.ns, got, err, want, c.err)
			}
		})
	}
}

func TestParseQuery(t *testing.T) {
	for _, c := range []struct {
		name, raw string
		ok        bool
	}{
		{"empty", "", true},
		{"ns", "ns=docker.io&n=5", true},
		{"two ns", "ns=a.example&ns=b.example", false},
		{"semicolon", "ns=a.example;n=5", false},
		{"broken escape", "ns=%zz", false},
		{"10k", "n=" + strings.Repeat("1", 10_000), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := parseQuery(c.raw); (err == nil) != c.ok {
				t.Fatalf("error %v, want ok %v", err, c.ok)
			}
		})
	}
}
