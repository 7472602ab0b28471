package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	Plot   string `placeholder:"DIR" help:"Draw completion, sources and links into this directory."`

	Record      string   `placeholder:"FILE" help:"Write what every core of the one run was told and decided to this file, as JSON lines."`
	RecordNodes []string `placeholder:"NODE" help:"Record only these nodes: a-1,b-seed-2."`
}

// Validate is called by kong.
func (c *runCommand) Validate() error {
	switch {
	case !slices.Contains(netsim.Systems, c.System):
		return fmt.Errorf("--system: want one of %s", strings.Join(netsim.Systems, ", "))
	case len(c.RecordNodes) > 0 && c.Record == "":
		return errors.New("--record-nodes: wants --record")
	case c.Record != "" && c.System != "meshd":
		return errors.New("--record: only meshd has cores to record")
	}
	return c.engineFlags.Validate()
}

// Run runs the scenarios in order and prints all that ended.
func (c *runCommand) Run(ctx context.Context, std Streams) error {
	runs, err := find(c.Files)
	if err != nil {
		return err
	}
	opts := c.options()
	opts.System = c.System
	if c.Record != "" {
		if len(runs) > 1 {
			return &UsageError{fmt.Errorf("--record: takes one run, these are %d", len(runs))}
		}
		f, err := os.Create(c.Record)
		if err != nil {
			return err
		}
		defer f.Close() // it is written out by then: a failed write is the run's error
		opts.Record, opts.RecordNodes = f, c.RecordNodes
	}
	return c.runAll(ctx, std, runs, opts)
}

func (c *runCommand) runAll(ctx context.Context, std Streams, runs []*netsim.Scenario, opts netsim.Options) error {
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
