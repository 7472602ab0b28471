package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshd-project/meshd/e2e/testlog"
	"github.com/opencontainers/go-digest"
)

// powerDisk writes down what is done to it, so that a power loss can be played after any of its calls. What POSIX
// promises is all that it promises: content by the file's sync, a name by its directory's.
type powerDisk struct {
	osDisk
	mu    sync.Mutex
	ops   []diskOp
	live  map[string]int // inode by name
	last  int            // inode
	marks []powerMark
	read  int64 // bytes read of blobs
}

// diskOp is one call. One of set, sync and syncDir says what kind it is.
type diskOp struct {
	ino     int
	off     int64
	data    []byte // written at off
	size    int64  // of a truncation; -1 otherwise
	sync    bool
	syncDir string
	set     []dirEntry // changed names
}

// dirEntry is a name and the inode that it has from now on, 0: none.
type dirEntry struct {
	name string
	ino  int
}

// powerMark is a promise of the store from the call after which it was made.
type powerMark struct {
	at   int
	what string
	held bool // else it is over
}

func newPowerDisk() *powerDisk { return &powerDisk{live: make(map[string]int)} }

func (d *powerDisk) note(op diskOp) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops = append(d.ops, op)
}

func (d *powerDisk) mark(what string, held bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.marks = append(d.marks, powerMark{len(d.ops), what, held})
}

// promised lists what the store had promised when at calls were done.
func (d *powerDisk) promised(at int) map[string]bool {
	out := make(map[string]bool)
	for _, m := range d.marks {
		if m.at <= at {
			out[m.what] = m.held
		}
	}
	return out
}

func (d *powerDisk) Open(name string, flag int) (file, error) {
	f, err := d.osDisk.Open(name, flag)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ino, ok := d.live[name]
	if !ok {
		d.last++
		ino = d.last
		d.live[name] = ino
		d.ops = append(d.ops, diskOp{size: -1, set: []dirEntry{{name, ino}}})
	}
	if flag&os.O_TRUNC != 0 {
		d.ops = append(d.ops, diskOp{ino: ino})
	}
	return &powerFile{f, d, ino, !strings.HasSuffix(name, journalExt)}, nil
}

func (d *powerDisk) Rename(from, to string) error {
	if err := d.osDisk.Rename(from, to); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ino := d.live[from]
	delete(d.live, from)
	d.live[to] = ino
	d.ops = append(d.ops, diskOp{size: -1, set: []dirEntry{{from, 0}, {to, ino}}})
	return nil
}

func (d *powerDisk) Remove(name string) error {
	if err := d.osDisk.Remove(name); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.live, name)
	d.ops = append(d.ops, diskOp{size: -1, set: []dirEntry{{name, 0}}})
	return nil
}

func (d *powerDisk) SyncDir(name string) error {
	d.note(diskOp{size: -1, syncDir: name})
	return nil
}

type powerFile struct {
	file
	d    *powerDisk
	ino  int
	blob bool
}

func (f *powerFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.note(diskOp{ino: f.ino, off: off, data: slices.Clone(b), size: -1})
	return f.file.WriteAt(b, off)
}

func (f *powerFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.file.ReadAt(b, off)
	if f.blob {
		f.d.mu.Lock()
		f.d.read += int64(n)
		f.d.mu.Unlock()
	}
	return n, err
}

func (f *powerFile) Truncate(size int64) error {
	f.d.note(diskOp{ino: f.ino, size: size})
	return f.file.Truncate(size)
}

func (f *powerFile) Allocate(size int64) (bool, error) {
	f.d.note(diskOp{ino: f.ino, size: size})
	return f.file.Allocate(size)
}

func (f *powerFile) Sync() error { f.d.note(diskOp{ino: f.ino, size: -1, sync: true}); return nil }

// image is what a disk holds for certain, and what may have reached it besides.
type image struct {
	files   map[int][]byte
	names   map[string]int
	writes  []diskOp // to files, since their sync
	renames []diskOp // of names, since the sync of their directories
}

