package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
)

// Data reads a complete blob of at most most bytes whole and checks it against its digest. It is for looking around: unlike
// Get it does not count as a use. ErrNotFound if it is not here, or not complete; ErrInvalid if it is larger, or is a File,
// whose name proves nothing; ErrCorrupt if it has rotted, which is left to Get and Scrub.
func (s *Store) Data(d digest.Digest, most int64) ([]byte, error) {
	data, err := s.data(d, most)
	if err != nil {
		return nil, fmt.Errorf("store: data of %s: %w", d, err)
	}
	return data, nil
}

func (s *Store) data(d digest.Digest, most int64) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.ops.Done()
	s.mu.Lock()
	e := s.entries[d]
	if e == nil || e.state != stateComplete {
		s.mu.Unlock()
		return nil, ErrNotFound
	}
	size := e.layout.size
	if size > most || IsFile(d) {
		s.mu.Unlock()
		return nil, fmt.Errorf("%d bytes: %w", size, ErrInvalid)
	}
	e.refs++
	s.mu.Unlock()
	defer s.unref(e)
	f, err := os.Open(s.dataOf(e))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if content := e.content(); content.Algorithm().FromBytes(data) != content {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, ErrDigestMismatch)
	}
	return data, nil
}
