package exchange

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"
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

// What the store held for a session that has ended meanwhile is not told to the core: it would take the blob for open, never
// have it opened for the next session, and that one would wait in vain.
func TestEndedSessionHoldsNothing(t *testing.T) {
	d := digest.FromString("x")
	now, before := newSession(d, nil), newSession(d, nil)
	x := &Exchange{sessions: map[digest.Digest]*session{d: now}}
	held := swarm.Held{Digest: d, Size: 1000, Have: swarm.NewBitmap(1)}
	ev, ok := x.live(heldBy{held, now})
	if _, plain := ev.(swarm.Held); !ok || !plain {
		t.Errorf("the word of the session that lasts is %T, %v", ev, ok)
	}
	if _, ok := x.live(heldBy{held, before}); ok {
		t.Error("the word of a session that was replaced counts")
	}
	now.retired = true
	if _, ok := x.live(heldBy{held, now}); ok {
		t.Error("the word of a retired session counts")
	}
	now.retired, now.phase = false, failed
	if _, ok := x.live(heldBy{held, now}); ok {
		t.Error("the word of a failed session counts")
	}
	if ev, ok := x.live(swarm.Tick{}); !ok || ev != (swarm.Tick{}) {
		t.Error("other events do not pass")
	}
}

// A blob that is complete cannot leave the store before the core was told that it is there: heard of in the other order, the
// blob would be held for ever, and who wants it would wait in vain.
func TestCompleteBlobStaysUntilTheCoreKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, d := content(1000, 1)
		st, err := store.Open(store.Config{Dir: t.TempDir(), MinFree: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		s := newSession(d, nil)
		x := &Exchange{
			store: st, sessions: map[digest.Digest]*session{d: s}, streams: semaphore.NewWeighted(1), inbox: make(chan swarm.Event),
		}
		if err := s.beginPartial(st, int64(len(data))); err != nil {
			t.Fatal(err)
		}
		if err := s.part.WritePiece(0, data, sha256.Sum256(data), nil); err != nil {
			t.Fatal(err)
		}
		go x.commit(t.Context(), s, s.part)
		synctest.Wait() // nobody reads the inbox yet
		if x.session(d) != nil {
			t.Fatal("the session goes on")
		}
		if err := st.Delete(d); !errors.Is(err, store.ErrInUse) {
			t.Errorf("before the core knows: %v", err)
		}
		if ev := <-x.inbox; ev != (swarm.Verified{Digest: d}) {
			t.Errorf("the core is told %+v", ev)
		}
		synctest.Wait()
		if err := st.Delete(d); err != nil {
			t.Errorf("once it does: %v", err)
		}
	})
}
