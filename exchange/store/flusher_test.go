package store

import (
	"slices"
	"testing"
	"testing/synctest"
)

// flushed is a file that notes what it is to write out.
type flushed struct {
	file
	calls []span
}

func (f *flushed) Flush(off, n int64) { f.calls = append(f.calls, span{off, n}) }

// TestFlusherGathers: neighbours go out as one range, once there is enough of them, in whatever order they came.
func TestFlusherGathers(t *testing.T) {
	const mib = 1 << 20
	for _, row := range []struct {
		name  string
		order []int64 // in MiB
		want  []span
	}{
		{"too little", []int64{0, 1, 2, 3, 4, 5, 6}, nil},
		{"in order", []int64{0, 1, 2, 3, 4, 5, 6, 7, 8}, []span{{0, 8 * mib}}},
		{"out of order", []int64{7, 3, 1, 0, 2, 5, 4, 6}, []span{{0, 8 * mib}}},
		{"with a hole", []int64{9, 8, 7, 6, 0, 1, 2, 3}, []span{{0, 4 * mib}, {6 * mib, 4 * mib}}},
		{"again", []int64{0, 1, 2, 3, 4, 5, 6, 7, 15, 14, 13, 12, 11, 10, 9, 8}, []span{{0, 8 * mib}, {8 * mib, 8 * mib}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &flushed{}
				w := newFlusher(f)
				for _, i := range row.order {
					w.Add(i*mib, mib)
					synctest.Wait()
				}
				w.Stop()
				w.Add(0, flushStep)
				synctest.Wait()
				if !slices.Equal(f.calls, row.want) {
					t.Errorf("%v, want %v", f.calls, row.want)
				}
			})
		})
	}
}
