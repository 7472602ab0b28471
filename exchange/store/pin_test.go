package store

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func pinNames(s *Store) (out []string) {
	for _, p := range s.Pins() {
		out = append(out, p.Name)
	}
	return out
}

func mustPin(t *testing.T, s *Store, name string, until time.Time, blobs ...digest.Digest) {
	t.Helper()
	if err := s.Pin(Pin{Name: name, Blobs: blobs, Until: until}); err != nil {
		t.Fatal(err)
	}
}

// What a pin lists stays, whatever was used more recently, until the last pin of it is gone or over.
func TestPinnedIsNeverDeleted(t *testing.T) {
	s := tempStore(t, func(c *Config) { c.Capacity = 30 * kib })
	c := newClock(s)
	one, two := digest.FromBytes(sample(1, 10*kib)), digest.FromBytes(sample(2, 10*kib))
	mustPin(t, s, "image", time.Time{}, one) // before it is here
	mustPin(t, s, "other", c.t.Add(time.Hour), one, two)
	for i := range 5 {
		keep(t, s, sample(uint64(i+1), 10*kib))
		c.tick()
	}
	if got := has(s, 10*kib, 5); !slices.Equal(got, []int{1, 2, 5}) {
		t.Errorf("kept %v", got)
	}
	if err := s.Delete(one); !errors.Is(err, ErrPinned) || !errors.Is(err, ErrInUse) {
		t.Errorf("delete: %v", err)
	}
	if i, err := s.Stat(one); err != nil || !i.Pinned || i.InUse {
		t.Errorf("stat: %+v, %v", i, err)
	}
	if u := s.Usage(); u.Pinned != 20*kib {
		t.Errorf("usage: %+v", u)
	}
	if _, err := s.Begin(digest.FromString("big"), 11*kib, kib); !errors.Is(err, ErrNoSpace) {
		t.Errorf("begin of more than is not pinned: %v", err)
	}

	c.t = c.t.Add(time.Hour) // "other" is over
	if got := pinNames(s); !slices.Equal(got, []string{"image"}) {
		t.Errorf("pins: %v", got)
	}
	keep(t, s, sample(6, 20*kib))
	if got := has(s, 10*kib, 5); !slices.Equal(got, []int{1}) {
		t.Errorf("kept after the end of a pin %v", got)
	}
	if err := s.Unpin("image"); err != nil {
		t.Fatal(err)
	}
	if err := s.Unpin("other"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unpin of what is over: %v", err)
	}
	if err := s.Delete(one); err != nil {
		t.Errorf("delete after unpin: %v", err)
	}
}

// Pins hold across restarts: what is complete, at a capacity that was lowered, and what is arriving, at any age.
func TestPinsSurviveRestart(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := openStore(t, cfg)
	one, half := sample(1, 10*kib), sample(2, 10*kib)
	keep(t, s, one)
	keep(t, s, sample(3, 10*kib))
	p := begin(t, s, half)
	fill(t, p, half, 0, 1)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour).Round(0)
	mustPin(t, s, "a", until, digest.FromBytes(one))
	mustPin(t, s, "b", time.Time{}, digest.FromBytes(half))
	mustPin(t, s, "b", time.Time{}, digest.FromBytes(one), digest.FromBytes(half)) // in its place
	old := time.Now().Add(-100 * time.Hour)
	for _, name := range []string{s.paths.meta(digest.FromBytes(one)), s.paths.journal(digest.FromBytes(half))} {
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	s.abandon()

	cfg.Capacity = 20 * kib
	s = openStore(t, cfg)
	if got := has(s, 10*kib, 3); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("kept %v", got)
	}
	got := s.Pins()
	if len(got) != 2 || !got[0].Until.Equal(until) || len(got[1].Blobs) != 2 || !got[1].Until.IsZero() {
		t.Errorf("pins %+v", got)
	}
}

