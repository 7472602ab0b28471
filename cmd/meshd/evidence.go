package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/meshd-project/meshd/exchange"
)

// evidenceCommand is `meshd evidence`.
type evidenceCommand struct {
	adminFlags
	JSON bool `name:"json" help:"Print the proofs as a JSON list."`
}

// Run prints a line for each proof, the newest first. Signatures are checked here: the node is not taken at its word.
func (e *evidenceCommand) Run(ctx context.Context, std streams) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	raw, err := c.Get(ctx, "/v1/evidence")
	if err != nil {
		return fmt.Errorf("evidence of the node at %s: %w", e.AdminAddr, err)
	}
	if e.JSON {
		_, err := fmt.Fprintf(std.out, "%s", raw)
		return err
	}
	var list []exchange.Evidence
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("evidence of the node at %s: %w", e.AdminAddr, err)
	}
	t := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	for _, p := range list {
		verdict := "signature right"
		if err := p.Check(); err != nil {
			verdict = err.Error()
		}
		fmt.Fprintf(t, "%s\t%s\tpiece %d of %s\t%s\n", p.Time.Format(time.RFC3339), p.Peer, p.Piece, p.Digest, oneRow(verdict))
	}
	return t.Flush()
}
