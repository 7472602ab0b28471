package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
)

// leaving collects what left the index under the lock and has to be finished without it.
type leaving struct {
	files []string        // to unlink, which takes long for large ones
	blobs []digest.Digest // complete ones, to tell of
}

// reserve makes room for e, which is not in the index yet, and enters it. Store.room must be held until the
// files of e have their blocks. The caller erases what leaves at once and tells of it after letting go of room.
func (s *Store) reserve(e *entry, out *leaving) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	victims, err := s.plan(e.layout.size)
	if err != nil {
		return err
	}
	s.evict(victims, out)
	s.entries[e.digest] = e
	s.bytes += e.layout.size
	return nil
}

// evict lets blobs leave. Store.mu must be held.
func (s *Store) evict(victims []*entry, out *leaving) {
	for _, v := range victims {
		log.Infow("blob evicted", "blob", v.digest, "bytes", v.layout.size, "complete", v.state == stateComplete)
		s.detach(v, out)
	}
}

// plan names what has to leave for need more bytes and, if anything has, what else is unused above the low water marks.
// ErrNoSpace, with all that is unused, if that would not suffice. Store.mu must be held.
func (s *Store) plan(need int64) ([]*entry, error) {
	over, above, err := s.excess(need)
	if err != nil || over <= 0 {
		return nil, err
	}
	idle := s.evictable()
	for i, e := range idle {
		over -= e.layout.size
		if above -= e.layout.size; above <= 0 {
			return idle[:i+1], nil
		}
	}
	if over > 0 {
		return idle, fmt.Errorf("%w: %d bytes short with everything unused deleted", ErrNoSpace, over)
	}
	return idle, nil
}

// Fits returns nil if a blob of size bytes would find room, else why not.
func (s *Store) Fits(size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.plan(size)
	return err
}

// excess returns how many bytes have to go before need more fit, by capacity and by the disk, and how many until both are
// at their low water marks.
func (s *Store) excess(need int64) (over, above int64, err error) {
	if s.cfg.Capacity > 0 {
		if over = s.bytes + need - s.cfg.Capacity; over > 0 {
			above = s.bytes + need - s.cfg.LowWater
		}
	}
	free, total, err := s.disk.Free(s.paths.root)
	if err != nil {
		return 0, 0, err
	}
	minFree := s.cfg.minFree(total)
	if short := need + s.promised + minFree - free; short > 0 {
		over = max(over, short)
		above = max(above, short+max(s.cfg.FreeTarget-minFree, 0))
	}
	return over, above, nil
}

// evictable lists what may be deleted, stale partials first, then least recently used. Store.mu must be held.
func (s *Store) evictable() []*entry {
	stale := s.now().Add(-s.cfg.PartialTTL)
	rank := func(e *entry) int {
		if e.state == statePartial && e.used.Before(stale) {
			return 0
		}
		return 1
	}
	var out []*entry
	for _, e := range s.entries {
		if e.idle() && !e.shelved && !s.isPinned(e.digest) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.used.Compare(b.used), cmp.Compare(a.digest, b.digest))
	})
	return out
}

// detach takes an entry out of the index and its files out of the way, so that the digest can be begun anew at
// once. It cannot fail: a file that will not move is left where the next Open finds it, or the next blob of that digest
// replaces it. Store.mu must be held.
func (s *Store) detach(e *entry, out *leaving) {
	delete(s.entries, e.digest)
	if e.shelved {
		out.blobs = append(out.blobs, e.digest)
		s.remove(s.paths.meta(e.digest))
		return
	}
	s.bytes -= e.layout.size
	s.promised -= e.promised
	e.promised = 0
	data, aside := s.paths.partial(e.digest), s.paths.journal(e.digest)
	if e.state == stateComplete {
		data, aside = s.paths.blob(e.digest), s.paths.meta(e.digest)
		out.blobs = append(out.blobs, e.digest)
	}
	s.discard(data, out)
	s.remove(aside)
}

// discard moves a file to the trash, from where out has it erased. Store.mu must be held.
func (s *Store) discard(name string, out *leaving) {
	s.trashed++
	trash := filepath.Join(s.paths.trash(), strconv.FormatUint(s.trashed, 10))
	out.files = append(out.files, trash)
	if err := s.disk.Rename(name, trash); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warnw("blob not moved to trash", "file", name, "err", err)
		s.remove(name)
	}
}

// erase unlinks what left.
func (s *Store) erase(out *leaving) {
	for _, name := range out.files {
		s.remove(name)
	}
	out.files = nil
}

// tell calls the functions given to OnEvict.
func (s *Store) tell(out *leaving) {
	s.mu.Lock()
	tell := slices.Clone(s.onEvict)
	s.mu.Unlock()
	for _, d := range out.blobs {
		for _, f := range tell {
			f(d)
		}
	}
	out.blobs = nil
}

// remove deletes a file as well as it can.
func (s *Store) remove(name string) {
	if err := s.disk.Remove(name); err != nil {
		log.Warnw("file not removed", "file", name, "err", err)
	}
}

// lose drops a complete blob whose file is missing or wrong, whether or not it is in use.
func (s *Store) lose(e *entry, why error) {
	var out leaving
	s.mu.Lock()
	if s.entries[e.digest] != e || e.state != stateComplete {
		s.mu.Unlock()
		return
	}
	s.detach(e, &out)
	s.mu.Unlock()
	log.Errorw("blob dropped", "blob", e.digest, "bytes", e.layout.size, "err", why)
	s.erase(&out)
	s.tell(&out)
}

// fulfil notes that n of the bytes promised to e are on disk now.
func (s *Store) fulfil(e *entry, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(n, e.promised)
	e.promised -= n
	s.promised -= n
}