// after returns the image when the first n calls were done.
func (d *powerDisk) after(n int) *image {
	m := &image{files: make(map[int][]byte), names: make(map[string]int)}
	for _, op := range d.ops[:n] {
		switch {
		case op.set != nil:
			m.renames = append(m.renames, diskOp{set: slices.Clone(op.set)})
		case op.syncDir != "":
			m.syncDir(op.syncDir)
		case op.sync:
			m.writes = slices.DeleteFunc(m.writes, func(w diskOp) bool {
				if w.ino == op.ino {
					m.write(w)
				}
				return w.ino == op.ino
			})
		default:
			m.writes = append(m.writes, op)
		}
	}
	return m
}

func (m *image) syncDir(dir string) {
	for i := range m.renames {
		op := &m.renames[i]
		op.set = slices.DeleteFunc(op.set, func(e dirEntry) bool {
			if filepath.Dir(e.name) != dir {
				return false
			}
			m.enter(e)
			return true
		})
	}
}

func (m *image) enter(e dirEntry) {
	if e.ino == 0 {
		delete(m.names, e.name)
		return
	}
	m.names[e.name] = e.ino
}

func (m *image) write(op diskOp) {
	b := m.files[op.ino]
	end := max(op.off+int64(len(op.data)), op.size)
	if op.size >= 0 && int64(len(b)) > op.size {
		b = b[:op.size]
	}
	if grow := end - int64(len(b)); grow > 0 {
		b = append(b, make([]byte, grow)...)
	}
	copy(b[op.off:], op.data)
	m.files[op.ino] = b
}

// fate is what becomes of what was not synced.
type fate string

const (
	lost    fate = "lost"    // none of it reached the disk
	named   fate = "named"   // the names did, no content
	written fate = "written" // the content did, no name
	most    fate = "most"    // most did, in any order, some writes in part
	mixed   fate = "mixed"   // half did, in any order, some writes in part
)

// cut decides what of the rest reached the disk.
func (m *image) cut(f fate, r *rand.Rand) {
	random := f == most || f == mixed
	reached := func() bool { return f == most && r.IntN(8) > 0 || f == mixed && r.IntN(2) == 0 }
	for _, op := range m.renames {
		if f == named || reached() {
			for _, e := range op.set {
				m.enter(e)
			}
		}
	}
	writes := slices.Clone(m.writes)
	if random {
		r.Shuffle(len(writes), func(i, j int) { writes[i], writes[j] = writes[j], writes[i] })
	}
	for _, op := range writes {
		if random && len(op.data) > 0 && r.IntN(6) == 0 { // torn
			from := r.IntN(len(op.data))
			op.off, op.data = op.off+int64(from), op.data[from:from+r.IntN(len(op.data)-from)]
		}
		if f == written || reached() {
			m.write(op)
		}
	}
}

