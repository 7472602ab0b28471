package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/meshd-project/meshd/node"
	"github.com/meshd-project/meshd/node/admin"
	"github.com/meshd-project/meshd/node/admin/client"
)

// preheatPoll is the time between two looks at jobs that are waited for.
const preheatPoll = 300 * time.Millisecond

// preheatPatience is how long a node that does not answer, or does not find a job's owner, is asked on: both restart.
const preheatPatience = 30 * time.Second

type preheatCommands struct {
	Run    preheatRunCommand    `cmd:"" default:"withargs" help:"Have nodes fetch images before anybody pulls them."`
	Ls     preheatLsCommand     `cmd:"" name:"ls" help:"List the preheats of this node."`
	Get    preheatGetCommand    `cmd:"" name:"get" help:"Show a preheat of any node: each zone, and what failed where and why."`
	Cancel preheatCancelCommand `cmd:"" name:"cancel" help:"End a preheat; what has come stays."`
}

// preheatRunCommand is `meshd preheat IMAGE...`.
type preheatRunCommand struct {
	Image    []string      `arg:"" placeholder:"IMAGE" help:"Image, as docker pull takes it."`
	Platform []string      `sep:"," placeholder:"OS/ARCH" help:"Platforms of a multi-platform image, or all (default: the node's own)."`
	Scope    string        `placeholder:"seed|seeds|zone=NAME|all" help:"Which nodes: the nearest seed, every seed, a zone, or all (default: seeds)."`
	Timeout  time.Duration `placeholder:"DURATION" help:"Give up after this time (default: 1h)."`
	Wait     bool          `help:"Wait until it has ended, showing how far each layer is in each zone; exit code 1 unless all of it succeeded."`
	JSON     bool          `name:"json" help:"Print the jobs as JSON, one on a line, and no progress."`
	adminFlags
}

// Run makes a job of each image.
func (p *preheatRunCommand) Run(ctx context.Context, std streams) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	var jobs []node.PreheatJob
	for _, image := range p.Image {
		body := map[string]any{"image": image, "platforms": p.Platform, "scope": p.Scope}
		if p.Timeout > 0 {
			body["timeout"] = p.Timeout.String()
		}
		var job node.PreheatJob
		if err := c.Do(ctx, http.MethodPost, "/v1/preheats", body, &job); err != nil {
			return fmt.Errorf("preheat %s: %w", image, err)
		}
		if !p.JSON {
			fmt.Fprintf(std.out, "%s  %s\n", job.ID, job.Image)
		}
		jobs = append(jobs, job)
	}
	if p.Wait {
		return p.wait(ctx, std, c, jobs)
	}
	if p.JSON {
		return writeJobs(std.out, jobs)
	}
	return nil
}

// writeJobs prints a line of JSON for each.
func writeJobs(w io.Writer, jobs []node.PreheatJob) error {
	out := json.NewEncoder(w)
	for _, j := range jobs {
		if err := out.Encode(j); err != nil {
			return err
		}
	}
	return nil
}

