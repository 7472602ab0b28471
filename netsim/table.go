package netsim

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// JSON writes the result as one object: the same bytes for two runs of one scenario and seed.
func (r *Result) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// WriteTable writes results below each other, one line each, and after them what stopped the runs that did not end by
// themselves.
func WriteTable(w io.Writer, results ...*Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "scenario\tsystem\tnodes\tbound s\tmedian\tp99\tlast\tlast/bound\torigin\tzone\tdup %\tctl %\tfirst byte\tdone\tfailed\tkilled\twrong\twall s\t")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.3f\t%.3f\t%.3f\t%.2f\t%.2f\t%.2f\t%d\t%d\t%d\t%d\t%.1f\t\n",
			r.Scenario, r.System, r.Nodes, r.BoundS, r.MedianS, r.P99S, r.LastS, r.LastOverBound, r.OriginCopies, r.ZoneCopies,
			100*r.Duplicates, 100*r.MessageShare, r.FirstByteS, r.Completed+r.OthersCompleted, r.Failed, r.Killed, r.WrongBytes, r.WallS)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	for _, r := range results {
		if r.Verdict != nil {
			if _, err := fmt.Fprintf(w, "%s, %s: %v\n", r.Scenario, r.System, r.Verdict); err != nil {
				return fmt.Errorf("write table: %w", err)
			}
		}
	}
	return nil
}

// WriteTable writes the result as a table of one line.
func (r *Result) WriteTable(w io.Writer) error { return WriteTable(w, r) }
