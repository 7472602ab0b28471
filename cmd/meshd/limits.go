package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"text/tabwriter"

	"github.com/meshd-project/meshd/node"
)

// limitsCommand is `meshd limits`.
type limitsCommand struct {
	adminFlags
	Download *node.Rate `placeholder:"RATE" help:"Most bytes a second in, such as 100MB/s; 0 for no limit."`
	Upload   *node.Rate `placeholder:"RATE" help:"Most bytes a second out to peers; 0 for no limit."`
	Origin   *node.Rate `placeholder:"RATE" help:"Most bytes a second from all registries; 0 for no limit."`
	JSON     bool       `name:"json" help:"Print the node's answer as JSON."`
}

// Run changes what was given, and prints the rates that are in effect then.
func (l *limitsCommand) Run(ctx context.Context, std streams) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	method, change := http.MethodGet, any(nil)
	if l.Download != nil || l.Upload != nil || l.Origin != nil {
		method, change = http.MethodPut, node.LimitsChange{Download: l.Download, Upload: l.Upload, Origin: l.Origin}
	}
	var now node.Limits
	if err := c.Do(ctx, method, "/v1/limits", change, &now); err != nil {
		return fmt.Errorf("limits of the node at %s: %w", l.AdminAddr, err)
	}
	if l.JSON {
		data, err := json.MarshalIndent(now, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(std.out, "%s\n", data)
		return err
	}
	t := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	for _, row := range []struct {
		label string
		rate  node.Rate
	}{{"download", now.Download}, {"upload", now.Upload}, {"origin", now.Origin}} {
		text := row.rate.String()
		if row.rate == 0 {
			text = "no limit"
		}
		fmt.Fprintf(t, "%s\t%s\n", row.label, text)
	}
	return t.Flush()
}
