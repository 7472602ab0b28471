package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
)

var errFault = errors.New("injected fault")

// faultDisk fails its at-th call (from 1), with or without effect.
type faultDisk struct {
	osDisk
	calls int
	at    int
	apply bool // the call has its effect although it fails; a write has half of it otherwise
	err   error
	name  string // of the call that failed
	file  string // that it was about
}

// fault counts a call and decides its fate.
func (d *faultDisk) fault(op, name string) (apply bool, err error) {
	if d.calls++; d.calls != d.at {
		return true, nil
	}
	d.name, d.file = op, name
	return d.apply, d.err
}

// tolerated reports whether the story may go on as if nothing had happened: a sidecar can be computed again, what is not
// removed is found by Open, and a directory that is not synced holds either the old file or the new one.
func (d *faultDisk) tolerated() bool {
	return d.name == "remove" || d.name == "syncdir" || strings.HasSuffix(d.file, metaExt+tempExt) ||
		d.name == "rename" && strings.Contains(d.file, "blobs") // to the trash: removed where it is
}

func (d *faultDisk) Open(name string, flag int) (file, error) {
	apply, err := d.fault("open", name)
	if !apply {
		return nil, err
	}
	f, oerr := d.osDisk.Open(name, flag)
	if err != nil {
		if oerr == nil {
			f.Close()
		}
		return nil, err
	}
	if oerr != nil {
		return nil, oerr
	}
	return &faultFile{d, name, f}, nil
}

func (d *faultDisk) do(op, name string, f func() error) error {
	apply, err := d.fault(op, name)
	if apply {
		if ferr := f(); err == nil {
			err = ferr
		}
	}
	return err
}

func (d *faultDisk) Rename(from, to string) error {
	return d.do("rename", from, func() error { return d.osDisk.Rename(from, to) })
}

func (d *faultDisk) Remove(name string) error {
	return d.do("remove", name, func() error { return d.osDisk.Remove(name) })
}

func (d *faultDisk) SyncDir(name string) error {
	return d.do("syncdir", name, func() error { return d.osDisk.SyncDir(name) })
}

func (d *faultDisk) Free(name string) (free, total int64, err error) {
	err = d.do("free", name, func() (err error) { free, total, err = d.osDisk.Free(name); return })
	return
}

type faultFile struct {
	d    *faultDisk
	name string
	file
}

func (f *faultFile) WriteAt(b []byte, off int64) (n int, err error) {
	apply, err := f.d.fault("write", f.name)
	if !apply {
		b = b[:len(b)/2] // torn
	}
	n, werr := f.file.WriteAt(b, off)
	if err == nil {
		err = werr
	}
	return n, err
}

func (f *faultFile) Truncate(size int64) error {
	return f.d.do("truncate", f.name, func() error { return f.file.Truncate(size) })
}
func (f *faultFile) Sync() error { return f.d.do("sync", f.name, f.file.Sync) }

func (f *faultFile) Stat() (info fs.FileInfo, err error) {
	err = f.d.do("stat", f.name, func() (err error) { info, err = f.file.Stat(); return })
	return
}

func (f *faultFile) Allocate(size int64) (ok bool, err error) {
	err = f.d.do("allocate", f.name, func() (err error) { ok, err = f.file.Allocate(size); return })
	return
}

// story is a life with everything in it. It returns the first error; each step after it is done all the same, as by a
// caller that goes on. Steps of which nothing is left to do return nil.
func story(s *Store, data map[string][]byte) (first error) {
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	pull := func(b []byte, end int, reset bool) {
		p, err := s.Begin(digest.FromBytes(b), int64(len(b)), smallPieces)
		if err != nil {
			note(err)
			return
		}
		defer func() { note(p.Close()) }()
		for round := 0; round == 0 || round == 1 && reset; round++ {
			for i := range end {
				piece, sum := pieceOf(p.layout, b, i)
				note(p.WritePiece(i, piece, sum, proofOf(i)))
			}
			if reset && round == 0 {
				note(p.Reset())
			}
		}
		if end == p.Pieces() {
			got, err := p.Commit(context.Background())
			note(err)
			if err == nil {
				got.Close()
			}
		}
	}
	pull(data["whole"], 4, false)
	pull(data["resumed"], 2, false)
	pull(data["resumed"], 4, false)
	pull(data["left"], 2, true)
	note(s.Put(digest.FromBytes(data["put"]), manifestType, data["put"]))
	note(s.Put(digest.FromBytes(data["whole"]), manifestType, data["whole"]))
	if err := s.Delete(digest.FromBytes(data["whole"])); !errors.Is(err, ErrNotFound) {
		note(err)
	}
	return first
}

func storyData() map[string][]byte {
	return map[string][]byte{
		"whole": sample(1, 4*smallPieces), "resumed": sample(2, 4*smallPieces),
		"left": sample(3, 4*smallPieces), "put": sample(4, 2*smallPieces),
	}
}

