package dht

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"
)

// Who holds a blob in part is found in its zone while nobody holds the whole, by any of its spans, until the record runs
// out.
func TestPartialHolderIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 10 * time.Minute
		hosts := simHosts(t, 8)
		nodes := start(t, hosts, func(i int) Config {
			c := zoned(2)(i)
			c.RecordTTL = ttl
			return c
		})
		time.Sleep(10 * time.Second)
		d := digest.FromString("in part")
		if err := nodes[2].ProvideSpans(t.Context(), d, []int{1, 3}); err != nil {
			t.Fatal(err)
		}
		check := func(when string, from int, want ...peer.ID) {
			t.Helper()
			if got := find(t, nodes[from], d); !slices.Equal(got, want) {
				t.Errorf("%s: node %d finds %v, want %v", when, from, got, want)
			}
		}
		check("announced", 4, hosts[2].ID())
		check("announced", 5) // of the other zone
		time.Sleep(ttl + time.Minute)
		check("after its validity", 4)
		if s := nodes[2].Stats(); s.Placed != 2 || s.Announced != 0 {
			t.Errorf("counted %+v", s)
		}
	})
}
