package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/meshd-project/meshd/e2e/table"
)

// helperEnv makes this test binary a helper process instead.
const helperEnv = "MESHD_E2E_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) == "proxy" {
		os.Exit(runProxy(os.Args[1:]))
	}
	built.dir, built.errs = os.Getenv(builtEnv), map[string]error{}
	code := m.Run()
	table.Print(os.Stderr)
	if built.dir != os.Getenv(builtEnv) {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built are the programs that the tests run, built once.
var built struct {
	sync.Mutex
	dir  string
	errs map[string]error
}

// program builds a main package of this module or its tools and returns the path of the binary.
func program(t testing.TB, pkg string) string { return build(t, ".", pkg) }

// client builds a program or a tool of the module in clients.
func client(t testing.TB, pkg string) string { return build(t, "clients", pkg) }

func build(t testing.TB, module, pkg string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "meshd-e2e-bin-")
		if err != nil {
			t.Fatal(err)
		}
		built.dir = dir
	}
	path := filepath.Join(built.dir, filepath.Base(pkg))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if _, tried := built.errs[pkg]; !tried {
		out, err := exec.Command("go", "build", "-C", module, "-o", path, pkg).CombinedOutput()
		if err != nil {
			built.errs[pkg] = fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
	}
	if err := built.errs[pkg]; err != nil {
		t.Fatal(err)
	}
	return path
}

func meshdBinary(t testing.TB) string {
	return program(t, "github.com/meshd-project/meshd/cmd/meshd")
}

func craneBinary(t testing.TB) string {
	return program(t, "github.com/google/go-containerregistry/cmd/crane")
}

// need finds programs, and skips or (MESHD_REQUIRE_ALL) fails the test if one is missing.
func need(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, name+" is not installed (make test installs it as root)")
		}
	}
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("MESHD_REQUIRE_ALL") != "" {
		t.Fatalf("MESHD_REQUIRE_ALL is set, and %s", what)
	}
	t.Skipf("SKIPPED, NOT TESTED: %s", what)
}

// long skips a test in short mode.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("long: not in short mode")
	}
}
