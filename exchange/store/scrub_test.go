package store

import (
	"errors"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd-project/meshd/e2e/testlog"
	"github.com/opencontainers/go-digest"
)

// What has rotted is fetched again, and nothing else: the pieces that hold stay, over a restart and a kill too.
func TestRotIsFetchedAgain(t *testing.T) {
	data := sample(1, 5*smallPieces)
	d := digest.FromBytes(data)
	for name, restart := range map[string]func(t *testing.T, s *Store) *Store{
		"at once":         func(_ *testing.T, s *Store) *Store { return s },
		"after a restart": func(t *testing.T, s *Store) *Store { return s.reopened(t) },
		"after a kill":    func(t *testing.T, s *Store) *Store { s.abandon(); return openStore(t, s.cfg) },
	} {
		t.Run(name, func(t *testing.T) {
			s := tempStore(t)
			keep(t, s, data)
			s = s.reopened(t)
			rot(t, s.paths.blob(d), 3*smallPieces+1, true)
			b, err := s.Get(d)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Check(3*smallPieces, 1); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("check: %v", err)
			}
			b.Close()
			if i, err := s.Stat(d); err != nil || i.Complete || i.InUse {
				t.Errorf("stat: %+v, %v", i, err)
			}
			s = restart(t, s)
			p := begin(t, s, data)
			defer p.Close()
			if got := heldPieces(p); !slices.Equal(got, []int{0, 1, 2, 4}) {
				t.Errorf("held %v", got)
			}
			if p.Proof(0) != nil {
				t.Error("somebody else vouches for a piece of a blob that was whole here")
			}
			fill(t, p, data, 3)
			got, err := p.Commit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantContent(t, got, data)
			got.Close()
			if u := s.Usage(); u.Bytes != int64(len(data)) {
				t.Errorf("usage: %+v", u)
			}
		})
	}
}

// Whatever fails when a blob rots, it is not handed out, and can be had again.
func TestRotFaults(t *testing.T) {
	testlog.To(t)
	data := map[string][]byte{"x": sample(1, 4*smallPieces)}
	d := digest.FromBytes(data["x"])
	for at := 1; ; at++ {
		for _, apply := range []bool{false, true} {
			disk := &faultDisk{apply: apply, err: errFault}
			s, err := open(testConfig(t.TempDir()), disk)
			if err != nil {
				t.Fatal(err)
			}
			keep(t, s, data["x"])
			rot(t, s.paths.blob(d), 1, false)
			disk.calls, disk.at = 0, at
			b, err := s.Get(d)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Check(0, 1); !errors.Is(err, ErrCorrupt) {
				t.Errorf("check: %v", err)
			}
			b.Close()
			if _, err := s.Get(d); !errors.Is(err, ErrNotFound) {
				t.Errorf("call %d, %s, apply=%v: get: %v", at, disk.name, apply, err)
			}
			s.abandon()
			audit(t, "rot", s.cfg, data)
			if disk.name == "" {
				if at < 5 {
					t.Errorf("only %d calls", at-1)
				}
				return
			}
		}
	}
}

// scrubbed opens a store in a bubble of virtual time, with n blobs of ten pieces that an earlier run has left, and a
// scrubber that takes ten virtual seconds for each.
func scrubbed(t *testing.T, n int) *Store {
	cfg := testConfig(t.TempDir())
	s := openStore(t, cfg)
	for i := range n {
		keep(t, s, sample(uint64(i), 10*smallPieces))
	}
	s.Close()
	cfg.ScrubRate = smallPieces
	return openStore(t, cfg)
}

// run has Run look after the store until the end of the test.
func (s *Store) run(t *testing.T) {
	done := make(chan error)
	go func() { done <- s.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestScrub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scrubbed(t, 3)
		bad := sample(1, 10*smallPieces)
		var left []digest.Digest
		s.OnEvict(func(d digest.Digest) { left = append(left, d) })
		rot(t, s.paths.blob(digest.FromBytes(bad)), 9*smallPieces, true)
		if got := s.Scrub(); got.Due != 3 || got.Blobs != 0 {
			t.Errorf("before: %+v", got)
		}
		used, err := s.Stat(digest.FromBytes(sample(0, 10*smallPieces)))
		if err != nil {
			t.Fatal(err)
		}
		s.run(t)
		time.Sleep(5 * time.Second)
		if got := s.Scrub(); got.Bytes < 4*smallPieces || got.Bytes > bufSize+6*smallPieces {
			t.Errorf("after 5 s: %+v", got)
		}
		time.Sleep(time.Hour)
		if got := s.Scrub(); got.Due != 0 || got.Blobs != 2 || got.Corrupt != 1 || got.Oldest > 2*time.Hour {
			t.Errorf("after an hour: %+v", got)
		}
		if !slices.Equal(left, []digest.Digest{digest.FromBytes(bad)}) {
			t.Errorf("left: %v", left)
		}
		if i, err := s.Stat(used.Digest); err != nil || !i.Used.Equal(used.Used) || i.InUse {
			t.Errorf("scrubbing counts as use: %+v, %v", i, err)
		}
		before := s.Scrub().Bytes
		time.Sleep(DefaultScrubEvery - 2*time.Hour)
		if got := s.Scrub().Bytes; got != before {
			t.Errorf("%d bytes hashed before they were due", got-before)
		}
		time.Sleep(3 * time.Hour)
		if got := s.Scrub(); got.Blobs != 4 || got.Bytes != before+20*smallPieces {
			t.Errorf("after a week: %+v", got)
		}
	})
}

func TestScrubPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scrubbed(t, 2)
		s.PauseScrub(true)
		s.run(t)
		time.Sleep(time.Hour)
		if got := s.Scrub(); got.Bytes != 0 || !got.Paused || got.Due != 2 {
			t.Errorf("paused: %+v", got)
		}
		s.PauseScrub(false)
		time.Sleep(time.Hour)
		if got := s.Scrub(); got.Blobs != 2 || got.Paused {
			t.Errorf("after the pause: %+v", got)
		}
	})
}

// What is being read is left alone, what is pinned is not.
func TestScrubLeavesReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scrubbed(t, 2)
		d := digest.FromBytes(sample(0, 10*smallPieces))
		mustPin(t, s, "pin", time.Time{}, d)
		b, err := s.Get(digest.FromBytes(sample(1, 10*smallPieces)))
		if err != nil {
			t.Fatal(err)
		}
		s.run(t)
		time.Sleep(time.Hour)
		if got := s.Scrub(); got.Blobs != 1 || got.Due != 1 {
			t.Errorf("while one is read: %+v", got)
		}
		b.Close()
		time.Sleep(time.Hour)
		if got := s.Scrub(); got.Blobs != 2 || got.Due != 0 {
			t.Errorf("after that: %+v", got)
		}
	})
}

// A file that cannot be read to its end has rotted as well.
func TestScrubShortFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scrubbed(t, 1)
		d := digest.FromBytes(sample(0, 10*smallPieces))
		s.run(t)
		if err := os.Truncate(s.paths.blob(d), 5*smallPieces); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if _, err := s.Get(d); !errors.Is(err, ErrNotFound) {
			t.Errorf("get: %v", err)
		}
	})
}
