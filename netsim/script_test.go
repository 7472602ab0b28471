package netsim

import (
	"reflect"
	"testing"
	"time"
)

func script(t *testing.T, text string) (*Scenario, *Script) {
	t.Helper()
	s, err := Parse("x.yaml", []byte("name: x\nlayers: [{size: 1MiB}]\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return s, s.Script()
}

// A script says who is struck and when, and the same scenario gives the same script.
func TestScript(t *testing.T) {
	const text = `
zones: [{name: a, hosts: 8, seeds: 2}, {name: b, hosts: 2}]
arrivals: [{kind: rolling, over: 10s}]
classes: [{name: slow, share: 20%, host: {up: 1MB/s}, slow: true}]
faults:
  - {at: 2s, spread: 1s, kill: 30%, silent: true}
  - {at: 3s, stop_seeds: 1, for: 4s}
  - {at: 1s, cut: b, for: 2s}
  - {at: 4s, origin: true}
`
	_, p := script(t, text)
	if _, again := script(t, text); !reflect.DeepEqual(p, again) {
		t.Error("two scripts of one scenario differ")
	}
	harms := map[Harm]int{}
	for _, k := range p.Strikes {
		harms[k.Harm]++
		switch k.Harm {
		case HarmKill:
			if k.At < 2*time.Second || k.At > 3*time.Second || p.Nodes[k.Node].Seed || !k.Silent || k.Fault != 0 {
				t.Errorf("kill: %+v", k)
			}
		case HarmStop:
			if k.At != 3*time.Second || !p.Nodes[k.Node].Seed || k.For != 4*time.Second {
				t.Errorf("stop: %+v", k)
			}
		case HarmCut:
			if k.At != time.Second || k.Zone != 1 {
				t.Errorf("cut: %+v", k)
			}
		}
	}
	if want := map[Harm]int{HarmKill: 3, HarmStop: 1, HarmCut: 1, HarmOrigin: 1}; !reflect.DeepEqual(harms, want) {
		t.Errorf("strikes: %v, want %v", harms, want)
	}
	slow := 0
	for i, n := range p.Nodes {
		if n.Seed != (n.Arrives < 0) {
			t.Errorf("%s begins at %v", n.Name, n.Arrives)
		}
		if !n.Judged && !n.Seed {
			slow++
			if n.Up != 1e6 {
				t.Errorf("%s of the slow class sends %v", n.Name, n.Up)
			}
		}
		if i > 0 && i < 8 && n.Arrives != p.Nodes[i-1].Arrives+time.Second {
			t.Errorf("%s begins at %v, the one before at %v", n.Name, n.Arrives, p.Nodes[i-1].Arrives)
		}
	}
	if slow != 2 || p.Home != 0 || p.Bound.Time <= 0 {
		t.Errorf("%d slow ones, home %d, bound %v", slow, p.Home, p.Bound)
	}
}

// What was measured is told as a simulated run is: the registry's zone does not count, nor do seeds and the killed.
func TestMeasuredResult(t *testing.T) {
	s, p := script(t, "zones: [{name: a, hosts: 2, seeds: 1}, {name: b, hosts: 2}]\n")
	const none = -1
	r := s.Result(p, &Measured{
		System:      "lab",
		Took:        []time.Duration{time.Second, 3 * time.Second, none, none, 2 * time.Second},
		First:       make([]time.Duration, 5),
		Killed:      []bool{false, false, false, true, false},
		Image:       100,
		OriginBytes: 101,
		Into:        []int64{300, 120},
		BySource:    map[string]int64{"zone": 150, "origin": 50},
		Duplicates:  2,
	})
	got := []any{r.Completed, r.Killed, r.Failed, r.MedianS, r.LastS, r.OriginCopies, r.ZoneCopies, r.ZoneCopiesMax, r.Duplicates}
	if want := []any{3, 1, 0, 2.0, 3.0, 1.01, 1.2, 1.2, 0.01}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
