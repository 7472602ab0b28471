package netsim

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// slowMaxMin fills all flows together until a link is full, freezes those on it, and goes on with the others.
func slowMaxMin(caps []float64, flows [][]int32, limits []float64) []float64 {
	rates := make([]float64, len(flows))
	frozen := make([]bool, len(flows))
	left := append([]float64(nil), caps...)
	for {
		step, any := math.Inf(1), false
		count := make([]int, len(caps))
		for i, f := range flows {
			if frozen[i] {
				continue
			}
			any = true
			step = min(step, limits[i]-rates[i])
			for _, l := range f {
				count[l]++
			}
		}
		if !any {
			return rates
		}
		for l, n := range count {
			if n > 0 {
				step = min(step, left[l]/float64(n))
			}
		}
		for i, f := range flows {
			if frozen[i] {
				continue
			}
			rates[i] += step
			for _, l := range f {
				left[l] -= step
			}
		}
		for i, f := range flows {
			full := rates[i] >= limits[i]*(1-1e-12)
			for _, l := range f {
				full = full || left[l] <= caps[l]*1e-12
			}
			frozen[i] = frozen[i] || full
		}
	}
}

func TestSolverAgreesWithASlowOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "links")
		s := newSolver(n)
		caps := make([]float64, n)
		for l := range caps {
			caps[l] = float64(rapid.IntRange(0, 20).Draw(t, "cap"))
			s.setCap(int32(l), caps[l])
		}
		type flow struct {
			id    int32
			links []int32
			limit float64
		}
		var flows []flow
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch op := rapid.IntRange(0, 9).Draw(t, "op"); {
			case op < 6 || len(flows) == 0:
				links := rapid.SliceOfNDistinct(rapid.Int32Range(0, int32(n-1)), 1, min(n, maxPath), rapid.ID[int32]).Draw(t, "path")
				limit := float64(rapid.IntRange(1, 30).Draw(t, "limit"))
				flows = append(flows, flow{s.add(links, limit), links, limit})
			case op < 8:
				i := rapid.IntRange(0, len(flows)-1).Draw(t, "gone")
				s.remove(flows[i].id)
				flows = append(flows[:i], flows[i+1:]...)
			default:
				l := rapid.IntRange(0, n-1).Draw(t, "link")
				caps[l] = float64(rapid.IntRange(0, 20).Draw(t, "cap"))
				s.setCap(int32(l), caps[l])
			}
			s.solve()
			var paths [][]int32
			var limits []float64
			for _, f := range flows {
				paths, limits = append(paths, f.links), append(limits, f.limit)
			}
			for i, want := range slowMaxMin(caps, paths, limits) {
				if got := s.rate(flows[i].id); math.Abs(got-want) > 1e-6 {
					t.Fatalf("flow %d over %v: rate %v, want %v", i, flows[i].links, got, want)
				}
			}
		}
	})
}
