package setup

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What stands in the place of a configuration file and is none is left alone, at once, and so is what cannot be written.
func TestOddFiles(t *testing.T) {
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"folder":        {func(path string) error { return os.Mkdir(path, 0o755) }, "it is no file: it is left as it is"},
		"pipe":          {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "it is no file: it is left as it is"},
		"dangling link": {func(path string) error { return os.Symlink("nowhere/x.json", path) }, "a link to nowhere/x.json, which is not there"},
		"link to a link that leads nowhere": {func(path string) error {
			return os.Symlink(filepath.Base(path), path) // to itself
		}, "too many levels of symbolic links"},
		"huge": {func(path string) error { return os.WriteFile(path, make([]byte, maxFile+1), 0o600) }, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, "etc/docker/daemon.json")
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := setUp(t, root, "docker"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			after, err := os.Lstat(path)
			if err != nil || before.Mode() != after.Mode() || !os.SameFile(before, after) {
				t.Errorf("it was touched: %v, %v", after, err)
			}
			if all, err := os.ReadDir(filepath.Dir(path)); err != nil || len(all) != 1 {
				t.Errorf("left behind: %v, %v", all, err)
			}
		})
	}
}
