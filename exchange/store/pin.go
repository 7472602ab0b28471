package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// Bounds on pins.
const (
	MaxPins       = 4096    // names
	MaxPinName    = 512     // bytes
	MaxPinned     = 1 << 17 // blobs, over all pins
	maxPinsFile   = 64 << 20
	damagedSuffix = ".damaged"
)

// Pin holds blobs in the store: neither eviction nor Delete touches what it lists, while it lasts. A blob that rots goes
// all the same, and is held again when it is back.
type Pin struct {
	// Name tells pins apart, such as an image's reference: 1 to MaxPinName bytes. It is written to disk as it is.
	Name string `json:"name"`
	// Blobs may be here, arriving, or not here yet.
	Blobs []digest.Digest `json:"blobs"`
	// Until is when the pin ends by itself; zero: never.
	Until time.Time `json:"until,omitzero"`
}

func (p Pin) over(now time.Time) bool { return !p.Until.IsZero() && !p.Until.After(now) }

func (p Pin) validate() error {
	if p.Name == "" || len(p.Name) > MaxPinName {
		return fmt.Errorf("pin name of %d bytes: %w", len(p.Name), ErrInvalid)
	}
	for _, d := range p.Blobs {
		if err := checkDigest(d); err != nil {
			return err
		}
	}
	return nil
}

// Pin adds a pin, or puts it in the place of the one of that name. When it returns nil the pin is on disk, and outlives
// a power loss. ErrInvalid for names, digests and numbers out of bounds. It makes no room: pins may hold more than
// the store's capacity, and then nothing else fits (ErrNoSpace).
func (s *Store) Pin(p Pin) error {
	if err := p.validate(); err != nil {
		return fmt.Errorf("store: pin %.80q: %w", p.Name, err)
	}
	p.Blobs = slices.Clone(p.Blobs)
	err := s.changePins(func(pins map[string]Pin) error {
		pins[p.Name] = p
		blobs := 0
		for _, q := range pins {
			blobs += len(q.Blobs)
		}
		if len(pins) > MaxPins || blobs > MaxPinned {
			return fmt.Errorf("%d pins of %d blobs, at most %d of %d: unpin some first: %w",
				len(pins), blobs, MaxPins, MaxPinned, ErrInvalid)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store: pin %q: %w", p.Name, err)
	}
	return nil
}

// Unpin removes a pin for good, as Pin adds it. ErrNotFound if there is none of that name, or it is over.
func (s *Store) Unpin(name string) error {
	err := s.changePins(func(pins map[string]Pin) error {
		if _, ok := pins[name]; !ok {
			return ErrNotFound
		}
		delete(pins, name)
		return nil
	})
	if err != nil {
		return fmt.Errorf("store: unpin %.80q: %w", name, err)
	}
	return nil
}

// Pins lists the pins that are not over, by name. The caller must not change their Blobs.
func (s *Store) Pins() []Pin {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sortedPins(s.livePins())
}

func sortedPins(pins map[string]Pin) []Pin {
	return slices.SortedFunc(maps.Values(pins), func(a, b Pin) int { return cmp.Compare(a.Name, b.Name) })
}

// livePins copies the pins that are not over. Store.mu must be held.
func (s *Store) livePins() map[string]Pin {
	now := s.now()
	out := make(map[string]Pin, len(s.pins))
	for name, p := range s.pins {
		if !p.over(now) {
			out[name] = p
		}
	}
	return out
}

// changePins has change work on a copy of the pins, writes that down and puts it in force.
func (s *Store) changePins(change func(map[string]Pin) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.ops.Done()
	s.pinning.Lock()
	defer s.pinning.Unlock()
	s.mu.Lock()
	pins := s.livePins()
	s.mu.Unlock()
	if err := change(pins); err != nil {
		return err
	}
	if err := s.writePins(pins); err != nil {
		return noSpace(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setPins(pins)
	return nil
}

// setPins puts pins in force. Store.mu must be held.
func (s *Store) setPins(pins map[string]Pin) {
	s.pins, s.pinned = pins, make(map[digest.Digest]time.Time)
	for _, p := range pins {
		for _, d := range p.Blobs {
			if until, ok := s.pinned[d]; p.Until.IsZero() || !ok || !until.IsZero() && until.Before(p.Until) {
				s.pinned[d] = p.Until
			}
		}
	}
}

// isPinned reports whether a pin holds d. Store.mu must be held.
func (s *Store) isPinned(d digest.Digest) bool {
	until, ok := s.pinned[d]
	return ok && (until.IsZero() || until.After(s.now()))
}

// writePins replaces the file of pins, so that a power loss leaves the old one or the new one.
func (s *Store) writePins(pins map[string]Pin) error {
	text, err := json.Marshal(pinsFile{sortedPins(pins)})
	if err != nil {
		return err
	}
	name := s.paths.pins()
	if err := s.writeFile(name+tempExt, append(text, '\n'), true); err != nil {
		return err
	}
	if err := s.disk.Rename(name+tempExt, name); err != nil {
		return err
	}
	return s.disk.SyncDir(s.paths.root)
}

// pinsFile is the file of pins, JSON.
type pinsFile struct {
	Pins []Pin `json:"pins"`
}

// recoverPins reads the file of pins. A damaged one is put aside, to be looked at: a node without its pins serves, one
// that does not start does not.
func (s *Store) recoverPins() error {
	name := s.paths.pins()
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPinsFile+1))
	if err != nil {
		return err
	}
	pins, err := parsePins(text)
	if err != nil {
		log.Errorw("pins are lost, pin anew what must stay", "file", name+damagedSuffix, "err", err)
		return s.disk.Rename(name, name+damagedSuffix)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setPins(pins)
	return nil
}

// parsePins reads what writePins wrote; nothing else is taken.
func parsePins(text []byte) (map[string]Pin, error) {
	if len(text) > maxPinsFile {
		return nil, fmt.Errorf("pins of more than %d bytes: %w", maxPinsFile, ErrInvalid)
	}
	var file pinsFile
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	pins := make(map[string]Pin, min(len(file.Pins), MaxPins))
	blobs := 0
	for _, p := range file.Pins {
		if err := p.validate(); err != nil {
			return nil, err
		}
		blobs += len(p.Blobs)
		pins[p.Name] = p
	}
	if len(pins) > MaxPins || blobs > MaxPinned {
		return nil, fmt.Errorf("%d pins of %d blobs: %w", len(pins), blobs, ErrInvalid)
	}
	return pins, nil
}
