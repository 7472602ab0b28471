package netsim

import (
	"fmt"
	"slices"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// Bounds of a scenario, against typing errors that would fill the memory.
const (
	maxHosts  = 200_000
	maxLayers = 10_000
	maxRuns   = 10_000
)

// validate checks a complete scenario. Each check names the field that fails it.
func (s *Scenario) validate() error {
	for _, check := range []func() error{
		s.checkZones, s.checkLayers, s.checkArrivals, s.checkFaults, s.checkOthers, s.checkSweep, s.checkSwarm, s.checkGoals, s.checkReach,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Scenario) checkZones() error {
	hosts := 0
	for i, z := range s.Zones {
		at := fmt.Sprintf("zones[%d]", i)
		switch {
		case z.Name == "":
			return s.problem(at+".name", "is missing")
		case s.zone(z.Name) != i:
			return s.problem(at+".name", "there are two zones %q", z.Name)
		case z.Hosts+z.Seeds == 0:
			return s.problem(at, "has neither hosts nor seeds")
		}
		hosts += z.Hosts + z.Seeds
	}
	if hosts > maxHosts {
		return s.problem("zones", "%d nodes, at most %d", hosts, maxHosts)
	}
	for i, p := range s.WAN.Pairs {
		at := fmt.Sprintf("wan.pairs[%d]", i)
		if s.zone(p.A) < 0 {
			return s.problem(at+".a", "there is no zone %q", p.A)
		}
		if s.zone(p.B) < 0 || p.A == p.B {
			return s.problem(at+".b", "there is no other zone %q", p.B)
		}
	}
	if z := s.Origin.Zone; z != "" && s.zone(z) < 0 {
		return s.problem("origin.zone", "there is no zone %q", z)
	}
	return nil
}

// zone returns the index of a zone, -1 if there is none of that name.
func (s *Scenario) zone(name string) int {
	return slices.IndexFunc(s.Zones, func(z Zone) bool { return z.Name == name })
}

func (s *Scenario) checkLayers() error {
	n := 0
	for i, l := range s.Layers {
		if l.Size > swarm.MaxBlobSize {
			return s.problem(fmt.Sprintf("layers[%d].size", i), "is more than a blob may have")
		}
		n += l.Count
	}
	if n > maxLayers {
		return s.problem("layers", "%d layers, at most %d", n, maxLayers)
	}
	if s.Pull.Parallel == 0 {
		return s.problem("pull.parallel", "must be at least 1")
	}
	return nil
}

func (s *Scenario) checkArrivals() error {
	sum, open := Share(0), -1
	for i, a := range s.Arrivals {
		at := fmt.Sprintf("arrivals[%d]", i)
		switch a.Kind {
		case "at_once":
		case "poisson":
			if a.Rate <= 0 {
				return s.problem(at+".rate", "must be more than 0 hosts per second")
			}
		case "rolling", "uniform":
			if a.Over <= 0 {
				return s.problem(at+".over", "must be more than 0")
			}
		default:
			return s.problem(at+".kind", "%q is none of at_once, poisson, rolling, uniform", a.Kind)
		}
		if a.Share == 0 {
			if open >= 0 {
				return s.problem(at+".share", "is missing: only one entry may take the rest")
			}
			open = i
		}
		sum += a.Share
	}
	if sum > 1.0001 {
		return s.problem("arrivals", "the shares add up to more than all hosts")
	}
	return nil
}

func (s *Scenario) checkFaults() error {
	for i, f := range s.Faults {
		at := fmt.Sprintf("faults[%d]", i)
		n := 0
		for _, set := range []bool{f.Kill > 0, f.KillSeeds > 0, f.KillHosts > 0, f.Stop > 0, f.StopSeeds > 0, f.Slow > 0, f.Cut != "", f.Pipe != "", f.Origin} {
			if set {
				n++
			}
		}
		if n != 1 {
			return s.problem(at, "must have one of kill, kill_seeds, kill_hosts, stop, stop_seeds, slow, cut, pipe, origin; has %d", n)
		}
		switch {
		case f.Cut != "" && s.zone(f.Cut) < 0:
			return s.problem(at+".cut", "there is no zone %q", f.Cut)
		case f.Pipe != "" && s.zone(f.Pipe) < 0:
			return s.problem(at+".pipe", "there is no zone %q", f.Pipe)
		case f.Cut != "" && f.For == 0:
			return s.problem(at+".for", "is missing: a zone that stays cut off can never finish")
		case f.Factor <= 0 && (f.Slow > 0 || f.Pipe != ""):
			return s.problem(at+".factor", "must be more than 0")
		}
	}
	return nil
}

func (s *Scenario) checkOthers() error {
	for i, l := range s.Liars {
		at := fmt.Sprintf("liars[%d]", i)
		if _, ok := lies[l.How]; !ok {
			return s.problem(at+".how", "%q is none of corrupt, forge, stall, boast", l.How)
		}
		if (l.Share > 0) == (l.Seeds > 0) {
			return s.problem(at, "must have either share or seeds")
		}
	}
	for i, w := range s.Warm {
		if w.Zone != "" && s.zone(w.Zone) < 0 {
			return s.problem(fmt.Sprintf("warm[%d].zone", i), "there is no zone %q", w.Zone)
		}
	}
	for i, c := range s.Classes {
		if c.Share == 0 {
			return s.problem(fmt.Sprintf("classes[%d].share", i), "is missing")
		}
	}
	switch {
	case s.Network.Window == 0:
		return s.problem("network.window", "must be more than 0")
	case s.Network.InitialWindow == 0:
		return s.problem("network.initial_window", "must be more than 0")
	case s.Network.Loss >= 1:
		return s.problem("network.loss", "nothing would arrive")
	case s.Limit == 0:
		return s.problem("limit", "must be more than 0")
	case s.Baseline.Tie != "same" && s.Baseline.Tie != "random":
		return s.problem("baseline.tie", "%q is none of same, random", s.Baseline.Tie)
	case s.Baseline.PieceSize < 1<<10:
		return s.problem("baseline.piece_size", "must be at least 1KiB")
	case s.Churn.Rate > 0 && s.Churn.Until <= s.Churn.From:
		return s.problem("churn.until", "must be after from")
	case s.Delays.Store == 0:
		return s.problem("delays.store", "must be more than 0")
	}
	return nil
}

func (s *Scenario) checkSweep() error {
	runs := 1
	for i, w := range s.Sweep {
		at := fmt.Sprintf("sweep[%d]", i)
		switch {
		case w.Field == "":
			return s.problem(at+".field", "is missing")
		case len(w.Values) == 0:
			return s.problem(at+".values", "there is none")
		}
		if runs *= len(w.Values); runs > maxRuns {
			return s.problem("sweep", "%d runs, at most %d", runs, maxRuns)
		}
		for k, v := range w.With {
			at := fmt.Sprintf("%s.with[%d]", at, k)
			switch {
			case v.Field == "":
				return s.problem(at+".field", "is missing")
			case len(v.Values) != len(w.Values):
				return s.problem(at+".values", "%d values to go with %d", len(v.Values), len(w.Values))
			}
		}
	}
	return nil
}

func (s *Scenario) checkSwarm() error {
	cfg := swarm.DefaultConfig()
	for name, value := range s.Swarm {
		if err := override(&cfg, name, value); err != nil {
			return s.problem("swarm."+name, "%v", err)
		}
	}
	return nil
}

// checkReach refuses a scenario in which some host could never get the bytes: nobody holds them and the way to the
// origin has no capacity.
func (s *Scenario) checkReach() error {
	var warm bool
	for _, w := range s.Warm {
		warm = warm || w.Part >= 1 && (w.Share > 0 || w.Seeds)
	}
	if warm {
		return nil
	}
	switch {
	case s.Origin.Down:
		return s.problem("origin.down", "nobody has the layers and the origin cannot be reached")
	case s.Origin.Egress == 0:
		return s.problem("origin.egress", "nobody has the layers and the origin sends nothing")
	}
	for i, z := range s.Zones {
		if z.Name != s.Origin.Zone && z.Hosts > 0 && z.In == 0 {
			return s.problem(fmt.Sprintf("zones[%d].in", i), "nothing comes into zone %q", z.Name)
		}
	}
	return nil
}

// minDelay is the least time between a cause at one node and its effect at another: the window in which nodes are
// independent of each other.
const minDelay = 50 * time.Microsecond
