package swarm

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// The index finds what a map finds, whatever was put in and taken out.
func TestIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := index{salt: rapid.Uint64().Draw(t, "salt")}
		want := map[PeerID]*member{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			id := PeerID(fmt.Sprint(rapid.IntRange(0, 40).Draw(t, "id")))
			if want[id] == nil && rapid.Bool().Draw(t, "put") {
				want[id] = newMember(Member{ID: id})
				x.put(want[id])
			} else if rapid.Bool().Draw(t, "remove") {
				delete(want, id)
				x.remove(id)
			}
			for i := range 41 {
				if id := PeerID(fmt.Sprint(i)); x.get(id) != want[id] {
					t.Fatalf("%s: got %v, want %v", id, x.get(id), want[id])
				}
			}
			if x.used != len(want) {
				t.Fatalf("%d used, want %d", x.used, len(want))
			}
		}
	})
}
