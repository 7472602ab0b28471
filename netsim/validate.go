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
	maxZones  = 1000
	maxLayers = 10_000
	maxPieces = 200_000_000 // of all layers on all nodes
	maxRuns   = 10_000
)

// validate checks a complete scenario. Each check names the field that fails it.
func (s *Scenario) validate() error {
	for _, check := range []func() error{
		s.checkZones, s.checkPull, s.checkArrivals, s.checkFaults, s.checkOthers, s.checkSweep, s.checkSwarm, s.checkGoals, s.checkReach,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkNumbers refuses more zones, nodes and layers than there can be, before they are made.
func (s *Scenario) checkNumbers() error {
	zones, nodes, pullers := 0, 0, 0
	for _, z := range s.Zones {
		zones += z.Count
		nodes += z.Count * (z.Hosts + z.Seeds)
		pullers += z.Count * z.Hosts
		switch {
		case zones > maxZones:
			return s.problem("zones", "%d zones, at most %d", zones, maxZones)
		case nodes > maxHosts:
			return s.problem("zones", "%d nodes, at most %d", nodes, maxHosts)
		}
	}
	if pullers == 0 {
		return s.problem("zones", "there is no host: nobody pulls")
	}
	layers, pieces := 0, 0
	for i, l := range s.Layers {
		if l.Size > swarm.MaxBlobSize {
			return s.problem(fmt.Sprintf("layers[%d].size", i), "is more than a blob may have")
		}
		layers += max(l.Count, 1)
		pieces += max(l.Count, 1) * swarm.LayoutOf(int64(l.Size)).Pieces()
		switch {
		case layers > maxLayers:
			return s.problem("layers", "%d layers, at most %d", layers, maxLayers)
		case pieces*nodes > maxPieces:
			return s.problem("layers", "%d pieces on %d nodes, at most %d in all", pieces, nodes, maxPieces)
		}
	}
	return nil
}

func (s *Scenario) checkZones() error {
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
	}
	for i, p := range s.WAN.Pairs {
		at := fmt.Sprintf("wan.pairs[%d]", i)
		if s.zone(p.A) < 0 {
			return s.problem(at+".a", "there is no zone %q", p.A)
		}
		if s.zone(p.B) < 0 || p.A == p.B {
			return s.problem(at+".b", "there is no other zone %q", p.B)
		}
		if s.given(at+".rate") && p.Rate == 0 {
			return s.problem(at+".rate", "must be more than 0; leave it out if the pair has no pipe of its own")
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

func (s *Scenario) checkPull() error {
	if n := s.Pull.Parallel; n < 1 || n > maxLayers {
		return s.problem("pull.parallel", "must be from 1 to %d", maxLayers)
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
			if a.Rate < minArrivals {
				return s.problem(at+".rate", "must be more than 0 hosts per second, at least %v", minArrivals)
			}
		case "rolling", "uniform":
			if a.Over <= 0 {
				return s.problem(at+".over", "must be more than 0")
			}
		default:
			return s.problem(at+".kind", "%q is none of at_once, poisson, rolling, uniform", a.Kind)
		}
		if a.At >= s.Limit {
			return s.problem(at+".at", "is not before the limit of %v", s.Limit.std())
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

// minArrivals keeps the last arrival within a time that there is.
const minArrivals = 1e-3

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
		at := fmt.Sprintf("classes[%d]", i)
		if c.Share == 0 {
			return s.problem(at+".share", "is missing")
		}
		if s.given(at+".host.up") && c.Host.Up == 0 {
			return s.problem(at+".host.up", "must be more than 0; leave it out to keep that of the zone")
		}
		if s.given(at+".host.down") && c.Host.Down == 0 {
			return s.problem(at+".host.down", "must be more than 0; leave it out to keep that of the zone")
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
	case s.Churn.Rate > maxChurn:
		return s.problem("churn.rate", "must be at most %d hosts per second", maxChurn)
	case s.Mesh.Contacts > maxZones:
		return s.problem("mesh.contacts", "must be at most %d", maxZones)
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

// maxChurn is more hosts a second than there are.
const maxChurn = 1_000_000

// checkReach refuses a scenario in which some host could never get the bytes: nothing gets to it, or nobody holds them
// and the way to the origin has no capacity.
func (s *Scenario) checkReach() error {
	for i, z := range s.Zones {
		at := fmt.Sprintf("zones[%d]", i)
		switch {
		case z.Hosts > 0 && z.Host.Down == 0:
			return s.problem(s.where(at+".host.down", "host.down"), "nothing comes in at the hosts of zone %q", z.Name)
		case z.Seeds > 0 && z.SeedHost.Down == 0:
			return s.problem(s.where(at+".seed_host.down", "seed_host.down"), "nothing comes in at the seeds of zone %q", z.Name)
		}
	}
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
	home := s.zone(s.Origin.Zone)
	for i, z := range s.Zones {
		switch at := fmt.Sprintf("zones[%d]", i); {
		case i == home || z.Hosts == 0:
		case z.In == 0:
			return s.problem(s.where(at+".in", "wan.in"), "nothing comes into zone %q", z.Name)
		case home >= 0 && s.Zones[home].Out == 0:
			return s.problem(s.where(fmt.Sprintf("zones[%d].out", home), "wan.out"), "nothing leaves the zone of the origin")
		}
	}
	return nil
}

// where returns the field that a value comes from: the special one if it is given, else the general one.
func (s *Scenario) where(special, general string) string {
	if s.given(special) {
		return special
	}
	return general
}

// minDelay is the least time between a cause at one node and its effect at another: the window in which nodes are
// independent of each other.
const minDelay = 50 * time.Microsecond
