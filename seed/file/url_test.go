package file

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

func parse(t testing.TB, raw string, filter ...string) Request {
	t.Helper()
	r, err := Parse(raw, nil, filter)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSame(t *testing.T) {
	for _, row := range []struct {
		name, raw, want string
		filter          []string
	}{
		{"as it is", "https://a.example/b/c.tar?x=1&y=2", "https://a.example/b/c.tar?x=1&y=2", nil},
		{"case of scheme and host", "HTTPS://A.Example/B", "https://a.example/B", nil},
		{"the scheme's port", "http://a.example:80/b", "http://a.example/b", nil},
		{"an empty port", "http://a.example:/b", "http://a.example/b", nil},
		{"another port", "http://a.example:443/b", "http://a.example:443/b", nil},
		{"no path", "http://a.example", "http://a.example/", nil},
		{"fragment", "http://a.example/b#c", "http://a.example/b", nil},
		{"name and password", "http://u:p@a.example/b", "http://a.example/b", nil},
		{"escapes stay", "http://a.example/b%2Fc%20d", "http://a.example/b%2Fc%20d", nil},
		{"one filtered", "http://a.example/b?x=1&sig=abc&y=2", "http://a.example/b?x=1&y=2", []string{"sig"}},
		{"all filtered", "http://a.example/b?sig=abc", "http://a.example/b", []string{"sig"}},
		{"filtered, escaped", "http://a.example/b?s%69g=abc&y", "http://a.example/b?y", []string{" sig"}},
		{"a name that begins alike", "http://a.example/b?sign=1", "http://a.example/b?sign=1", []string{"sig"}},
		{"IPv6", "http://[::1]:80/b", "http://[::1]/b", nil},
	} {
		if got := parse(t, row.raw, row.filter...).Same(); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, raw := range []string{
		"", "a.example/b", "ftp://a.example/b", "file:///etc/passwd", "http://", "http:///b", "http:opaque", "docker://a/b",
		"http://a.example/\x00", "http://a.example/%zz", "http://a.example/" + strings.Repeat("a", MaxURL),
	} {
		if _, err := Parse(raw, nil, nil); !errors.Is(err, ErrURL) {
			t.Errorf("%.40q: %v", raw, err)
		}
	}
	if _, err := Parse("http://u:secret@a.example:port/b?secret", nil, nil); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells: %v", err)
	}
	for _, h := range []http.Header{
		{"Range": {"bytes=0-1"}}, {"if-match": {`"x"`}}, {"Host": {"b.example"}}, {"a b": {"c"}}, {"A": {"b\r\nC: d"}}, {"A": {strings.Repeat("x", maxHeader)}},
	} {
		if _, err := Parse("http://a.example/", h, nil); !errors.Is(err, ErrHeader) {
			t.Errorf("%.40q: %v", h, err)
		}
	}
}

func TestUserinfoIsAHeader(t *testing.T) {
	r := parse(t, "http://user:pass@a.example/b")
	if r.Header.Get("Authorization") != "Basic dXNlcjpwYXNz" || !r.Private() || strings.Contains(r.String(), "pass") {
		t.Errorf("%v", r.Header)
	}
	given, err := Parse("http://user:pass@a.example/b", http.Header{"authorization": {"Bearer x"}}, nil)
	if err != nil || given.Header.Get("Authorization") != "Bearer x" {
		t.Errorf("%v, %v", given.Header, err)
	}
}

// FuzzParse: what is accepted means the same when it is read again, and has no secret left in the URL.
func FuzzParse(f *testing.F) {
	f.Add("http://u:p@a.example:80/b?c=d&e#f", "c")
	f.Add("https://[::1%25eth0]:443/%2e%2e/b?;;&=&", "")
	f.Fuzz(func(t *testing.T, raw, filter string) {
		r, err := Parse(raw, nil, []string{filter})
		if err != nil {
			return
		}
		same := r.Same()
		again, err := Parse(same, nil, []string{filter})
		if err != nil {
			t.Fatalf("%q is not read again as %q: %v", raw, same, err)
		}
		if again.Same() != same || again.Private() {
			t.Fatalf("%q: %q, then %q", raw, same, again.Same())
		}
	})
}
