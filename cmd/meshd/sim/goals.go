package sim

import (
	"context"
	"errors"
	"fmt"

	"github.com/meshd-project/meshd/netsim"
)

// quickNodes is the size up to which --quick runs a scenario.
const quickNodes = 300

// goalsCommand is `meshd sim goals`.
type goalsCommand struct {
	Names []string `arg:"" optional:"" name:"name" help:"Ready-made scenarios or files (default: all ready-made ones that have goals)."`
	engineFlags
	Quick    bool `help:"Leave out scenarios of more than 300 nodes: seconds instead of minutes."`
	Baseline bool `help:"Run the rivals as well and put their time over the bound and their origin copies beside."`
}

// Run runs the scenarios that have goals and prints one table. It fails if a goal is missed.
func (c *goalsCommand) Run(ctx context.Context, std Streams) error {
	runs, err := c.runs()
	if err != nil {
		return err
	}
	var rivals []string
	if c.Baseline {
		rivals = netsim.Systems[1:]
	}
	p := newPlayer(std, len(runs)*(1+len(rivals)))
	var rows []netsim.Scored
	var errs []error
	missed := 0
	for _, s := range runs {
		row, err := c.row(ctx, p, s, rivals)
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
		if row.Result == nil {
			continue
		}
		rows = append(rows, row)
		missed += len(row.Goals.Missed(row.Result))
	}
	if len(rows) > 0 {
		errs = append(errs, netsim.WriteGoals(std.Out, rivals, rows...))
	}
	if missed > 0 {
		errs = append(errs, fmt.Errorf("%d goals missed", missed))
	}
	return errors.Join(errs...)
}

// runs returns those that have goals of the scenarios named, or of all.
func (c *goalsCommand) runs() ([]*netsim.Scenario, error) {
	names := c.Names
	if len(names) == 0 {
		names = netsim.Ready()
	}
	all, err := find(names)
	if err != nil {
		return nil, err
	}
	var runs []*netsim.Scenario
	for _, s := range all {
		switch {
		case !s.Goals.Given():
			if len(c.Names) > 0 {
				return nil, &UsageError{fmt.Errorf("%s has no goals", s.Name)}
			}
		case !c.Quick || s.Nodes() <= quickNodes:
			runs = append(runs, s)
		}
	}
	return runs, nil
}

// row runs a scenario, and with rivals those that can be. Only an error of meshd's own run is one.
func (c *goalsCommand) row(ctx context.Context, p *player, s *netsim.Scenario, rivals []string) (netsim.Scored, error) {
	r, err := p.play(ctx, s, c.options())
	row := netsim.Scored{Goals: s.Goals, Result: r}
	for _, system := range rivals {
		if ctx.Err() != nil {
			break
		}
		opts := c.options()
		opts.System = system
		rival, _ := p.play(ctx, s, opts)
		row.Rivals = append(row.Rivals, rival)
	}
	return row, err
}
