package store

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// clock is a Store.now that tests move.
type clock struct{ t time.Time }

func newClock(s *Store) *clock {
	c := &clock{time.Now()}
	s.now = func() time.Time { return c.t }
	return c
}

func (c *clock) tick() { c.t = c.t.Add(time.Second) }

// has lists which of the samples 1 to n are there, complete or not.
func has(s *Store, size, n int) (out []int) {
	for i := 1; i <= n; i++ {
		if _, err := s.Stat(digest.FromBytes(sample(uint64(i), size))); err == nil {
			out = append(out, i)
		}
	}
	return out
}

const kib = 1 << 10

func TestEvictLeastRecentlyUsed(t *testing.T) {
	s := tempStore(t, func(c *Config) { c.Capacity = 40 * kib })
	c := newClock(s)
	var left []digest.Digest
	s.OnEvict(func(d digest.Digest) {
		if _, err := s.Stat(d); !errors.Is(err, ErrNotFound) { // also: no lock is held
			t.Errorf("told of %s too early: %v", d, err)
		}
		left = append(left, d)
	})
	for i := range 4 {
		keep(t, s, sample(uint64(i+1), 10*kib))
		c.tick()
	}
	mustRead(t, s, sample(1, 10*kib)) // 2 is the oldest now
	c.tick()
	keep(t, s, sample(5, 10*kib))
	if got := has(s, 10*kib, 5); !slices.Equal(got, []int{1, 3, 4, 5}) {
		t.Errorf("kept %v", got)
	}
	if !slices.Equal(left, []digest.Digest{digest.FromBytes(sample(2, 10*kib))}) {
		t.Errorf("told of %v", left)
	}
	if err := s.Put(digest.FromString("m"), "", []byte("m")); err != nil {
		t.Fatal(err)
	}
	if got := has(s, 10*kib, 5); !slices.Equal(got, []int{1, 4, 5}) {
		t.Errorf("kept after Put %v", got)
	}
	if u := s.Usage(); u.Bytes != 30*kib+1 || u.Blobs != 4 || u.Capacity != 40*kib {
		t.Errorf("usage %+v", u)
	}
}

func TestNeverEvictInUse(t *testing.T) {
	s := tempStore(t, func(c *Config) { c.Capacity = 30 * kib })
	c := newClock(s)
	keep(t, s, sample(1, 10*kib))
	b, err := s.Get(digest.FromBytes(sample(1, 10*kib)))
	if err != nil {
		t.Fatal(err)
	}
	c.tick()
	p := begin(t, s, sample(2, 10*kib))
	c.tick()
	keep(t, s, sample(3, 10*kib))
	if _, err := s.Begin(digest.FromString("big"), 11*kib, kib); !errors.Is(err, ErrNoSpace) {
		t.Errorf("begin of more than is free and idle: %v", err)
	}
	if got := has(s, 10*kib, 3); !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("a refused begin evicts: kept %v", got)
	}
	q := begin(t, s, sample(4, 10*kib))
	if got := has(s, 10*kib, 4); !slices.Equal(got, []int{1, 2, 4}) {
		t.Errorf("kept %v", got)
	}
	b.Close()
	r := begin(t, s, sample(5, 10*kib))
	if got := has(s, 10*kib, 5); !slices.Equal(got, []int{2, 4, 5}) {
		t.Errorf("kept after close %v", got)
	}
	for _, p := range []*Partial{p, q, r} {
		p.Close()
	}
}

