package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/meshd-project/meshd/node"
)

// doctorCommand is `meshd doctor`.
type doctorCommand struct {
	adminFlags
	JSON bool `name:"json" help:"Print the checks as a JSON list."`
}

// Run has the node check itself, prints a line for each check, and fails if one did. That the node does not answer is
// the first of the checks.
func (d *doctorCommand) Run(ctx context.Context, std streams) error {
	checks, err := d.checks(ctx)
	if err != nil {
		return err
	}
	if d.JSON {
		data, err := json.MarshalIndent(checks, "", "  ")
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(std.out, "%s\n", data); err != nil {
			return err
		}
	} else if err := writeChecks(std.out, checks); err != nil {
		return err
	}
	failed := 0
	for _, c := range checks {
		if c.Level == node.Fail {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(checks))
	}
	return nil
}

func (d *doctorCommand) checks(ctx context.Context) ([]node.Check, error) {
	c, err := d.client()
	if err != nil {
		return nil, err
	}
	data, err := c.Get(ctx, "/v1/doctor")
	if err != nil {
		return []node.Check{{
			Level: node.Fail, What: "node", Found: fmt.Sprintf("no answer at %s: %v", d.AdminAddr, err),
			Do: "start it (systemctl start meshd), or give its --admin-addr; its log says why it ended",
		}}, nil
	}
	var checks []node.Check
	if err := json.Unmarshal(data, &checks); err != nil {
		return nil, fmt.Errorf("answer of the node at %s: %w", d.AdminAddr, err)
	}
	return checks, nil
}

// writeChecks prints a line for each check, and below it what to do.
func writeChecks(w io.Writer, checks []node.Check) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range checks {
		fmt.Fprintf(t, "%s\t%s\t%s\n", c.Level, c.What, oneRow(c.Found))
		if c.Do != "" {
			fmt.Fprintf(t, "\t\t-> %s\n", oneRow(c.Do))
		}
	}
	return t.Flush()
}

// oneRow keeps what the network may have said within its line and column.
func oneRow(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
