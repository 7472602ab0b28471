package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	logging "github.com/ipfs/go-log/v2"
	"github.com/opencontainers/go-digest"
)

var log = logging.Logger("meshd/store")

// stampEvery is how far the use that a sidecar tells may lag behind.
const stampEvery = time.Minute

// Store is a directory of blobs. It is safe for concurrent use.
type Store struct {
	cfg   Config
	disk  disk
	paths paths
	now   func() time.Time
	// opened is when Open returned.
	opened time.Time
	lock   io.Closer
	shelf  *Layout // nil: none
	// strict: a layout that Config.PieceSize would not choose is computed again.
	strict bool
	// hashing bounds the goroutines that hash, over all blobs.
	hashing chan struct{}

	// room serialises making room, from the look at what is free to the allocation. Taken before mu.
	room sync.Mutex
	// pinning serialises changes of the pins, from the look at them to the file. Taken before mu.
	pinning sync.Mutex
	// adopting serialises Adopt: who comes second finds the blob complete. Taken before room and mu.
	adopting sync.Mutex
	// rotting serialises rot: several readers of a blob may find it at once. Taken before mu.
	rotting sync.Mutex
	// ops counts calls that Close waits for; they start under mu while closed is false.
	ops sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	entries  map[digest.Digest]*entry
	bytes    int64 // sum of the entries' sizes
	promised int64 // sum of the entries' promised
	trashed  uint64
	pins     map[string]Pin
	pinned   map[digest.Digest]time.Time // by pins, with the last Until; zero: for ever
	scrubs   scrubber
	onEvict  []func(digest.Digest)
}

// Open opens a store, making its directory if absent, and takes it for this process: ErrLocked if another holds
// it. It removes what a crash left half-made and brings the store within its capacity. It reads every
// sidecar's header and every journal, but hashes nothing.
func Open(cfg Config) (*Store, error) { return open(cfg, osDisk{}) }

func open(cfg Config, d disk) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Store{
		cfg: cfg.withDefaults(), disk: d, paths: paths{cfg.Dir}, now: time.Now, strict: cfg.PieceSize != nil,
		hashing: make(chan struct{}, runtime.GOMAXPROCS(0)),
		entries: make(map[digest.Digest]*entry), opened: time.Now(),
		scrubs: scrubber{moved: make(chan struct{})},
	}
	if err := s.makeDirs(); err != nil {
		return nil, fmt.Errorf("store: open: %w", err)
	}
	if cfg.Shelf != "" {
		shelf, err := OpenLayout(cfg.Shelf)
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		s.shelf = shelf
	}
	lock, err := acquire(s.paths.lock())
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w", cfg.Dir, err)
	}
	s.lock = lock
	if err := s.recover(); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("store: open %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func (s *Store) makeDirs() error {
	for _, dir := range s.paths.dirs() {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// restoreDirs makes the directories anew if somebody has deleted the cache under us: a store without them would
// refuse every blob until its next Open.
func (s *Store) restoreDirs(d digest.Digest) error {
	for _, dir := range []string{s.paths.partials(d.Algorithm()), s.paths.blobs(d.Algorithm()), s.paths.trash()} {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			log.Warnw("directory of the store is gone, made again", "dir", dir)
			return s.makeDirs()
		}
	}
	return nil
}

// Close ends the store: it waits for calls under way, closes live Partials as their Close does, and gives the
// directory back. Open Blobs can still be read. Further calls return ErrClosed; a second Close does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.ops.Wait()
	var live []*Partial
	s.mu.Lock()
	for _, e := range s.entries {
		if e.partial != nil {
			live = append(live, e.partial)
		}
	}
	s.mu.Unlock()
	for _, p := range live {
		if err := p.Close(); err != nil {
			log.Warnw("partial not closed", "blob", p.Digest(), "err", err)
		}
	}
	return s.lock.Close()
}

// enter starts a call that Close waits for; leave with s.ops.Done.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.ops.Add(1)
	return nil
}

// Stat describes a blob, complete or not, without touching it. ErrNotFound if nothing of it is here.
func (s *Store) Stat(d digest.Digest) (Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Info{}, fmt.Errorf("store: stat %s: %w", d, ErrClosed)
	}
	e := s.entries[d]
	if e == nil {
		return Info{}, fmt.Errorf("store: stat %s: %w", d, ErrNotFound)
	}
	return s.info(e), nil
}

// List describes all blobs, complete or not, in the order of their digests.
func (s *Store) List() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Info, 0, len(s.entries))
	for _, e := range s.entries {
		out = append(out, s.info(e))
	}
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	return out
}

// Usage sums up the store.
func (s *Store) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := Usage{Bytes: s.bytes, Capacity: s.cfg.Capacity}
	for _, e := range s.entries {
		if s.isPinned(e.digest) {
			u.Pinned += e.layout.size
		}
		if e.shelved {
			u.Shelved += e.layout.size
		}
		if e.state == stateComplete {
			u.Blobs++
		} else {
			u.Partials++
		}
	}
	return u
}

// OnEvict adds a function to call after a complete blob has left the store for whatever reason: evicted, deleted
// or dropped as corrupt. It is called in the goroutine that made the blob leave, with no lock held; the blob may be
// back by then.
func (s *Store) OnEvict(f func(digest.Digest)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onEvict = append(s.onEvict, f)
}

// Delete removes a blob, complete or not. ErrInUse while a Blob or Partial of it is open, ErrPinned while a pin holds it.
func (s *Store) Delete(d digest.Digest) error {
	if err := s.enter(); err != nil {
		return fmt.Errorf("store: delete %s: %w", d, err)
	}
	defer s.ops.Done()
	s.mu.Lock()
	e := s.entries[d]
	var err error
	switch {
	case e == nil:
		err = ErrNotFound
	case !e.idle():
		err = ErrInUse
	case s.isPinned(d):
		err = ErrPinned
	}
	if err != nil {
		s.mu.Unlock()
		return fmt.Errorf("store: delete %s: %w", d, err)
	}
	var out leaving
	s.detach(e, &out)
	s.mu.Unlock()
	s.erase(&out)
	s.tell(&out)
	return nil
}
