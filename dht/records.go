package dht

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	ds "github.com/ipfs/go-datastore"
	dsq "github.com/ipfs/go-datastore/query"
)

// ErrFull is returned by Records.Put when the bound on entries, or on those of one provider, is reached.
var ErrFull = errors.New("dht: too many provider records")

// Records is an in-memory datastore that keeps keys in a tree by their path segments, so that a query by prefix
// costs what it returns, not what the store holds: the default map of kad-dht scans everything (58 ms at 200,000
// records) for each key that is not cached. Query results come in the order of their keys.
//
// It is safe for concurrent use. Values are not copied: neither side may change them, as kad-dht does not.
type Records struct {
	max, each int

	mu   sync.RWMutex
	root segment
	n    int
	by   map[string]int // entries by their last segment: of whom they are
}

// fair is the part of all entries that those with one last segment, the records of one provider, may take: whoever floods
// the table leaves room for others.
const fair = 16

// segment is one path segment of keys; the zero value is empty.
type segment struct {
	children map[string]*segment
	value    []byte
	set      bool // a key ends here
}

var _ ds.Batching = (*Records)(nil)

// NewRecords returns an empty store that takes at most limit entries, a sixteenth of them with the same last segment of their
// keys, which kad-dht makes of the provider; 0 is 1<<20.
func NewRecords(limit int) *Records {
	if limit <= 0 {
		limit = 1 << 20
	}
	return &Records{max: limit, each: max(limit/fair, 1), by: make(map[string]int)}
}

// Len returns the number of entries.
func (r *Records) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.n
}

// Put stores a value, or returns ErrFull for a new key beyond the bound.
func (r *Records) Put(_ context.Context, k ds.Key, v []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.put(k, v)
}

func (r *Records) put(k ds.Key, v []byte) error {
	if s := r.find(k.String()); s != nil && s.set {
		s.value = v
		return nil
	}
	whose := k.BaseNamespace()
	if r.n >= r.max || r.by[whose] >= r.each {
		return ErrFull
	}
	s := &r.root
	for part := range segments(k.String()) {
		if s.children == nil {
			s.children = make(map[string]*segment)
		}
		next := s.children[part]
		if next == nil {
			next = &segment{}
			s.children[part] = next
		}
		s = next
	}
	s.value, s.set = v, true
	r.n++
	r.by[whose]++
	return nil
}

// Get returns the value or ds.ErrNotFound.
func (r *Records) Get(_ context.Context, k ds.Key) ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if s := r.find(k.String()); s != nil && s.set {
		return s.value, nil
	}
	return nil, ds.ErrNotFound
}

// Has reports whether the key is there.
func (r *Records) Has(ctx context.Context, k ds.Key) (bool, error) {
	_, err := r.Get(ctx, k)
	return err == nil, nil
}

// GetSize returns the length of the value or ds.ErrNotFound.
func (r *Records) GetSize(ctx context.Context, k ds.Key) (int, error) {
	v, err := r.Get(ctx, k)
	if err != nil {
		return -1, err
	}
	return len(v), nil
}

// Delete removes a key; one that is not there is no error.
func (r *Records) Delete(_ context.Context, k ds.Key) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delete(k)
	return nil
}

func (r *Records) delete(k ds.Key) {
	path := []*segment{&r.root}
	var parts []string
	for part := range segments(k.String()) {
		next := path[len(path)-1].children[part]
		if next == nil {
			return
		}
		path, parts = append(path, next), append(parts, part)
	}
	last := path[len(path)-1]
	if !last.set {
		return
	}
	last.value, last.set = nil, false
	r.n--
	whose := k.BaseNamespace()
	if r.by[whose]--; r.by[whose] == 0 {
		delete(r.by, whose)
	}
	for i := len(parts) - 1; i >= 0 && !path[i+1].set && len(path[i+1].children) == 0; i-- {
		delete(path[i].children, parts[i])
	}
}

// Query returns the keys below q.Prefix in order, with the rest of q applied to them.
func (r *Records) Query(_ context.Context, q dsq.Query) (dsq.Results, error) {
	var entries []dsq.Entry
	prefix := strings.TrimSuffix(ds.NewKey(q.Prefix).String(), "/")
	r.mu.RLock()
	if s := r.find(prefix); s != nil {
		for part, child := range sorted(s.children) {
			entries = child.collect(entries, prefix+"/"+part, q.KeysOnly)
		}
	}
	r.mu.RUnlock()
	return dsq.NaiveQueryApply(q, dsq.ResultsWithEntries(q, entries)), nil
}

func (s *segment) collect(out []dsq.Entry, key string, keysOnly bool) []dsq.Entry {
	if s.set {
		e := dsq.Entry{Key: key, Size: len(s.value)}
		if !keysOnly {
			e.Value = s.value
		}
		out = append(out, e)
	}
	for part, child := range sorted(s.children) {
		out = child.collect(out, key+"/"+part, keysOnly)
	}
	return out
}

// sorted walks children in the order of their names.
func sorted(m map[string]*segment) func(func(string, *segment) bool) {
	return func(yield func(string, *segment) bool) {
		names := make([]string, 0, len(m))
		for name := range m {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			if !yield(name, m[name]) {
				return
			}
		}
	}
}

func (r *Records) find(key string) *segment {
	s := &r.root
	for part := range segments(key) {
		if s = s.children[part]; s == nil {
			return nil
		}
	}
	return s
}

// segments walks the non-empty parts of a path.
func segments(key string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(key, "/") {
			if part != "" && !yield(part) {
				return
			}
		}
	}
}

// Sync does nothing: there is no disk.
func (r *Records) Sync(context.Context, ds.Key) error { return nil }

// Close does nothing; the store stays usable.
func (r *Records) Close() error { return nil }

// Batch returns a batch that applies under one lock. A new key beyond the bound is left out, the rest is applied,
// and Commit tells nothing of it: to kad-dht a failed batch is one to hold and repeat.
func (r *Records) Batch(context.Context) (ds.Batch, error) { return &recordBatch{r: r}, nil }

type recordBatch struct {
	r   *Records
	ops []recordOp
}

type recordOp struct {
	key ds.Key
	val []byte
	del bool
}

func (b *recordBatch) Put(_ context.Context, k ds.Key, v []byte) error {
	b.ops = append(b.ops, recordOp{key: k, val: v})
	return nil
}

func (b *recordBatch) Delete(_ context.Context, k ds.Key) error {
	b.ops = append(b.ops, recordOp{key: k, del: true})
	return nil
}

func (b *recordBatch) Commit(context.Context) error {
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	dropped := 0
	for _, op := range b.ops {
		if op.del {
			b.r.delete(op.key)
		} else if b.r.put(op.key, op.val) != nil {
			dropped++
		}
	}
	if dropped > 0 {
		log.Warnw("provider records dropped, the table is full", "count", dropped)
	}
	b.ops = nil
	return nil
}
