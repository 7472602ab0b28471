package dht

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	ds "github.com/ipfs/go-datastore"
	dsq "github.com/ipfs/go-datastore/query"
	dstest "github.com/ipfs/go-datastore/test"
	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"
)

func TestRecordsIsADatastore(t *testing.T) {
	dstest.SubtestAll(t, NewRecords(0))
}

// Whoever floods the table leaves room for others, and has room again when its records have run out.
func TestRecordsOfOneProviderAreBounded(t *testing.T) {
	ctx := context.Background()
	r := NewRecords(10 * fair)
	key := func(i int, of string) ds.Key { return ds.NewKey(fmt.Sprintf("/providers/%d/%s", i, of)) }
	taken := 0
	for i := range 1000 {
		if r.Put(ctx, key(i, "FLOOD"), nil) == nil {
			taken++
		}
	}
	if taken != 10 || r.Len() != 10 {
		t.Errorf("%d of 1000 were taken, %d are kept, want 10", taken, r.Len())
	}
	if err := r.Put(ctx, key(0, "OTHER"), nil); err != nil {
		t.Errorf("another provider: %v", err)
	}
	if err := r.Put(ctx, key(3, "FLOOD"), []byte("again")); err != nil {
		t.Errorf("a record that is there already: %v", err)
	}
	if err := errors.Join(r.Delete(ctx, key(3, "FLOOD")), r.Put(ctx, key(77, "FLOOD"), nil)); err != nil {
		t.Errorf("one record less: %v", err)
	}
	if r.Put(ctx, key(78, "FLOOD"), nil) == nil {
		t.Error("one more than fits was taken")
	}
}

// Of the addresses that a provider says it has, however many, a few are kept and told.
func TestAddressesAreFew(t *testing.T) {
	d := &DHT{cfg: Config{}.withDefaults()}
	var many []ma.Multiaddr
	for i := range 5000 {
		many = append(many, ma.StringCast(fmt.Sprintf("/ip4/10.0.0.1/tcp/%d", i+1)))
	}
	if got := len(d.addrs(many)); got != maxAddrs {
		t.Errorf("%d addresses, want %d", got, maxAddrs)
	}
	if got := len(d.addrs(many[:2])); got != 2 {
		t.Errorf("%d of 2 addresses", got)
	}
}

// TestRecordsAgainstMap compares random operations with a plain map.
func TestRecordsAgainstMap(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		r := NewRecords(0)
		model := make(map[string]string)
		key := rapid.StringMatching(`(/[abc]{1,2}){1,4}`)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			k := key.Draw(t, "key")
			switch rapid.IntRange(0, 2).Draw(t, "op") {
			case 0:
				v := rapid.StringN(0, 5, -1).Draw(t, "value")
				model[k] = v
				if err := r.Put(ctx, ds.RawKey(k), []byte(v)); err != nil {
					t.Fatal(err)
				}
			case 1:
				delete(model, k)
				if err := r.Delete(ctx, ds.RawKey(k)); err != nil {
					t.Fatal(err)
				}
			case 2:
				v, err := r.Get(ctx, ds.RawKey(k))
				want, ok := model[k]
				if ok != (err == nil) || ok && string(v) != want {
					t.Fatalf("get %s: %q, %v, want %q, %t", k, v, err, want, ok)
				}
			}
			if r.Len() != len(model) {
				t.Fatalf("%d entries, want %d", r.Len(), len(model))
			}
		}
		prefix := key.Draw(t, "prefix")
		var want []string
		for k := range model {
			if len(k) > len(prefix) && k[:len(prefix)+1] == prefix+"/" {
				want = append(want, k)
			}
		}
		slices.Sort(want)
		if got := queryKeys(t, r, prefix); !slices.Equal(got, want) {
			t.Fatalf("below %s: %v, want %v", prefix, got, want)
		}
	})
}

func queryKeys(t interface{ Fatal(...any) }, r *Records, prefix string) []string {
	res, err := r.Query(context.Background(), dsq.Query{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := res.Rest()
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	return keys
}

func TestRecordsForgetEmptyBranches(t *testing.T) {
	ctx := context.Background()
	r := NewRecords(0)
	for i := range 100 {
		if err := r.Put(ctx, ds.NewKey(fmt.Sprintf("/providers/%d/x", i)), nil); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		if err := r.Delete(ctx, ds.NewKey(fmt.Sprintf("/providers/%d/x", i))); err != nil {
			t.Fatal(err)
		}
	}
	if r.Len() != 0 || len(r.root.children) != 0 {
		t.Errorf("%d entries and %d branches left", r.Len(), len(r.root.children))
	}
}

func TestRecordsAreBounded(t *testing.T) {
	ctx := context.Background()
	r := NewRecords(2)
	a, b, c := ds.NewKey("/a"), ds.NewKey("/b"), ds.NewKey("/c")
	for _, k := range []ds.Key{a, b} {
		if err := r.Put(ctx, k, []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Put(ctx, c, nil); !errors.Is(err, ErrFull) {
		t.Errorf("third key: %v, want ErrFull", err)
	}
	if err := r.Put(ctx, a, []byte("2")); err != nil {
		t.Errorf("a key that is there: %v", err)
	}
	batch, err := r.Batch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []error{batch.Put(ctx, c, nil), batch.Delete(ctx, b), batch.Put(ctx, b, []byte("3")), batch.Commit(ctx)} {
		if op != nil {
			t.Fatal(op)
		}
	}
	if got := queryKeys(t, r, "/"); !slices.Equal(got, []string{"/a", "/b"}) {
		t.Errorf("after the batch: %v", got)
	}
}

// BenchmarkProvidersOfKey is what an uncached GET_PROVIDERS costs with many records of other keys.
func BenchmarkProvidersOfKey(b *testing.B) {
	ctx := b.Context()
	r := NewRecords(0)
	for i := range 200_000 {
		if err := r.Put(ctx, ds.RawKey(fmt.Sprintf("/providers/%07d/%d", i/10, i%10)), []byte("12345678")); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if n := len(queryKeys(b, r, "/providers/0010000")); n != 10 {
			b.Fatal(n)
		}
	}
}
