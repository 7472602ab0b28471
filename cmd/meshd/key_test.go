package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A key that the shell puts into a file is its owner's alone.
func TestKeyNewClosesItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mesh.key")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if code := run([]string{"key", "new"}, streams{out: f, err: os.Stderr}); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 || info.Size() == 0 {
		t.Errorf("%v, %v", info, err)
	}
}
