package node

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// openDir is a temporary directory that everybody on the machine reaches.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "meshd-open-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A secret that others can read stops the start, whichever it is; the error names file and remedy, and not the secret.
func TestSecretsOpenToOthersStopTheStart(t *testing.T) {
	cert, tlsKey := selfSigned(t)
	for _, row := range []struct {
		name string
		of   func(c *Config, dir string) (path string)
	}{
		{"identity", func(c *Config, dir string) string { return filepath.Join(dir, IdentityFile) }},
		{"own mesh key", func(c *Config, dir string) string { return filepath.Join(dir, MeshKeyFile) }},
		{"key of the proxy's CA", func(c *Config, dir string) string { return filepath.Join(dir, CAKeyFile) }},
		{"own admin token", func(c *Config, dir string) string { return filepath.Join(dir, AdminTokenFile) }},
		{"mesh key", func(c *Config, dir string) string {
			c.P2P.MeshKey = copyFile(t, newKey(t), filepath.Join(dir, "given.key"))
			return c.P2P.MeshKey
		}},
		{"admin token", func(c *Config, dir string) string {
			c.Admin.TokenFile = copyFile(t, filepath.Join(dir, AdminTokenFile), filepath.Join(dir, "given.token"))
			return c.Admin.TokenFile
		}},
		{"admin key", func(c *Config, dir string) string {
			c.Admin.Cert, c.Admin.Key = cert, copyFile(t, tlsKey, filepath.Join(dir, "tls.key"))
			return c.Admin.Key
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := testConfig(t, "")
			c.DataDir = openDir(t)
			first, err := start(c) // makes its files
			if err != nil {
				t.Fatal(err)
			}
			if err := first.close(); err != nil {
				t.Fatal(err)
			}
			path := row.of(&c, c.DataDir)
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
			n, err := start(c)
			if err == nil {
				n.close() //nolint:errcheck // it has failed already
				t.Fatal("it starts")
			}
			secret, _ := os.ReadFile(path)
			if text := err.Error(); !strings.Contains(text, "chmod 600 "+path) || strings.Contains(text, string(secret)) {
				t.Errorf("%v", err)
			}
		})
	}
}

func copyFile(t *testing.T, from, to string) string {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// What a closed directory hides is closed, and a symbolic link into the open is open.
func TestHidden(t *testing.T) {
	dir := openDir(t)
	closed := filepath.Join(dir, "closed")
	deep := filepath.Join(closed, "a", "b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "open"), filepath.Join(deep, "secret")} {
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "open"), filepath.Join(deep, "link")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		filepath.Join(dir, "open"): false, filepath.Join(deep, "secret"): true, filepath.Join(deep, "link"): false,
		filepath.Join(deep, "missing"): false,
	} {
		if got := hidden(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// A data dir that was there already is closed to others for writing, whatever os.MkdirAll thinks of it.
func TestDataDirIsClosed(t *testing.T) {
	c := testConfig(t, "")
	if err := os.Chmod(c.DataDir, 0o777); err != nil {
		t.Fatal(err)
	}
	n, err := start(c)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close() //nolint:errcheck // of a test
	if info, err := os.Stat(c.DataDir); err != nil || info.Mode().Perm()&0o022 != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A pipe in the place of a file is refused: to wait for somebody who writes to it would be for ever, deaf to signals.
func TestPipesAreNoFiles(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	starting := func(edit func(*Config)) func() error {
		return func() error {
			c := testConfig(t, "")
			edit(&c)
			n, err := start(c)
			if err == nil {
				n.close() //nolint:errcheck // it has failed already
			}
			return err
		}
	}
	for name, read := range map[string]func() error{
		"mesh key":   starting(func(c *Config) { c.P2P.MeshKey = pipe }),
		"operator":   starting(func(c *Config) { c.P2P.OperatorPublic = pipe }),
		"allow list": starting(func(c *Config) { c.P2P.AllowPeers = pipe }),
		"bootstrap":  func() error { _, err := new(bootstrapper).readFile(t.Context(), pipe); return err },
		"zone":       func() error { _, err := zoneFrom(t.Context(), "file:"+pipe, nil); return err },
	} {
		done := make(chan error, 1)
		go func() { done <- read() }()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), pipe+" is not a file") {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s: waits", name)
			w, err := os.OpenFile(pipe, os.O_RDWR, 0) // nobody waits any more
			if err != nil {
				t.Fatal(err)
			}
			<-done
			w.Close()
		}
	}
}