// A committed blob whose Partial is not closed yet is in use.
func TestCommittedButOpen(t *testing.T) {
	s := tempStore(t, func(c *Config) { c.Capacity = 10 * kib })
	data := sample(1, 10*kib)
	p := begin(t, s, data)
	fill(t, p, data)
	b, err := p.Commit(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if _, err := s.Begin(digest.FromString("x"), 1, 1); !errors.Is(err, ErrNoSpace) {
		t.Errorf("got %v", err)
	}
	p.Close()
	q, err := s.Begin(digest.FromString("x"), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	q.Close()
}

func TestStalePartialsGoFirst(t *testing.T) {
	s := tempStore(t, func(c *Config) { c.Capacity = 40 * kib; c.PartialTTL = time.Hour })
	c := newClock(s)
	keep(t, s, sample(1, 10*kib))
	c.tick()
	half := func(i uint64) {
		p := begin(t, s, sample(i, 10*kib))
		fill(t, p, sample(i, 10*kib), 0, 1)
		p.Close()
		c.tick()
	}
	half(2)
	c.t = c.t.Add(2 * time.Hour) // 2 is stale now
	half(3)
	keep(t, s, sample(4, 10*kib))
	for _, row := range []struct {
		next uint64
		want []int
	}{
		{5, []int{1, 3, 4, 5}}, // the stale partial, though 1 is older
		{6, []int{3, 4, 5, 6}}, // then by use
		{7, []int{4, 5, 6, 7}}, // a fresh partial like any other
	} {
		c.tick()
		keep(t, s, sample(row.next, 10*kib))
		if got := has(s, 10*kib, 7); !slices.Equal(got, row.want) {
			t.Errorf("after %d: kept %v, want %v", row.next, got, row.want)
		}
	}
}

func TestOpenDropsOldPartials(t *testing.T) {
	s := tempStore(t, func(c *Config) { c.PartialTTL = time.Hour })
	p := begin(t, s, sample(1, 10*kib))
	fill(t, p, sample(1, 10*kib), 0)
	p.Close()
	s = s.reopened(t)
	if has(s, 10*kib, 1) == nil {
		t.Fatal("a fresh partial is gone")
	}
	s.cfg.PartialTTL = time.Nanosecond
	wantEmpty(t, s.reopened(t))
}

func TestLRUSurvivesRestart(t *testing.T) {
	s := tempStore(t)
	c := newClock(s)
	c.t = c.t.Add(-time.Hour)
	for i := range 3 {
		keep(t, s, sample(uint64(i+1), 10*kib))
	}
	for _, i := range []uint64{2, 3, 1} {
		c.t = c.t.Add(10 * time.Minute) // uses closer together than stampEvery are not told apart
		mustRead(t, s, sample(i, 10*kib))
	}
	s.cfg.Capacity = 20 * kib
	s = s.reopened(t) // a lower capacity is kept at once
	if got := has(s, 10*kib, 3); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("kept %v", got)
	}
}

// fullDisk has only free bytes left, of 100 MiB.
type fullDisk struct {
	osDisk
	free int64
}

func (d *fullDisk) Free(string) (int64, int64, error) { return d.free, 100 << 20, nil }

func TestMinFree(t *testing.T) {
	for _, row := range []struct {
		name     string
		minFree  int64
		free     int64
		need     int64
		want     error
		wantKept bool
	}{
		{"plenty", 0, math.MaxInt64 / 2, 10 * kib, nil, true},
		{"5 percent by default, just enough", 0, 5<<20 + 10*kib, 10 * kib, nil, true},
		{"one byte short: what is idle goes", 0, 5<<20 + 10*kib - 1, 10 * kib, nil, false},
		{"short by more than there is", 0, 5 << 20, 30 * kib, ErrNoSpace, true},
		{"own bound", 1 << 20, 1<<20 + 10*kib, 10 * kib, nil, true},
		{"own bound missed", 1 << 20, 1 << 20, 30 * kib, ErrNoSpace, true},
		{"no bound", -1, 10 * kib, 10 * kib, nil, true},
		{"no bound, disk too small", -1, 9 * kib, 30 * kib, ErrNoSpace, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := &fullDisk{free: math.MaxInt64 / 2}
			cfg := testConfig(t.TempDir())
			cfg.MinFree = row.minFree
			s, err := open(cfg, d)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			keep(t, s, sample(1, 10*kib))
			d.free = row.free
			p, err := s.Begin(digest.FromString("x"), row.need, kib)
			if !errors.Is(err, row.want) {
				t.Errorf("begin: %v, want %v", err, row.want)
			}
			if err == nil {
				p.Close()
			}
			if kept := has(s, 10*kib, 1) != nil; kept != row.wantKept {
				t.Errorf("idle blob kept: %v", kept)
			}
		})
	}
}

// lazyDisk allocates nothing, as some file systems do.
type lazyDisk struct{ fullDisk }

type lazyFile struct{ file }

func (d *lazyDisk) Open(name string, flag int) (file, error) {
	f, err := d.fullDisk.Open(name, flag)
	return lazyFile{f}, err
}

func (f lazyFile) Allocate(size int64) (bool, error) { return false, f.Truncate(size) }

