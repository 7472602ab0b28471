package swarm_test

import (
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// allowed lists what the core may import. Nothing here can do I/O, tell the time, lock, log or draw unseeded
// randomness; package time is there for Duration only (TestNoClock).
var allowed = []string{
	"cmp", "math", "math/bits", "math/rand/v2", "slices", "strings", "time",
	"github.com/opencontainers/go-digest",
}

func TestImports(t *testing.T) {
	for name, src := range sources(t) {
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			if path, _ := strconv.Unquote(imp.Path.Value); !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s: the core is pure", name, path)
			}
		}
	}
}

func TestNoClock(t *testing.T) {
	for name, src := range sources(t) {
		if name == "doc.go" {
			continue // shows the driver
		}
		for _, word := range []string{"time.Now", "time.Since", "time.After", "time.New", "time.Sleep", "rand.Int", "rand.Perm", "rand.Shuffle", "go func", "chan "} {
			if strings.Contains(src, word) {
				t.Errorf("%s has %q: the core is pure", name, word)
			}
		}
	}
}

// sources returns the package's files without its tests.
func sources(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		if n := e.Name(); strings.HasSuffix(n, ".go") && !strings.HasSuffix(n, "_test.go") {
			src, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			out[n] = string(src)
		}
	}
	if len(out) < 5 {
		t.Fatalf("only %d sources found", len(out))
	}
	return out
}
