package mirror

import "testing"

func TestLRU(t *testing.T) {
	l := newLRU[string, int](2)
	l.put("a", 1)
	l.put("b", 2)
	if v, ok := l.get("a"); !ok || v != 1 { // a is now the younger one
		t.Fatal("a is gone")
	}
	l.put("c", 3)
	if _, ok := l.get("b"); ok {
		t.Fatal("b outlived a younger entry")
	}
	l.update("a", func(old int, ok bool) int { return old + 10 })
	if v, _ := l.get("a"); v != 11 {
		t.Fatalf("a is %d", v)
	}
	l.drop("a")
	l.drop("never there")
	if _, ok := l.get("a"); ok || l.len() != 1 {
		t.Fatalf("%d entries after a drop", l.len())
	}
	for i := range 100 {
		l.put(string(rune('A'+i)), i)
	}
	if l.len() != 2 {
		t.Fatalf("%d entries, bound is 2", l.len())
	}
}
