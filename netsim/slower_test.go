package netsim

import (
	"math"
	"testing"
	"time"
)

// Five times slower, everything takes about five times as long, and the scenario itself stays as it was.
func TestSlower(t *testing.T) {
	s, p := script(t, `
zones: [{name: a, hosts: 4, seeds: 1}, {name: b, hosts: 2}]
wan: {pairs: [{a: a, b: b, rate: 10MB/s}]}
classes: [{share: 20%, host: {up: 1MB/s}}]
arrivals: [{kind: rolling, over: 10s}, {kind: poisson, share: 20%, rate: 2}]
faults: [{at: 2s, spread: 1s, kill_hosts: 1}, {at: 1s, cut: b, for: 2s}]
`)
	q := s.Slower(5).Script()
	near := func(what string, got, want time.Duration) {
		if math.Abs(float64(got-want)) > float64(time.Microsecond) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	near("bound", q.Bound.Time, 5*p.Bound.Time)
	for i := range p.Nodes {
		if q.Nodes[i].Up != p.Nodes[i].Up/5 || q.Nodes[i].Down != p.Nodes[i].Down/5 {
			t.Errorf("%s: %+v, was %+v", p.Nodes[i].Name, q.Nodes[i], p.Nodes[i])
		}
		if p.Nodes[i].Arrives >= 0 {
			near(p.Nodes[i].Name, q.Nodes[i].Arrives, 5*p.Nodes[i].Arrives)
		}
	}
	for i := range p.Strikes {
		near("strike", q.Strikes[i].At, 5*p.Strikes[i].At)
		near("its end", q.Strikes[i].For, 5*p.Strikes[i].For)
	}
	if again := s.Script(); again.Bound != p.Bound || again.Strikes[0] != p.Strikes[0] {
		t.Error("the scenario itself has changed")
	}
}

// Headers take their share of every link: with 10 % of them a pull takes a tenth longer, and the bound stays.
func TestOverhead(t *testing.T) {
	const text = "zones: [{name: a, hosts: 1}]\nlayers: [{size: 64MiB}]\nhost: {down: 1MB/s}\norigin: {rtt: 1ms}\nname: x\n"
	last := func(more string) (float64, float64) {
		s, err := Parse("x.yaml", []byte(text+more))
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Run(t.Context(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		return r.LastS, r.BoundS
	}
	plain, bound := last("")
	heavy, same := last("network: {overhead: 10%}\n")
	if ratio := heavy / plain; ratio < 1.09 || ratio > 1.11 || bound != same {
		t.Errorf("%.3f s and %.3f s, bounds %.3f s and %.3f s", plain, heavy, bound, same)
	}
}
