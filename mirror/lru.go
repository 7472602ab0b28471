package mirror

import (
	"container/list"
	"sync"
)

// lru is a map of bounded size; the least recently used entry makes room. It is
// safe for concurrent use.
type lru[K comparable, V any] struct {
	max int // entries, at least 1

	mu    sync.Mutex
	order *list.List // of *entry, most recently used first
	byKey map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](max int) *lru[K, V] {
	return &lru[K, V]{max: max, order: list.New(), byKey: make(map[K]*list.Element)}
}

// get returns the value of a key and marks it used.
func (l *lru[K, V]) get(key K) (V, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	el, ok := l.byKey[key]
	if !ok {
		var zero V
		return zero, false
	}
	l.order.MoveToFront(el)
	return el.Value.(*entry[K, V]).value, true
}

// update stores what merge makes of the old value, if there is one.
func (l *lru[K, V]) update(key K, merge func(old V, ok bool) V) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if el, ok := l.byKey[key]; ok {
		e := el.Value.(*entry[K, V])
		e.value = merge(e.value, true)
		l.order.MoveToFront(el)
		return
	}
	var zero V
	l.byKey[key] = l.order.PushFront(&entry[K, V]{key: key, value: merge(zero, false)})
	for l.order.Len() > l.max {
		last := l.order.Back()
		l.order.Remove(last)
		delete(l.byKey, last.Value.(*entry[K, V]).key)
	}
}

func (l *lru[K, V]) put(key K, value V) {
	l.update(key, func(V, bool) V { return value })
}

func (l *lru[K, V]) drop(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if el, ok := l.byKey[key]; ok {
		l.order.Remove(el)
		delete(l.byKey, key)
	}
}

// values returns all values, most recently used first.
func (l *lru[K, V]) values() []V {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]V, 0, l.order.Len())
	for el := l.order.Front(); el != nil; el = el.Next() {
		out = append(out, el.Value.(*entry[K, V]).value)
	}
	return out
}

func (l *lru[K, V]) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.order.Len()
}
