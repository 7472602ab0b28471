package netsim

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// A calendar gives back what was put in, in order of windows, and within a window in the order in which it came.
func TestCalendarKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const width = 10
		type item struct {
			at  swarm.Time
			seq int
		}
		c := newCalendar(width, func(i *item) swarm.Time { return i.at })
		var want, got []item
		now, seq := int64(0), 0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "put") {
				at := swarm.Time(now*width) + swarm.Time(rapid.Int64Range(0, 3*ringWindows*width).Draw(t, "after"))
				seq++
				c.put(item{at, seq})
				want = append(want, item{at, seq})
			} else if w, ok := c.next(); ok {
				b := c.take(w)
				got = append(got, b...)
				c.done(b)
				now = w + 1
			}
		}
		for {
			w, ok := c.next()
			if !ok {
				break
			}
			b := c.take(w)
			got = append(got, b...)
			c.done(b)
		}
		slices.SortStableFunc(want, func(a, b item) int { return int(a.at/width - b.at/width) })
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}