func TestPinRefuses(t *testing.T) {
	d := digest.FromString("x")
	s := tempStore(t)
	mustPin(t, s, "many", time.Time{}, slices.Repeat([]digest.Digest{d}, MaxPinned)...)
	for name, row := range map[string]struct {
		pin  Pin
		want error
	}{
		"no name":        {Pin{Blobs: []digest.Digest{d}}, ErrInvalid},
		"long name":      {Pin{Name: strings.Repeat("x", MaxPinName+1)}, ErrInvalid},
		"path":           {Pin{Name: "x", Blobs: []digest.Digest{"sha256:../../etc/passwd"}}, ErrInvalid},
		"algorithm":      {Pin{Name: "x", Blobs: []digest.Digest{"sha384:" + digest.Digest(strings.Repeat("0", 96))}}, ErrUnsupported},
		"one blob more":  {Pin{Name: "x", Blobs: []digest.Digest{d}}, ErrInvalid},
		"longest, empty": {Pin{Name: strings.Repeat("x", MaxPinName)}, nil},
	} {
		if err := s.Pin(row.pin); !errors.Is(err, row.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := s.Pins(); len(got) != 2 {
		t.Errorf("%d pins", len(got))
	}
}

// A file of pins that cannot be read is put aside, and the store opens.
func TestDamagedPins(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := openStore(t, cfg)
	keep(t, s, sample(1, 10*kib))
	mustPin(t, s, "a", time.Time{}, digest.FromBytes(sample(1, 10*kib)))
	s.Close()
	edit(t, s.paths.pins(), cut(3))
	s = openStore(t, cfg)
	if got := pinNames(s); got != nil {
		t.Errorf("pins %v", got)
	}
	mustRead(t, s, sample(1, 10*kib))
	if _, err := os.Stat(s.paths.pins() + damagedSuffix); err != nil {
		t.Error(err)
	}
}

// Every call to the disk fails once while pins change, in both flavours: a restart finds the pins of before or those of
// after the change, and those of after it if it was said to be done.
func TestPinFaults(t *testing.T) {
	d := digest.FromString("x")
	for name, change := range map[string]func(*Store) error{
		"pin":   func(s *Store) error { return s.Pin(Pin{Name: "b", Blobs: []digest.Digest{d}}) },
		"unpin": func(s *Store) error { return s.Unpin("a") },
	} {
		for _, apply := range []bool{false, true} {
			at := 1
			for pinFault(t, name, change, &faultDisk{at: at, apply: apply, err: errFault}) {
				at++
			}
			if at < 5 { // open, write, sync, rename, sync of the directory
				t.Errorf("%s: only %d calls", name, at-1)
			}
		}
	}
}

// pinFault runs a change on a disk that fails, and reports whether it did.
func pinFault(t *testing.T, name string, change func(*Store) error, disk *faultDisk) bool {
	at := disk.at
	disk.at = 0
	s, err := open(testConfig(t.TempDir()), disk)
	if err != nil {
		t.Fatal(err)
	}
	mustPin(t, s, "a", time.Time{}, digest.FromString("x"))
	before, after := []string{"a"}, []string{"a", "b"}
	if name == "unpin" {
		after = nil
	}
	disk.calls, disk.at = 0, at
	err = change(s)
	name = fmt.Sprintf("%s: call %d, %s, apply=%v", name, at, disk.name, disk.apply)
	inForce := pinNames(s)
	s.abandon()
	found := pinNames(openStore(t, s.cfg))
	switch {
	case err == nil && (!slices.Equal(inForce, after) || !slices.Equal(found, after)):
		t.Errorf("%s: pins %v, after a restart %v, want %v", name, inForce, found, after)
	case err != nil && !slices.Equal(inForce, before):
		t.Errorf("%s: a change that failed is in force: %v", name, inForce)
	case !slices.Equal(found, before) && !slices.Equal(found, after):
		t.Errorf("%s: a restart finds %v", name, found)
	}
	if err == nil && disk.name != "" && disk.name != "remove" {
		t.Errorf("%s: nobody is told", name)
	}
	return disk.name != ""
}

func FuzzPins(f *testing.F) {
	f.Add([]byte(`{"pins":[{"name":"a","blobs":["` + string(digest.FromString("x")) + `"],"until":"2030-01-02T03:04:05Z"}]}`))
	f.Add([]byte(`{"pins":[{"name":"","blobs":null}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		pins, err := parsePins(text)
		if err != nil {
			return
		}
		s := tempStore(t)
		if err := s.writePins(pins); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(s.paths.pins())
		if err != nil {
			t.Fatal(err)
		}
		again, err := parsePins(raw)
		if err != nil || !reflect.DeepEqual(sortedPins(again), sortedPins(pins)) {
			t.Errorf("%v comes back as %v, %v", pins, again, err)
		}
	})
}
