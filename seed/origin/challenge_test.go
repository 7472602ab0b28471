package origin

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// render writes challenges the way RFC 9110 wants them.
func render(chs []challenge) string {
	var parts []string
	for _, ch := range chs {
		var params []string
		for _, k := range slices.Sorted(maps.Keys(ch.params)) {
			params = append(params, fmt.Sprintf(`%s="%s"`, k, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(ch.params[k])))
		}
		parts = append(parts, strings.TrimSpace(ch.scheme+" "+strings.Join(params, ",")))
	}
	return strings.Join(parts, ", ")
}

func TestParseChallenges(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"empty", ``, ``},
		{"docker hub", `Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull"`, `bearer realm="https://auth.docker.io/token",scope="repository:library/alpine:pull",service="registry.docker.io"`},
		{"basic", `Basic realm="x y"`, `basic realm="x y"`},
		{"scheme alone", `Negotiate`, `negotiate`},
		{"token68", `Negotiate YWJj==, Basic realm="x"`, `negotiate, basic realm="x"`},
		{"two", `Basic realm="a", Bearer realm="b",service="c"`, `basic realm="a", bearer realm="b",service="c"`},
		{"two, scheme alone first", `Negotiate, Basic realm="a"`, `negotiate, basic realm="a"`},
		{"commas and blanks", ` ,, Bearer  realm = "b" , , service = c ,`, `bearer realm="b",service="c"`},
		{"comma in quotes", `Bearer scope="repository:a:pull,push"`, `bearer scope="repository:a:pull,push"`},
		{"escapes", `Bearer realm="a\"b\\c"`, `bearer realm="a\"b\\c"`},
		{"upper case", `BEARER REALM="A"`, `bearer realm="A"`},
		{"first of a name counts", `Bearer realm="a",realm="b"`, `bearer realm="a"`},
		{"URL without quotes", `Bearer realm=https://a.test/token,service=s`, `bearer realm="https://a.test/token",service="s"`},
		{"empty value", `Bearer realm="",service="s"`, `bearer realm="",service="s"`},
		{"open quote", `Bearer realm="a`, ``},
		{"open escape", `Bearer realm="a\`, ``},
		{"no value: a token68 by the grammar", `Bearer realm=,service="s"`, `bearer`},
		{"what follows is malformed", `Basic realm="a", Bearer realm="`, `basic realm="a"`},
		{"garbage after value", `Bearer realm="a"b`, ``},
		{"control byte", "Bearer realm=\"a\x00b\"", ``},
		{"no scheme", `="a"`, ``},
		{"too long", `Bearer realm="` + strings.Repeat("a", maxChallengeBytes) + `"`, ``},
		{"too many parameters", `Bearer a0=0` + strings.Repeat(`,a=1`, maxChallengeParams+1), ``},
		{"too many challenges", strings.Repeat("A,", 100), strings.TrimSuffix(strings.Repeat("a, ", maxChallenges), ", ")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := render(parseChallenges(tt.in)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestBearerChallenge(t *testing.T) {
	for _, tt := range []struct {
		name    string
		headers []string
		realm   string
	}{
		{"none", nil, ""},
		{"basic", []string{`Basic realm="x"`}, ""},
		{"second header", []string{`Basic realm="x"`, `Bearer realm="y"`}, "y"},
		{"second in header", []string{`Basic realm="x", Bearer realm="y"`}, "y"},
		{"no realm", []string{`Bearer service="y"`}, ""},
		{"Azure storage", []string{`Bearer authorization_uri=https://login.test/x resource_id=https://storage.test`}, ""},
	} {
		ch, ok := bearerChallenge(tt.headers)
		if ok != (tt.realm != "") || ch.params["realm"] != tt.realm {
			t.Errorf("%s: got %v %v, want %q", tt.name, ch, ok, tt.realm)
		}
	}
}

// Whatever is parsed is bounded, well-formed, and reads the same when written properly.
func FuzzParseChallenges(f *testing.F) {
	for _, s := range []string{
		``, `Bearer realm="https://a.test/t",service="s",scope="repository:a:pull"`, `Basic realm="x", Bearer realm=y`,
		`Negotiate YWJj==`, `A b="\"\\"`, `Bearer realm=`, `Bearer realm="`, ` , ,A,B c=d`, "A\tb=c", `a b==`, `a b=c d`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := parseChallenges(s)
		if len(got) > maxChallenges {
			t.Fatalf("%d challenges", len(got))
		}
		for _, ch := range got {
			if ch.scheme == "" || ch.scheme != strings.ToLower(ch.scheme) || strings.Trim(ch.scheme, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") != "" {
				t.Fatalf("scheme %q", ch.scheme)
			}
			if len(ch.params) > maxChallengeParams {
				t.Fatalf("%d parameters", len(ch.params))
			}
			for k, v := range ch.params {
				if k == "" || k != strings.ToLower(k) {
					t.Fatalf("name %q", k)
				}
				if strings.ContainsAny(v, "\r\n") && !strings.Contains(s, `\`) {
					t.Fatalf("value %q", v)
				}
			}
		}
		if s := render(got); len(s) <= maxChallengeBytes && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			if again := render(parseChallenges(s)); again != s {
				t.Fatalf("%q reads as %q", s, again)
			}
		}
	})
}
