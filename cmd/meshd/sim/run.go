package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/meshd-project/meshd/netsim"
)

// runCommand is `meshd sim run`.
type runCommand struct {
	Files []string `arg:"" name:"file" help:"Scenario file, or the name of a ready-made one (meshd sim list)."`
	engineFlags
	System string `default:"meshd" placeholder:"NAME" help:"meshd, or a rival: direct, cdn, random-swarm, tree."`
	JSON   bool   `name:"json" help:"Print each result as a JSON object."`
	Plot   string `type:"path" placeholder:"DIR" help:"Draw completion, sources and links into this directory."`
}

// Validate is called by kong.
func (c *runCommand) Validate() error {
	if !slices.Contains(netsim.Systems, c.System) {
		return fmt.Errorf("--system: want one of %s", strings.Join(netsim.Systems, ", "))
	}
	return nil
}

// Run runs the scenarios in order and prints all that ended.
func (c *runCommand) Run(ctx context.Context, std Streams) error {
	runs, err := find(c.Files)
	if err != nil {
		return err
	}
	opts := c.options()
	opts.System = c.System
	p := newPlayer(std, len(runs))
	var results []*netsim.Result
	var errs []error
	for _, s := range runs {
		r, err := p.play(ctx, s, opts)
		errs = append(errs, err)
		if r == nil {
			if ctx.Err() != nil {
				break
			}
			continue
		}
		results = append(results, r)
		if c.Plot != "" {
			errs = append(errs, plot(c.Plot, len(runs), []*netsim.Result{r}))
		}
	}
	errs = append(errs, c.print(std, results))
	return errors.Join(errs...)
}

func (c *runCommand) print(std Streams, results []*netsim.Result) error {
	if !c.JSON {
		return printTable(std, results)
	}
	for _, r := range results {
		if err := r.JSON(std.Out); err != nil {
			return err
		}
	}
	return nil
}

func printTable(std Streams, results []*netsim.Result) error {
	if len(results) == 0 {
		return nil
	}
	return netsim.WriteTable(std.Out, results...)
}