// save writes the image down under dir, as it was under old.
func (m *image) save(t *testing.T, old, dir string) {
	t.Helper()
	for _, sub := range (paths{dir}).dirs() {
		if err := os.MkdirAll(sub, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, ino := range m.names {
		rel, err := filepath.Rel(old, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, rel), m.files[ino], 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// powerStory is a life with everything in it, and marks what it is promised.
func powerStory(t *testing.T, s *Store, d *powerDisk, data map[string][]byte) {
	t.Helper()
	commit := func(name string) {
		keep(t, s, data[name])
		d.mark(name, true)
	}
	part := func(name string, pieces ...int) {
		p := begin(t, s, data[name])
		fill(t, p, data[name], pieces...)
		if name == "left" {
			if err := p.Reset(); err != nil {
				t.Fatal(err)
			}
			fill(t, p, data[name], 1)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	commit("whole")
	part("resumed", 2, 0)
	mustPin(t, s, "pin", time.Time{}, digest.FromBytes(data["resumed"]))
	d.mark("pin", true)
	part("left", 0, 3)
	commit("resumed")
	if err := s.Put(digest.FromBytes(data["put"]), manifestType, data["put"]); err != nil {
		t.Fatal(err)
	}
	d.mark("pin", false)
	if err := s.Unpin("pin"); err != nil {
		t.Fatal(err)
	}
	d.mark("whole", false)
	if err := s.Delete(digest.FromBytes(data["whole"])); err != nil {
		t.Fatal(err)
	}
}

// The power fails after each call to the disk. Of what was not synced any part may be lost, torn or there in another order.
// What a restart hands out is right, what Commit and Pin had promised is there, and all else can be had again.
func TestPowerLoss(t *testing.T) {
	testlog.To(t)
	data := storyData()
	d := newPowerDisk()
	cfg := testConfig(t.TempDir())
	s, err := open(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	powerStory(t, s, d, data)
	s.Close()
	if len(d.ops) < 80 {
		t.Fatalf("the story has only %d calls", len(d.ops))
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	for at := 0; at <= len(d.ops); at += step {
		for _, f := range []fate{lost, named, written, most, mixed} {
			seed := rand.Uint64()
			name := fmt.Sprintf("after call %d, %s, seed %d", at, f, seed)
			m := d.after(at)
			m.cut(f, rand.New(rand.NewPCG(seed, 0)))
			lostCfg := testConfig(t.TempDir())
			m.save(t, cfg.Dir, lostCfg.Dir)
			wantPromised(t, name, lostCfg, data, d.promised(at))
			audit(t, name, lostCfg, data)
		}
	}
}

// wantPromised checks that a restart finds what was promised.
func wantPromised(t *testing.T, name string, cfg Config, data map[string][]byte, promised map[string]bool) {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer s.Close()
	for what, held := range promised {
		if !held {
			continue
		}
		if what == "pin" {
			if pins := s.Pins(); len(pins) != 1 || pins[0].Name != "pin" {
				t.Errorf("%s: pins %v", name, pins)
			}
			continue
		}
		b, err := s.Get(digest.FromBytes(data[what]))
		if err != nil {
			t.Errorf("%s: %s was committed: %v", name, what, err)
			continue
		}
		wantContent(t, b, data[what])
		b.Close()
	}
	if len(s.Pins()) > 0 { // or audit could not delete
		if err := s.Unpin("pin"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(s.paths.pins()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", name, err)
	}
	_ = os.Remove(s.paths.pins() + tempExt)
}

// A restart reads again what nobody knows to be whole, and nothing else: of an arriving blob the pieces that its journal
// names, once; of a complete one no byte before it is asked for.
func TestRestartReadsNoMore(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := openStore(t, cfg)
	whole, arriving := sample(1, 8*smallPieces), sample(2, 8*smallPieces)
	keep(t, s, whole)
	p := begin(t, s, arriving)
	fill(t, p, arriving, 1, 4, 6)
	s.abandon()

	d := newPowerDisk()
	s, err := open(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if d.read != 0 {
		t.Errorf("open read %d bytes of blobs", d.read)
	}
	p = begin(t, s, arriving)
	defer p.Close()
	if want := int64(3 * smallPieces); d.read != want {
		t.Errorf("begin read %d bytes in place of %d", d.read, want)
	}
	d.read = 0
	fill(t, p, arriving)
	b, err := p.Commit(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if want := int64(len(arriving)); d.read != want { // for the digest of the whole, behind the writers
		t.Errorf("commit read %d bytes in place of %d", d.read, want)
	}

	b, err = s.Get(digest.FromBytes(whole))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.ReadAt(make([]byte, 10), 5*smallPieces); err != nil {
		t.Fatal(err)
	}
	for i, proven := range b.ledger.proven {
		if proven != (i == 5) {
			t.Errorf("piece %d hashed: %v", i, proven)
		}
	}
}
