package proxy

import (
	"strings"
	"testing"
)

func TestParseRuleRefuses(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"", "want HOST"},
		{"harbor.example", "want HOST"},
		{"harbor.example=", "unknown action"},
		{"harbor.example=tunnel", "want mesh, direct or refuse"},
		{"=direct", "host name"},
		{"https://harbor.example=mesh", "host name"},
		{"harbor.example:0=mesh", "host name"},
		{"/[/=mesh", "missing closing ]"},
		{"/" + strings.Repeat("a", maxPattern) + "/=mesh", "at most 1024"},
	} {
		if r, err := ParseRule(row.text); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: got %v, %v; want %q", row.text, r, err, row.want)
		}
	}
}

func TestDecide(t *testing.T) {
	registries := []Registry{
		{Name: "harbor.example", URLs: []string{"https://10.1.1.1:8443"}},
		{Name: "local.example:5000", URLs: []string{"http://127.0.0.1:5001"}},
		{Name: "docker.io"},
	}
	const here, elsewhere = "127.0.0.1:1", "10.9.9.9:1"
	for _, row := range []struct {
		name   string
		rules  string // separated by blanks
		target string
		from   string
		want   string // action and registry, or part of the refusal
		named  bool
	}{
		{"a registry", "", "harbor.example:443", here, "mesh harbor.example", true},
		{"its spelling does not matter", "", "HARBOR.example.:443", here, "mesh harbor.example", true},
		{"its address", "", "10.1.1.1:8443", here, "mesh harbor.example", true},
		{"another port of its host", "", "harbor.example:22", here, "port 22 is not open", true},
		{"a registry with a port", "", "local.example:5000", here, "mesh local.example:5000", true},
		{"a registry for clients elsewhere", "", "harbor.example:443", elsewhere, "mesh harbor.example", true},
		{"Docker Hub's API", "", "registry-1.docker.io:443", here, "mesh docker.io", true},
		{"Docker Hub's tokens", "", "auth.docker.io:443", here, "direct", false},
		{"any other host", "", "example.com:443", here, "direct", false},
		{"any other host for clients elsewhere", "", "example.com:443", elsewhere, "other machines", false},
		{"a port that is not open", "", "example.com:22", here, "--proxy-rule example.com:22=direct", false},
		{"a port that a registry's address has", "", "example.com:8443", here, "direct", false},
		{"a rule opens its port", "example.com:22=direct", "example.com:22", here, "direct", true},
		{"a rule without port opens none", "example.com=direct", "example.com:22", here, "port 22", true},
		{"a rule lets clients elsewhere through", "example.com=direct", "example.com:443", elsewhere, "direct", true},
		{"the first rule counts", "example.com=refuse example.com=direct", "example.com:443", here, "the rule example.com=refuse refuses", false},
		{"the first rule that fits", "other.example=refuse example.com=mesh", "example.com:443", here, "mesh example.com", true},
		{"a rule stands over a registry", "harbor.example=direct", "harbor.example:443", here, "direct", true},
		{"a rule for another port", "example.com:444=refuse", "example.com:443", here, "direct", false},
		{"a rule for Docker Hub", "docker.io=refuse", "registry-1.docker.io:443", here, "refuses", true},
		{"a regular expression", `/(.+\.)?corp\.example/=mesh`, "r.corp.example:443", here, "mesh r.corp.example", false},
		{"it has to fit the whole", `/corp/=mesh`, "corp.example:443", here, "direct", false},
		{"it opens the port that it names", `/.*\.corp:(5000|5001)/=mesh`, "r.corp:5001", here, "mesh r.corp:5001", false},
		{"it opens no other", `/.*/=mesh`, "r.corp:5009", here, "port 5009", false},
		{"IPv6", "[2001:db8::1]:5000=direct", "[2001:0db8::0001]:5000", here, "direct", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			var rules []Rule
			for _, s := range strings.Fields(row.rules) {
				r, err := ParseRule(s)
				if err != nil {
					t.Fatal(err)
				}
				rules = append(rules, r)
			}
			p, err := newPolicy(rules, registries)
			if err != nil {
				t.Fatal(err)
			}
			to, err := parseTarget(row.target, "")
			if err != nil {
				t.Fatal(err)
			}
			d, err := p.decide(to, "", row.from)
			got := strings.TrimSpace(d.action.String() + " " + d.registry)
			if err != nil {
				got = err.Error()
			}
			if err == nil && got != row.want || !strings.Contains(got, row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
			if d.named != row.named {
				t.Errorf("named is %v, want %v", d.named, row.named)
			}
		})
	}
}

func TestRegistriesThatAreNoHosts(t *testing.T) {
	for _, r := range []Registry{{Name: "a/b"}, {Name: "a", URLs: []string{"://secret"}}, {Name: "a", URLs: []string{"https://a b"}}} {
		if _, err := newPolicy(nil, []Registry{r}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: got %v", r, err)
		}
	}
}

// What is parsed is written in one way, and read back as the same.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"", "a", "A.b.:443", "a:0", "a:65536", "[::1]:5000", "[::1]", "::1", "[::ffff:1.2.3.4]:1", "[fe80::1%25eth0]:1", "1.2.3.4:80", "a b:1", "[a]:1", "a:+1", "a_b", "\x00:1", "[1.2.3.4]:5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseTarget(s, "443")
		if err != nil {
			return
		}
		if strings.ContainsAny(got.String(), " /?#@\r\n%\x00") || got.host != strings.ToLower(got.host) {
			t.Fatalf("%q became %q", s, got)
		}
		again, err := parseTarget(got.String(), "")
		if err != nil || again != got {
			t.Fatalf("%q became %+v, and that %+v, %v", s, got, again, err)
		}
	})
}

func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"a=mesh", "/a=b/=direct", "[::1]:5000=refuse", "//=mesh", "/=mesh", "a:1=direct", "=", "/(/=mesh"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			return
		}
		if r.String() != s {
			t.Fatalf("%q became %q", s, r)
		}
		if fits, port := r.match(target{host: "a.example", port: "1"}); port && !fits {
			t.Fatalf("%q fits the port but not the host", s)
		}
	})
}
