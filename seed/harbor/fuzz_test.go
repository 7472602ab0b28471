package harbor

import (
	"net/http"
	"strings"
	"testing"
)

// What a file of credentials does not name lets nobody in, and errors tell no secret.
func FuzzParseAuth(f *testing.F) {
	for _, s := range []string{
		"none\n", "# x\n\nbasic u:password12345678\n", "bearer 0123456789abcdef0123\n", "header X-Secret: 0123456789abcdef0123\n", "basic u\n", "bearer x\n",
		"header : 0123456789abcdef0123", "header A B: 0123456789abcdef0123", "bearer 0123456789abcdef\x000123456789", "nobody", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAuth([]byte(s))
		if err != nil {
			if a.Open() || len(a.want) > 0 {
				t.Fatalf("%q is refused and lets in", s)
			}
			return
		}
		if open := a.allows(http.Header{}); open != a.Open() {
			t.Fatalf("%q lets in whoever says nothing", s)
		}
		if !a.Open() && !strings.Contains(s, "basic") && !strings.Contains(s, "bearer") && !strings.Contains(s, "header") {
			t.Fatalf("%q names no way in", s)
		}
	})
}
