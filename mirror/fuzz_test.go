package mirror

import (
	"net/url"
	"strings"
	"testing"
)

// Whatever a registry says where the next page is: the client is sent to this mirror, on the path that it asked for, with
// the registry that it named.
func FuzzLink(f *testing.F) {
	for _, s := range []string{
		`</v2/_catalog?last=a&n=5>; rel="next"`, `<https://evil.example/x?ns=evil.example&last=b>; rel="next"`, `<?a=%zz>; rel="next"`, `<x>; rel="prev"`, `<>;next`, `x`, `<a>b>;next`,
		"<?a=\r\nSet-Cookie: x>; rel=next",
	} {
		f.Add(s, "h.example")
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, link, ns string) {
		got, ok := rewriteLink(link, "/v2/a/tags/list", ns)
		if !ok {
			return
		}
		target, tail, _ := strings.Cut(strings.TrimPrefix(got, "<"), ">")
		u, err := url.Parse(target)
		if err != nil || u.Path != "/v2/a/tags/list" || u.Host != "" || u.Scheme != "" || tail != `; rel="next"` || strings.ContainsAny(got, "\r\n\x00") {
			t.Fatalf("%q becomes %q, %v", link, got, err)
		}
		if q := u.Query(); q.Get("ns") != ns || len(q["ns"]) > 1 {
			t.Fatalf("%q becomes %q, of registry %q", link, got, ns)
		}
	})
}
