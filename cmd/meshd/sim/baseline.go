package sim

import (
	"context"
	"errors"

	"github.com/meshd-project/meshd/netsim"
)

// baselineCommand is `meshd sim baseline`.
type baselineCommand struct {
	Files []string `arg:"" name:"file" help:"Scenario file, or the name of a ready-made one (meshd sim list)."`
	engineFlags
	JSON bool   `name:"json" help:"Print each result as a JSON object."`
	Plot string `placeholder:"DIR" help:"Draw the completion of all systems in one picture, and sources and links of each."`
}

// Run runs every scenario with every system. A rival that cannot be run with a scenario is left out, and why is said.
func (c *baselineCommand) Run(ctx context.Context, std Streams) error {
	runs, err := find(c.Files)
	if err != nil {
		return err
	}
	p := newPlayer(std, len(runs)*len(netsim.Systems))
	var all []*netsim.Result
	var errs []error
	for _, s := range runs {
		var results []*netsim.Result
		for _, system := range netsim.Systems {
			opts := c.options()
			opts.System = system
			r, err := p.play(ctx, s, opts)
			errs = append(errs, err)
			if r != nil {
				results = append(results, r)
			}
			if ctx.Err() != nil {
				break
			}
		}
		all = append(all, results...)
		if c.Plot != "" {
			errs = append(errs, plot(c.Plot, len(runs), results))
		}
		if ctx.Err() != nil {
			break
		}
	}
	out := runCommand{JSON: c.JSON}
	return errors.Join(append(errs, out.print(std, all))...)
}
