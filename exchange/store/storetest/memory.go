package storetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
)

// Memory is a store.Keeper that forgets everything with its process. The zero value is empty.
type Memory struct {
	mu    sync.Mutex
	blobs map[digest.Digest]object
	kept  map[digest.Digest]int
}

type object struct {
	*bytes.Reader
	outline store.Outline
}

func (o object) Close() error                    { return nil }
func (o object) Outline() (store.Outline, error) { return o.outline, nil }

// Open implements store.Backend.
func (m *Memory) Open(ctx context.Context, d digest.Digest) (store.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("memory: open %q: %w: %w", d, store.ErrInvalid, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.blobs[d]
	if !ok {
		return nil, fmt.Errorf("memory: open %s: %w", d, store.ErrNotFound)
	}
	return o, nil
}

// Keep implements store.Keeper.
func (m *Memory) Keep(ctx context.Context, d digest.Digest, o store.Outline, r io.ReaderAt) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.blobs[d]; ok {
		return nil
	}
	var b bytes.Buffer
	if err := store.Prove(ctx, &b, d, o, r); err != nil {
		return fmt.Errorf("memory: keep %s: %w", d, err)
	}
	if m.blobs == nil {
		m.blobs, m.kept = make(map[digest.Digest]object), make(map[digest.Digest]int)
	}
	m.blobs[d] = object{bytes.NewReader(b.Bytes()), o}
	m.kept[d]++
	return nil
}

// Kept returns how often a blob was taken in.
func (m *Memory) Kept(d digest.Digest) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept[d]
}

// Drop implements store.Keeper.
func (m *Memory) Drop(_ context.Context, d digest.Digest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.blobs, d)
	return nil
}

// Walk implements store.Keeper.
func (m *Memory) Walk(_ context.Context, f func(digest.Digest) error) error {
	m.mu.Lock()
	all := slices.Collect(maps.Keys(m.blobs))
	m.mu.Unlock()
	for _, d := range all {
		if err := f(d); err != nil {
			return err
		}
	}
	return nil
}
