package node

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCAIsMadeOnceAndKept(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	if _, err := loadCA(dir, now); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{CAFile: 0o644, CAKeyFile: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %#o, want %#o", name, info.Mode().Perm(), mode)
		}
	}
	first, _ := os.ReadFile(filepath.Join(dir, CAFile))
	if _, err := loadCA(dir, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(filepath.Join(dir, CAFile)); !bytes.Equal(first, again) {
		t.Error("the second start made another CA")
	}
}

func TestCAThatCannotBeUsed(t *testing.T) {
	for _, row := range []struct {
		name   string
		damage func(t *testing.T, cert, key string)
		later  time.Duration
		want   string // in the error; "" = a new CA is made
	}{
		{"key open to others", func(t *testing.T, _, key string) { chmod(t, key, 0o640) }, 0, "want 0600"},
		{"key missing", func(t *testing.T, _, key string) { remove(t, key) }, 0, "remove both files"},
		{"certificate missing", func(t *testing.T, cert, _ string) { remove(t, cert) }, 0, ""},
		{"certificate damaged", func(t *testing.T, cert, _ string) { truncate(t, cert) }, 0, "remove both files"},
		{"key damaged", func(t *testing.T, _, key string) { truncate(t, key) }, 0, "remove both files"},
		{"after ten years", func(*testing.T, string, string) {}, 11 * 365 * 24 * time.Hour, "ended on"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := openDir(t)
			now := time.Now()
			if _, err := loadCA(dir, now); err != nil {
				t.Fatal(err)
			}
			secret, err := os.ReadFile(filepath.Join(dir, CAKeyFile))
			if err != nil {
				t.Fatal(err)
			}
			row.damage(t, filepath.Join(dir, CAFile), filepath.Join(dir, CAKeyFile))
			_, err = loadCA(dir, now.Add(row.later))
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Fatalf("got %v, want %q", err, row.want)
			}
			if err != nil && strings.Contains(err.Error(), strings.Split(string(secret), "\n")[1]) {
				t.Error("the error tells the key")
			}
		})
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string) {
	t.Helper()
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
}
