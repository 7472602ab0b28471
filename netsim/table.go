package netsim

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
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

// WriteTable writes results below each other, one line each, and after them why hosts gave up and what stopped the
// runs that did not end by themselves.
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
		if err := r.writeVerdict(w, r.Scenario+", "+r.System); err != nil {
			return fmt.Errorf("write table: %w", err)
		}
	}
	return nil
}

// writeVerdict writes why hosts gave up and why the run stopped, if any did and it did.
func (r *Result) writeVerdict(w io.Writer, name string) error {
	for _, why := range slices.Sorted(maps.Keys(r.GaveUp)) {
		if _, err := fmt.Fprintf(w, "%s: %d hosts gave up: %s\n", name, r.GaveUp[why], why); err != nil {
			return err
		}
	}
	if r.Verdict == nil {
		return nil
	}
	_, err := fmt.Fprintf(w, "%s: %v\n", name, r.Verdict)
	return err
}

// WriteTable writes the result as a table of one line.
func (r *Result) WriteTable(w io.Writer) error { return WriteTable(w, r) }