// Every call to the disk fails once, in both flavours: not done, and done all the same. Whatever the story then
// says, nothing wrong is trusted, neither at once nor after a restart or a kill, and the same blobs can be had again.
func TestFaults(t *testing.T) {
	data := storyData()
	count := &faultDisk{}
	s, err := open(testConfig(t.TempDir()), count)
	if err != nil {
		t.Fatal(err)
	}
	start := count.calls
	if err := story(s, data); err != nil {
		t.Fatal(err)
	}
	total := count.calls
	s.Close()
	if total-start < 50 {
		t.Fatalf("the story has only %d calls", total-start)
	}
	for at := 1; at <= total; at++ {
		for _, apply := range []bool{false, true} {
			for _, kind := range []error{errFault, syscall.ENOSPC} {
				name := fmt.Sprintf("%d/apply=%v/%v", at, apply, kind)
				d := &faultDisk{at: at, apply: apply, err: kind}
				cfg := testConfig(t.TempDir())
				s, err := open(cfg, d)
				if err != nil {
					if at > start || !errors.Is(err, kind) {
						t.Fatalf("%s: open: %v", name, err)
					}
					continue // the lock is free again, or the audit below could not open
				}
				err = story(s, data)
				if err != nil && !errors.Is(err, kind) {
					t.Errorf("%s: %s: story ends in %v", name, d.name, err)
				}
				if err == nil && !d.tolerated() && at > start {
					t.Errorf("%s: %s of %s fails and nobody is told", name, d.name, d.file)
				}
				if errors.Is(kind, syscall.ENOSPC) && err != nil && !errors.Is(err, ErrNoSpace) && d.name == "write" {
					t.Errorf("%s: a full disk is called %v", name, err)
				}
				auditOpen(t, name+" "+d.name, s, data)
				if at%2 == 0 {
					s.abandon()
				} else {
					s.Close()
				}
				audit(t, name+" "+d.name, cfg, data)
			}
		}
	}
}

// auditOpen checks that what an open store hands out is right.
func auditOpen(t *testing.T, name string, s *Store, data map[string][]byte) {
	t.Helper()
	for _, b := range data {
		got, err := s.Get(digest.FromBytes(b))
		if err == nil {
			wantContent(t, got, b)
			got.Close()
		} else if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: get: %v", name, err)
		}
	}
}

// audit opens a directory without faults and checks that all it holds is right, that all can be had again, and that
// nothing is left in the end.
func audit(t *testing.T, name string, cfg Config, data map[string][]byte) {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatalf("%s: reopen: %v", name, err)
	}
	defer s.Close()
	auditOpen(t, name, s, data)
	for what, b := range data {
		d := digest.FromBytes(b)
		p, err := s.Begin(d, int64(len(b)), smallPieces)
		if errors.Is(err, ErrComplete) {
			continue
		}
		if err != nil {
			t.Fatalf("%s: begin %s: %v", name, what, err)
		}
		wantHeldRight(t, p, b)
		fill(t, p, b)
		got, err := p.Commit(context.Background())
		if err != nil {
			t.Fatalf("%s: commit %s: %v", name, what, err)
		}
		wantContent(t, got, b)
		got.Close()
		p.Close()
	}
	for _, b := range data {
		if err := s.Delete(digest.FromBytes(b)); err != nil {
			t.Errorf("%s: delete: %v", name, err)
		}
	}
	if u := s.Usage(); u.Bytes != 0 || u.Partials != 0 || s.promised != 0 {
		t.Errorf("%s: not empty: %+v", name, u)
	}
	if got := filesUnder(t, cfg.Dir); len(got) != 1 {
		t.Errorf("%s: files left: %v", name, got)
	}
}

// A commit that fails at the sync, after which the kernel may have thrown pages away, is never tried again on the
// same file.
func TestFailedSyncIsFinal(t *testing.T) {
	data := sample(1, 4*smallPieces)
	d := &faultDisk{err: errFault}
	s, err := open(testConfig(t.TempDir()), d)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := begin(t, s, data)
	fill(t, p, data)
	f, err := p.OpenFile()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d.calls, d.at = 0, 1
	if _, err := p.Commit(context.Background()); !errors.Is(err, errFault) || d.name != "sync" {
		t.Fatalf("commit: %v at %s", err, d.name)
	}
	if _, err := p.Commit(context.Background()); !errors.Is(err, errFault) {
		t.Errorf("second commit: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, s)
}

func TestOpenFaultsFreeTheLock(t *testing.T) {
	cfg := testConfig(t.TempDir())
	if _, err := open(cfg, &faultDisk{at: 1, err: errFault}); !errors.Is(err, errFault) {
		t.Fatal(err)
	}
	openStore(t, cfg)
	if _, err := os.Stat(cfg.Dir); err != nil {
		t.Error(err)
	}
}
