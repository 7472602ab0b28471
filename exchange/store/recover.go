package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
)

// recover builds the index from the directory, removing what a crash left half-made. It runs in Open, alone.
func (s *Store) recover() error {
	if err := s.emptyTrash(); err != nil {
		return err
	}
	if err := s.recoverPins(); err != nil {
		return err
	}
	for _, a := range algorithms {
		if err := s.recoverBlobs(a); err != nil {
			return err
		}
		if err := s.recoverPartials(a); err != nil {
			return err
		}
	}
	for _, dir := range s.paths.dirs() {
		if err := s.disk.SyncDir(dir); err != nil {
			return err
		}
	}
	s.shrink()
	return nil
}

// shrink evicts down to a capacity that was lowered, or a disk that others filled.
func (s *Store) shrink() {
	var out leaving
	s.room.Lock()
	s.mu.Lock()
	victims, err := s.plan(0)
	s.evict(victims, &out)
	s.mu.Unlock()
	s.erase(&out)
	s.room.Unlock()
	if err != nil {
		log.Warnw("store has less room than it should, what is left is in use or pinned", "err", err)
	}
	s.tell(&out)
}

func (s *Store) emptyTrash() error {
	list, err := os.ReadDir(s.paths.trash())
	if err != nil {
		return err
	}
	for _, f := range list {
		s.remove(filepath.Join(s.paths.trash(), f.Name()))
	}
	return nil
}

// names lists the regular files of a directory.
func names(dir string) (map[string]fs.FileInfo, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := make(map[string]fs.FileInfo, len(list))
	for _, f := range list {
		info, err := f.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[f.Name()] = info
	}
	return out, nil
}

// recoverBlobs enters the complete blobs. Sidecars without a blob and temporary files are removed; files with other
// names are not ours and stay.
func (s *Store) recoverBlobs(a digest.Algorithm) error {
	dir := s.paths.blobs(a)
	files, err := names(dir)
	if err != nil {
		return err
	}
	for name, info := range files {
		d := digest.NewDigestFromEncoded(a, name)
		if checkDigest(d) == nil {
			s.recoverBlob(d, info, files[name+metaExt])
			continue
		}
		base, isMeta := strings.CutSuffix(name, metaExt)
		_, ok := files[base]
		if isMeta && !ok && s.recoverShelved(digest.NewDigestFromEncoded(a, base), info) {
			continue
		}
		if strings.HasSuffix(name, tempExt) || isMeta && !ok {
			s.remove(filepath.Join(dir, name))
		}
	}
	return nil
}

// hashAtOpen is the size up to which a blob without a sidecar is hashed by Open rather than by Get. What Put wrote
// may have been cut short by a power loss, and Stat should not tell of it; what Commit wrote is at least of the right
// size.
const hashAtOpen = 8 << 20

// recoverBlob enters a complete blob. meta is nil if it has no sidecar.
func (s *Store) recoverBlob(d digest.Digest, info, meta fs.FileInfo) {
	e := &entry{
		digest: d, state: stateComplete, used: info.ModTime(),
		layout: layout{size: info.Size(), pieceSize: s.cfg.PieceSize(info.Size())},
	}
	if meta != nil {
		e.used = meta.ModTime()
	}
	e.stamped = e.used
	s.entries[d] = e
	s.bytes += e.layout.size
	side, err := s.readSidecarHeader(d)
	switch {
	case err == nil && side.layout.size != info.Size():
		err = fmt.Errorf("%d bytes in place of %d: %w", info.Size(), side.layout.size, ErrCorrupt)
	case err == nil && s.accepts(side.layout):
		e.layout, e.mediaType = side.layout, side.mediaType
	case info.Size() <= hashAtOpen:
		err = s.rehash(e)
	}
	if errors.Is(err, ErrCorrupt) {
		s.lose(e, err)
	}
}

// rehash computes the ledger of a blob now.
func (s *Store) rehash(e *entry) error {
	f, err := os.Open(s.dataOf(e))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = s.ledgerOf(e, f)
	return err
}

// recoverPartials enters the partials whose journal and data are both there, fit, and are not too old; the rest is
// removed.
func (s *Store) recoverPartials(a digest.Algorithm) error {
	dir := s.paths.partials(a)
	files, err := names(dir)
	if err != nil {
		return err
	}
	kept := make(map[string]bool)
	for name, info := range files {
		d := digest.NewDigestFromEncoded(a, name)
		journal, ok := files[name+journalExt]
		if !ok || checkDigest(d) != nil || s.entries[d] != nil {
			continue
		}
		e := &entry{digest: d, state: statePartial, used: journal.ModTime()}
		stale := s.now().Sub(e.used) > s.cfg.PartialTTL && !s.isPinned(d)
		if stale || !s.claims(e, info.Size()) {
			continue
		}
		s.entries[d] = e
		s.bytes += e.layout.size
		kept[name], kept[name+journalExt] = true, true
	}
	for name := range files {
		if !kept[name] {
			s.remove(filepath.Join(dir, name))
		}
	}
	return nil
}

// claims reads what the journal of a partial says, and reports whether it fits the data file.
func (s *Store) claims(e *entry, size int64) bool {
	f, err := os.Open(s.paths.journal(e.digest))
	if err != nil {
		return false
	}
	defer f.Close()
	seen := make(map[int]bool)
	h, _, err := scanJournal(f, func(r record) { seen[r.piece] = true })
	if err != nil || h.digest != e.digest || h.layout.size != size {
		return false
	}
	e.layout = h.layout
	for i := range seen {
		_, n := h.layout.span(i)
		e.claimed += n
	}
	return true
}
