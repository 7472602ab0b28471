package store

import (
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
)

// A cache that is deleted under a running node fills again: it does not stay broken until a restart.
func TestDeletedUnderneath(t *testing.T) {
	s := tempStore(t)
	first, second := sample(1, 3*smallPieces), sample(2, smallPieces)
	d := digest.FromBytes(first)
	empty := func() {
		t.Helper()
		if err := os.RemoveAll(s.cfg.Dir); err != nil {
			t.Fatal(err)
		}
	}
	empty()
	p, err := s.Begin(d, int64(len(first)), smallPieces)
	if err != nil {
		t.Fatalf("Begin in an emptied cache: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	empty()
	if err := s.Put(digest.FromBytes(second), "", second); err != nil {
		t.Fatalf("Put in an emptied cache: %v", err)
	}
	empty()
	if _, err := s.Get(digest.FromBytes(second)); err == nil {
		t.Fatal("Get finds what was deleted")
	}
	if err := s.Put(digest.FromBytes(second), "", second); err != nil {
		t.Fatalf("Put again: %v", err)
	}
}
