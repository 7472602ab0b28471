package origin

import (
	"errors"
	"strings"
	"testing"
)

func TestCanonicalRegistry(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"docker.io", "docker.io"},
		{"index.docker.io", "docker.io"},
		{"DOCKER.IO", "docker.io"},
		{"Harbor.Example:8443", "harbor.example:8443"},
		{"localhost:5000", "localhost:5000"},
		{"127.0.0.1:5000", "127.0.0.1:5000"},
		{"[::1]:5000", "[::1]:5000"},
		{"", ""},
		{":5000", ""},
		{"host:", ""},
		{"host:0", ""},
		{"host:65536", ""},
		{"host:http", ""},
		{"user@host", ""},
		{"user:pass@host", ""},
		{"host/path", ""},
		{"host?query", ""},
		{"host#x", ""},
		{"https://host", ""},
		{"ho st", ""},
		{"ho\nst", ""},
		{"[::1", ""},
		{"%2e", ""},
		{strings.Repeat("a", 256), ""},
	} {
		got, err := canonicalRegistry(tt.in)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q: got %q, %v; want %q", tt.in, got, err, tt.want)
		}
		if err != nil && !errors.Is(err, ErrReference) {
			t.Errorf("%q: %v is no ErrReference", tt.in, err)
		}
	}
}

func TestCheckRepository(t *testing.T) {
	for _, tt := range []struct {
		in string
		ok bool
	}{
		{"alpine", true},
		{"library/alpine", true},
		{"a/b/c/d", true},
		{"a.b_c__d-e--f/g0", true},
		{strings.Repeat("a", 255), true},
		{strings.Repeat("a", 256), false},
		{"", false},
		{"/a", false},
		{"a/", false},
		{"a//b", false},
		{"..", false},
		{"a/../b", false},
		{"a/./b", false},
		{"A", false},
		{"a..b", false},
		{"a___b", false},
		{"-a", false},
		{"a%2Fb", false},
		{"a b", false},
		{"a\n", false},
		{"a?b", false},
		{"ä", false},
	} {
		if err := checkRepository(tt.in); (err == nil) != tt.ok {
			t.Errorf("%q: %v, want ok=%v", tt.in, err, tt.ok)
		}
	}
}

func TestCheckPath(t *testing.T) {
	for _, tt := range []struct {
		in string
		ok bool
	}{
		{"manifests/latest", true},
		{"manifests/v1.2_3-rc+4", true},
		{"manifests/" + ourBlob.String(), true},
		{"tags/list", true},
		{"referrers/" + ourBlob.String(), true},
		{"blobs/uploads/", true},
		{"", false},
		{"/manifests/latest", false},
		{"manifests//latest", false},
		{"manifests/../../other/manifests/x", false},
		{"manifests/..", false},
		{"manifests/.hidden", false},
		{"manifests/a?b", false},
		{"manifests/a#b", false},
		{"manifests/a%2fb", false},
		{"manifests/a b", false},
		{"manifests/a\r\nX: y", false},
		{"manifests/" + strings.Repeat("a", 600), false},
	} {
		if err := checkPath(tt.in); (err == nil) != tt.ok {
			t.Errorf("%q: %v, want ok=%v", tt.in, err, tt.ok)
		}
	}
}
