package exchange

import (
	"context"
	"errors"
	"testing"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/opencontainers/go-digest"
)

// A fetch adds pieces only once the core was told that the blob is open: it drops what comes before, and the only
// piece of a small blob was lost so, for ever.
func TestFetchWaitsUntilTheCoreKnows(t *testing.T) {
	st, err := store.Open(store.Config{Dir: t.TempDir(), MinFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	s := newSession(digest.FromString("x"), nil)
	if err := s.beginPartial(st, 1000); err != nil {
		t.Fatal(err)
	}
	defer s.part.Close()
	defer s.closeFile()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.awaitOpen(ctx, 1000); !errors.Is(err, context.Canceled) {
		t.Fatalf("a fetch goes on before the core knows: %v", err)
	}
	s.told = 1000
	if _, l, err := s.awaitOpen(ctx, 1000); err != nil || l.Size != 1000 {
		t.Fatalf("layout %v, %v", l, err)
	}
}
