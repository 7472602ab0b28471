package lab

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/meshd-project/meshd/netsim"
)

// How near simulator and lab have to be for a calibration to hold: times as a share of the lab's, copies as they are.
const (
	maxTimeError   = 0.15
	maxCopiesError = 0.03
)

// Pair is one scenario simulated and measured.
type Pair struct {
	Simulated *netsim.Result
	Measured  *Result
}

// figure is a number that both have.
type figure struct {
	name     string
	sim, lab float64
	relative bool    // the error is a share of the lab's
	most     float64 // error; 0: it is shown and not judged
}

func (p *Pair) figures() []figure {
	s, m := p.Simulated, p.Measured
	return []figure{
		{"first byte s", s.FirstByteS, m.FirstByteS, true, 0},
		{"median s", s.MedianS, m.MedianS, true, 0},
		{"last s", s.LastS, m.LastS, true, maxTimeError},
		{"last/bound", s.LastOverBound, m.LastOverBound, true, 0},
		{"origin copies", s.OriginCopies, m.OriginCopies, false, maxCopiesError},
		{"zone copies", s.ZoneCopies, m.ZoneCopies, false, maxCopiesError},
		{"zone copies, worst", s.ZoneCopiesMax, m.ZoneCopiesMax, false, 0},
		{"failed", float64(s.Failed), float64(m.Failed), false, 0.5},
	}
}

// off returns how far the simulator is from the lab.
func (f *figure) off() float64 {
	if f.relative && f.lab != 0 {
		return f.sim/f.lab - 1
	}
	return f.sim - f.lab
}

// apart reports whether the two are further from each other than they may be.
func (f *figure) apart() bool { return f.most > 0 && math.Abs(f.off()) > f.most }

func (f *figure) error() string {
	text := fmt.Sprintf("%+.3f", f.off())
	if f.relative {
		text = fmt.Sprintf("%+.1f %%", 100*f.off())
	}
	if f.apart() {
		text += " !"
	}
	return text
}

// Apart returns the names of the figures by which simulator and lab do not agree: the last host's time by more than 15 %,
// copies by more than 0.03, or who failed.
func (p *Pair) Apart() []string {
	var names []string
	for _, f := range p.figures() {
		if f.apart() {
			names = append(names, f.name)
		}
	}
	return names
}

// WriteComparison writes a table with the simulator and the lab beside each other and the error of each figure; a
// "!" marks those that are too far apart.
func WriteComparison(w io.Writer, pairs ...Pair) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "scenario\tfigure\tsimulator\tlab\terror")
	for _, p := range pairs {
		name := p.Measured.Scenario
		for _, f := range p.figures() {
			fmt.Fprintf(t, "%s\t%s\t%.3f\t%.3f\t%s\n", name, f.name, f.sim, f.lab, f.error())
			name = ""
		}
		wire := 0.0
		for _, c := range p.Measured.IntoZoneWire {
			wire = max(wire, c)
		}
		fmt.Fprintf(t, "\tzone copies with headers, worst\t\t%.3f\t\n", wire)
		fmt.Fprintf(t, "\tthe lab's router late, ms\t\t%.1f\t\n", 1000*p.Measured.RouterLateS)
		fmt.Fprintf(t, "\tprocessors busy, with the lab\t\t%.0f %%, %.0f %%\t\n", 100*p.Measured.CPUBusy, 100*p.Measured.CPULab)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}
