package sim

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/meshd-project/meshd/netsim"
	"github.com/meshd-project/meshd/netsim/lab"
)

// maxSlower is slower than anybody waits for.
const maxSlower = 1000

// labCommand is `meshd sim lab`.
type labCommand struct {
	Files []string `arg:"" optional:"" name:"file" help:"Scenario file, or the name of a ready-made one (default: all ready-made ones whose names begin with lab-)."`
	engineFlags
	Runs   int     `default:"1" help:"Run each scenario so many times in the lab and take the one with the earliest last host: what else runs on the machine only makes it later."`
	Sims   int     `default:"9" help:"Simulate each scenario with so many seeds and take the one with the median of the last hosts' times (default ${default})."`
	Slower float64 `default:"1" placeholder:"FACTOR" help:"Divide all rates and stretch all times of the scenario, for a machine that is too slow or busy to carry it; ratios to the bound hardly change."`
	JSON   bool    `name:"json" help:"Print simulator and lab of each scenario as a JSON object."`
	Strict bool    `help:"Fail if the two do not agree."`
}

// Validate is called by kong.
func (c *labCommand) Validate() error {
	switch {
	case c.Runs < 1:
		return errors.New("--runs: want 1 or more")
	case c.Sims < 1:
		return errors.New("--sims: want 1 or more")
	case !(c.Slower >= 1 && c.Slower <= maxSlower):
		return fmt.Errorf("--slower: want 1 to %d", maxSlower)
	}
	return c.engineFlags.Validate()
}

// Run checks all scenarios before the first one runs, and prints all that ended.
func (c *labCommand) Run(ctx context.Context, std Streams) error {
	if len(c.Files) == 0 {
		c.Files = lab.Ready()
	}
	runs, err := find(c.Files)
	if err != nil {
		return err
	}
	for i := range runs {
		s := runs[i].Slower(c.Slower)
		if c.Seed != 0 {
			s.Seed = c.Seed
		}
		runs[i] = s
		if err := lab.Check(s); err != nil {
			return &UsageError{err}
		}
	}
	p := newPlayer(std, len(runs)*c.Sims)
	var pairs []lab.Pair
	var errs []error
	for _, s := range runs {
		pair, err := c.pair(ctx, p, std, s)
		errs = append(errs, err)
		if err == nil {
			pairs = append(pairs, pair)
			errs = append(errs, c.judge(pair))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(append(errs, c.print(std, pairs))...)
}

// pair simulates a scenario and measures it.
func (c *labCommand) pair(ctx context.Context, p *player, std Streams, s *netsim.Scenario) (lab.Pair, error) {
	simulated, err := c.simulate(ctx, p, s)
	if err != nil {
		return lab.Pair{}, err
	}
	var best *lab.Result
	for range c.Runs {
		r, err := lab.Run(ctx, s, lab.Options{Progress: std.Err})
		if ctx.Err() != nil {
			return lab.Pair{}, fmt.Errorf("%s: interrupted", s.Name)
		}
		if err != nil {
			return lab.Pair{}, fmt.Errorf("%s: %w", s.Name, err)
		}
		if best == nil || better(r, best) {
			best = r
		}
	}
	return lab.Pair{Simulated: simulated, Measured: best}, nil
}

// simulate runs a scenario with several seeds and returns the run in the middle: ids, and with them who brings what in,
// differ from run to run in the lab too.
func (c *labCommand) simulate(ctx context.Context, p *player, s *netsim.Scenario) (*netsim.Result, error) {
	var all []*netsim.Result
	for i := range c.Sims {
		opts := c.options()
		opts.Seed = s.Seed + uint64(i)
		r, err := p.play(ctx, s, opts)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *netsim.Result) int { return cmp.Compare(a.LastS, b.LastS) })
	return all[len(all)/2], nil
}

// better reports whether a run is to be taken rather than another.
func better(a, b *lab.Result) bool {
	if a.Failed != b.Failed {
		return a.Failed < b.Failed
	}
	return a.LastS < b.LastS
}

func (c *labCommand) judge(p lab.Pair) error {
	if m := p.Measured; m.WrongBytes > 0 || m.Completed == 0 || m.Failed > p.Simulated.Failed {
		return fmt.Errorf("%s: %d hosts failed in the lab, %d wrong bytes", m.Scenario, m.Failed, m.WrongBytes)
	}
	if apart := p.Apart(); c.Strict && len(apart) > 0 {
		return fmt.Errorf("%s: simulator and lab do not agree: %s", p.Measured.Scenario, strings.Join(apart, ", "))
	}
	return nil
}

func (c *labCommand) print(std Streams, pairs []lab.Pair) error {
	if c.JSON {
		enc := json.NewEncoder(std.Out)
		enc.SetIndent("", "  ")
		for _, p := range pairs {
			if err := enc.Encode(struct {
				Simulated *netsim.Result `json:"simulator"`
				Measured  *lab.Result    `json:"lab"`
				Apart     []string       `json:"apart"`
			}{p.Simulated, p.Measured, append([]string{}, p.Apart()...)}); err != nil {
				return fmt.Errorf("write result: %w", err)
			}
		}
		return nil
	}
	if len(pairs) == 0 {
		return nil
	}
	var results []*netsim.Result
	for _, p := range pairs {
		measured := p.Measured.Result
		measured.WallS = p.Measured.WallS
		results = append(results, p.Simulated, &measured)
	}
	if err := netsim.WriteTable(std.Out, results...); err != nil {
		return err
	}
	fmt.Fprintln(std.Out)
	return lab.WriteComparison(std.Out, pairs...)
}
