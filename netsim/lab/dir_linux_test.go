package lab

import (
	"os"
	"path/filepath"
	"testing"
)

// A run removes what killed ones left, and leaves those alone that go on.
func TestKilledRunsAreSwept(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	killed := filepath.Join(tmp, dirPrefix+"1")
	other := filepath.Join(tmp, "other")
	for _, d := range []string{filepath.Join(killed, "a-1", "blobs"), other} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	first, done, err := openDir()
	if err != nil {
		t.Fatal(err)
	}
	second, doneToo, err := openDir()
	if err != nil {
		t.Fatal(err)
	}
	for path, there := range map[string]bool{killed: false, other: true, first: true, second: true} {
		if _, err := os.Stat(path); (err == nil) != there {
			t.Errorf("%s is there: %t, want %t", path, err == nil, there)
		}
	}
	for _, end := range []func() error{done, doneToo} {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, dirPrefix+"*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
