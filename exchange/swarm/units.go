package swarm

import "slices"

// runs compresses a list of unit numbers into ascending runs.
func runs(list []uint32) []Units {
	slices.Sort(list)
	var out []Units
	for _, u := range list {
		if n := len(out); n > 0 && out[n-1].First+out[n-1].Count == u {
			out[n-1].Count++
		} else if n == 0 || u >= out[n-1].First+out[n-1].Count {
			out = append(out, Units{First: u, Count: 1})
		}
	}
	return out
}

// maxUnits bounds the units that one message may name: more than any blob has.
const maxUnits = MaxBlobSize / MaxPieceSize

// each calls f for every unit of a list of runs, at most maxUnits in all.
func each(list []Units, f func(uint32)) {
	left := uint32(maxUnits)
	for _, r := range list {
		n := min(r.Count, left)
		for u := range n {
			f(r.First + u)
		}
		left -= n
	}
}
