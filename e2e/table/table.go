// Package table collects what benchmarks measured beside a reference, and prints it as one table at the end of their
// program. It measures nothing itself. All functions may be called from any goroutine.
package table

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"
)

// Row is one measurement: the median of rounds in which both sides took turns.
type Row struct {
	What            string  // "warm pull, speed"
	Unit            string  // "MB/s"
	Ours, Reference float64 // medians; a Reference of 0 is none
	ReferenceName   string  // "nginx"
	Goal            Goal
}

// Goal is a bound of the ratio Ours/Reference, or of Ours where there is no reference. The zero Goal is none.
type Goal struct{ AtLeast, AtMost float64 }

// Ratio returns what the goal is about.
func (r Row) Ratio() float64 {
	if r.Reference == 0 {
		return r.Ours
	}
	return r.Ours / r.Reference
}

// Met reports whether the goal is reached.
func (r Row) Met() bool {
	return r.Ratio() >= r.Goal.AtLeast && (r.Goal.AtMost == 0 || r.Ratio() <= r.Goal.AtMost)
}

var (
	mu   sync.Mutex
	rows []Row
)

// Add puts a row into the table, in place of one of the same name.
func Add(r Row) {
	mu.Lock()
	defer mu.Unlock()
	rows = append(slices.DeleteFunc(rows, func(o Row) bool { return o.What == r.What }), r)
}

// Median returns the middle of some values, the mean of both if there are two.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	switch n := len(v); {
	case n == 0:
		return 0
	case n%2 == 1:
		return v[n/2]
	default:
		return (v[n/2-1] + v[n/2]) / 2
	}
}

// Print writes the table, nothing if it is empty.
func Print(w io.Writer) {
	mu.Lock()
	defer mu.Unlock()
	if len(rows) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| what\t| meshd\t| reference\t| ratio\t| goal\t|")
	fmt.Fprintln(t, "|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range rows {
		reference, ratio := "", ""
		if r.Reference > 0 {
			reference = figure(r.Reference) + " " + r.Unit + ", " + r.ReferenceName
			ratio = fmt.Sprintf("%.2f", r.Ratio())
		}
		fmt.Fprintf(t, "| %s\t| %s %s\t| %s\t| %s\t| %s\t|\n", r.What, figure(r.Ours), r.Unit, reference, ratio, r.goal())
	}
	_ = t.Flush()
}

// figure writes three digits, and no exponent.
func figure(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func (r Row) goal() string {
	text := ""
	switch {
	case r.Goal == Goal{}:
		return ""
	case r.Goal.AtMost > 0:
		text = fmt.Sprintf("at most %.4g", r.Goal.AtMost)
	default:
		text = fmt.Sprintf("at least %.4g", r.Goal.AtLeast)
	}
	if !r.Met() {
		return text + ", missed"
	}
	return text + ", met"
}