// Where blocks cannot be allocated, room is not given out twice.
func TestPromisedRoom(t *testing.T) {
	d := &lazyDisk{fullDisk{free: 25 * kib}}
	s, err := open(testConfig(t.TempDir()), d)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := sample(1, 10*kib)
	p := begin(t, s, data)
	if _, err := s.Begin(digest.FromString("x"), 20*kib, kib); !errors.Is(err, ErrNoSpace) {
		t.Errorf("room promised twice: %v", err)
	}
	fill(t, p, data, 0, 1, 2, 3, 4)
	d.free -= 5 * kib
	q, err := s.Begin(digest.FromString("x"), 15*kib, kib)
	if err != nil {
		t.Fatal(err)
	}
	q.Discard()
	p.Close()
	p = begin(t, s, data) // resumed: what is held is not promised again
	if s.promised != 5*kib {
		t.Errorf("promised %d", s.promised)
	}
	fill(t, p, data)
	b, err := p.Commit(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	p.Close()
	if s.promised != 0 {
		t.Errorf("promised in the end %d", s.promised)
	}
}

func TestDelete(t *testing.T) {
	s := tempStore(t)
	data := sample(1, 3*smallPieces)
	d := keep(t, s, data)
	var told int
	s.OnEvict(func(digest.Digest) { told++ })
	b, err := s.Get(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(d); !errors.Is(err, ErrInUse) {
		t.Errorf("delete in use: %v", err)
	}
	b.Close()
	b.Close()
	if err := s.Delete(d); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(d); !errors.Is(err, ErrNotFound) {
		t.Errorf("second delete: %v", err)
	}
	p := begin(t, s, data)
	fill(t, p, data, 0)
	p.Close()
	if err := s.Delete(d); err != nil {
		t.Fatal(err)
	}
	if told != 1 {
		t.Errorf("told %d times; a partial does not count", told)
	}
	wantEmpty(t, s)
}

// Eviction that the capacity calls for goes on to the low water mark, so that the next pulls evict nothing.
func TestLowWater(t *testing.T) {
	s := tempStore(t, func(c *Config) { c.Capacity, c.LowWater = 100*kib, 70*kib })
	c := newClock(s)
	for i := range 10 {
		keep(t, s, sample(uint64(i+1), 10*kib))
		c.tick()
	}
	if got := s.Usage().Blobs; got != 10 {
		t.Errorf("%d blobs below the capacity", got)
	}
	b, err := s.Get(digest.FromBytes(sample(1, 10*kib)))
	if err != nil {
		t.Fatal(err)
	}
	c.tick()
	keep(t, s, sample(11, 10*kib))
	if got := has(s, 10*kib, 11); !slices.Equal(got, []int{1, 6, 7, 8, 9, 10, 11}) {
		t.Errorf("kept %v", got)
	}
	for i := range 3 {
		c.tick()
		keep(t, s, sample(uint64(12+i), 10*kib))
	}
	if got := s.Usage().Blobs; got != 10 {
		t.Errorf("%d blobs: a pull above low water evicts", got)
	}
	b.Close()
	// What fits below the capacity fits, though it does not below low water.
	p, err := s.Begin(digest.FromString("big"), 95*kib, kib)
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
}

// fillingDisk is a fullDisk that others write to meanwhile.
type fillingDisk struct {
	osDisk
	free atomic.Int64
}

func (d *fillingDisk) Free(string) (int64, int64, error) { return d.free.Load(), 100 << 20, nil }

// Others fill the disk: what is unused makes way within a minute, up to the free target, whoever pulls or not.
func TestOthersFillTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &fillingDisk{}
		disk.free.Store(100 * kib)
		cfg := testConfig(t.TempDir())
		cfg.MinFree, cfg.FreeTarget = 20*kib, 35*kib
		s, err := open(cfg, disk)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for i := range 6 {
			keep(t, s, sample(uint64(i+1), 10*kib))
			time.Sleep(time.Second)
		}
		mustPin(t, s, "pin", time.Time{}, digest.FromBytes(sample(1, 10*kib)))
		var left atomic.Int32
		s.OnEvict(func(digest.Digest) { left.Add(1) })
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(roomEvery + time.Second)
		synctest.Wait()
		if got := has(s, 10*kib, 6); len(got) != 6 {
			t.Errorf("kept %v with room left", got)
		}
		synctest.Wait()
		disk.free.Store(10 * kib)
		time.Sleep(roomEvery + time.Second)
		synctest.Wait()
		if got := has(s, 10*kib, 6); !slices.Equal(got, []int{1, 5, 6}) || left.Load() != 3 {
			t.Errorf("kept %v, told of %d", got, left.Load())
		}
		synctest.Wait()
		disk.free.Store(0) // and nothing more can be done than to let go of all that is unused
		time.Sleep(roomEvery + time.Second)
		synctest.Wait()
		if got := has(s, 10*kib, 6); !slices.Equal(got, []int{1}) {
			t.Errorf("kept %v", got)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