// wait returns when all jobs have ended.
func (p *preheatRunCommand) wait(ctx context.Context, std streams, c *client.Client, jobs []node.PreheatJob) error {
	var bars *preheatBars
	if f, ok := std.err.(*os.File); ok && isatty.IsTerminal(f.Fd()) && !p.JSON {
		bars = newPreheatBars(f)
	}
	failed := 0
	for i := range jobs {
		var err error
		if jobs[i], err = awaitPreheat(ctx, c, jobs[i], bars.show); err != nil {
			bars.end()
			return err
		}
		if jobs[i].State != "succeeded" {
			failed++
		}
	}
	bars.end()
	if p.JSON {
		if err := writeJobs(std.out, jobs); err != nil {
			return err
		}
	} else {
		for _, j := range jobs {
			writeOutcome(std.out, j)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d preheats did not succeed", failed, len(jobs))
	}
	return nil
}

// awaitPreheat looks at a job until it has ended.
func awaitPreheat(ctx context.Context, c *client.Client, job node.PreheatJob, show func(node.PreheatJob)) (node.PreheatJob, error) {
	tick := time.NewTicker(preheatPoll)
	defer tick.Stop()
	heard := time.Now()
	for {
		var now node.PreheatJob
		err := c.Do(ctx, http.MethodGet, "/v1/preheats/"+job.ID.String(), nil, &now)
		var refused *admin.Error
		switch {
		case err == nil:
			heard = time.Now()
			show(now)
			if now.State.Ended() {
				return now, nil
			}
		case ctx.Err() != nil:
			return job, ctx.Err()
		case errors.As(err, &refused) && refused.Status != http.StatusServiceUnavailable, time.Since(heard) > preheatPatience:
			return job, fmt.Errorf("preheat %s: %w", job.ID, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return job, ctx.Err()
		}
	}
}

// writeOutcome prints what became of a job: a line, one for each zone, and one for each node and blob that failed.
func writeOutcome(w io.Writer, j node.PreheatJob) {
	fmt.Fprintf(w, "%s  %s  %s  %s of %s\n", j.ID, j.Image, j.State, sizeText(j.Bytes), sizeText(j.Total))
	if j.Reason != "" {
		fmt.Fprintf(w, "  %s\n", j.Reason)
	}
	for _, z := range j.Zones {
		fmt.Fprintf(w, "  zone %s: %d of %d nodes have it", z.Zone, z.Done, z.Nodes)
		if z.Failed > 0 {
			fmt.Fprintf(w, ", %d failed", z.Failed)
		}
		fmt.Fprintln(w)
	}
	for _, n := range j.Nodes {
		if n.State != "failed" {
			continue
		}
		fmt.Fprintf(w, "  node %s %s: %s\n", n.PeerID, n.Name, n.Reason)
		for _, l := range n.Layers {
			if l.State != "succeeded" {
				fmt.Fprintf(w, "    %s: %s, %s here: %s\n", l.Digest, l.State, sizeText(l.Bytes), l.Reason)
			}
		}
	}
}

// preheatLsCommand is `meshd preheat ls`.
type preheatLsCommand struct {
	JSON bool `name:"json" help:"Print the node's answer as it is."`
	adminFlags
}

// Run lists the jobs.
func (p *preheatLsCommand) Run(ctx context.Context, std streams) error {
	var jobs []node.PreheatJob
	if done, err := p.ask(ctx, std, p.JSON, "/v1/preheats", &jobs); done || err != nil {
		return err
	}
	t := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tIMAGE\tSCOPE\tSTATE\tBYTES\tCREATED")
	for _, j := range jobs {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", j.ID, j.Image, j.Scope, j.State, sizeText(j.Total), j.Created.Local().Format(time.DateTime))
	}
	return t.Flush()
}

// preheatGetCommand is `meshd preheat get ID`.
type preheatGetCommand struct {
	ID   string `arg:"" help:"Id of the preheat."`
	JSON bool   `name:"json" help:"Print the node's answer as it is."`
	adminFlags
}

// Run shows one job.
func (p *preheatGetCommand) Run(ctx context.Context, std streams) error {
	var job node.PreheatJob
	if done, err := p.ask(ctx, std, p.JSON, "/v1/preheats/"+pathPart(p.ID), &job); done || err != nil {
		return err
	}
	writeOutcome(std.out, job)
	return nil
}

// preheatCancelCommand is `meshd preheat cancel ID`.
type preheatCancelCommand struct {
	ID string `arg:"" help:"Id of the preheat."`
	adminFlags
}

// Run ends one job.
func (p *preheatCancelCommand) Run(ctx context.Context) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	return c.Do(ctx, http.MethodDelete, "/v1/preheats/"+pathPart(p.ID), nil, nil)
}
