package storetest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Keeper(t, func(*testing.T) store.Keeper { return &storetest.Memory{} })
}

func TestLocal(t *testing.T) {
	storetest.Keeper(t, func(t *testing.T) store.Keeper {
		s, err := store.Open(store.Config{
			Dir: t.TempDir(), MinFree: -1, PieceSize: func(int64) int64 { return storetest.PieceSize },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return store.Local(s)
	})
}

// A layout is what somebody else has written, and links in it lead nowhere.
func TestLayout(t *testing.T) {
	dir := t.TempDir()
	if _, err := store.OpenLayout(dir); err == nil {
		t.Error("a directory of nothing is taken for a layout")
	}
	if err := os.Mkdir(filepath.Join(dir, "ingest"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := store.OpenLayout(dir)
	if err != nil {
		t.Fatalf("the store of a containerd that has pulled nothing: %v", err)
	}
	storetest.Backend(t, l)
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenLayout(dir); err != nil {
		t.Fatal(err)
	}
	storetest.Backend(t, l)
	var all [][]byte
	for i := range 3 {
		data := storetest.Sample(uint64(i), i*storetest.PieceSize+1)
		all = append(all, data)
		if err := os.WriteFile(filepath.Join(blobs, digest.FromBytes(data).Encoded()), data, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("absent"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(blobs, digest.FromString("absent").Encoded())); err != nil {
		t.Fatal(err)
	}
	storetest.Backend(t, l, all...)
}
