package netsim

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// Goals are what a run of meshd has to reach: each bounds a figure of the Result from above, and a field that is not
// given is no goal. Wrong bytes are never allowed in a scenario that has goals.
//
// What is compared is what the table shows: figures rounded to three decimals, seconds and per cent to two. So
// "origin_copies: 1.000" is missed from 1.0005 on.
type Goals struct {
	// LastOverBound is for the last judged host's time over the bound, LastOverBoundPlus for its time beyond the bound.
	LastOverBound     float64
	LastOverBoundPlus Duration
	OriginCopies      float64
	// ZoneCopies is for the zone with the most (Result.ZoneCopiesMax).
	ZoneCopies float64
	Duplicates Share
	// Complete: every judged host that was not killed finished.
	Complete bool
}

// Score is a goal and what a run reached of it.
type Score struct {
	Field     string // "goals.origin_copies" is "origin_copies"
	Got, Goal string // as the table shows them
	Missed    bool
}

// String is the cell of a table: "1.035 <= 1.05", "1.087 > 1.08 !".
func (c Score) String() string {
	switch {
	case c.Missed && c.Goal != "":
		return c.Got + " > " + c.Goal + " !"
	case c.Missed:
		return c.Got + " !"
	case c.Goal != "":
		return c.Got + " <= " + c.Goal
	}
	return c.Got
}

// figure is how a number is shown and so compared.
type figure struct {
	unit     float64 // of what is shown, in what is counted
	decimals int
	suffix   string
}

var (
	ratioFigure   = figure{1, 3, ""}
	secondsFigure = figure{1, 2, " s"}
	percentFigure = figure{0.01, 2, "%"}
)

func (f figure) text(v float64) string { return fmt.Sprintf("%.*f%s", f.decimals, v/f.unit, f.suffix) }

func (f figure) score(field string, got, goal float64) Score {
	c := Score{Field: field, Got: f.text(got)}
	if goal > 0 {
		c.Goal = f.text(goal)
		shown := func(v float64) float64 { return math.Round(v / f.unit * math.Pow10(f.decimals)) }
		c.Missed = shown(got) > shown(goal)
	}
	return c
}

// scores are those of all goals.
type scores struct{ last, origin, zone, dup, failed, wrong Score }

func (g Goals) scores(r *Result) scores {
	s := scores{
		last:   ratioFigure.score("last_over_bound", r.LastOverBound, g.LastOverBound),
		origin: ratioFigure.score("origin_copies", r.OriginCopies, g.OriginCopies),
		zone:   ratioFigure.score("zone_copies", r.ZoneCopiesMax, g.ZoneCopies),
		dup:    percentFigure.score("duplicates", r.Duplicates, float64(g.Duplicates)),
		failed: Score{Field: "complete", Got: fmt.Sprint(r.Failed), Missed: g.Complete && (r.Failed > 0 || r.Completed == 0)},
		wrong:  Score{Field: "wrong_bytes", Got: fmt.Sprint(r.WrongBytes), Missed: r.WrongBytes > 0},
	}
	if g.LastOverBoundPlus > 0 {
		plus := secondsFigure.score("last_over_bound_plus", r.LastS-r.BoundS, g.LastOverBoundPlus.seconds())
		if !s.last.Missed {
			s.last = plus
		}
	}
	return s
}

// Missed returns the goals that a result missed.
func (g Goals) Missed(r *Result) []Score {
	s := g.scores(r)
	var missed []Score
	for _, c := range []Score{s.last, s.origin, s.zone, s.dup, s.failed, s.wrong} {
		if c.Missed {
			missed = append(missed, c)
		}
	}
	return missed
}

// Given reports whether there is any goal.
func (g Goals) Given() bool { return g != Goals{} }

// Scored is a run of meshd with the goals that it had, and runs of rivals beside it; nil for one that cannot be run.
type Scored struct {
	Goals  Goals
	Result *Result
	Rivals []*Result
}

// WriteGoals writes runs below each other with what they reached, and after them what was missed. rivals names the
// columns of Scored.Rivals, if there are any.
func WriteGoals(w io.Writer, rivals []string, rows ...Scored) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "scenario\tnodes\tbound s\tmedian\tp99\tlast\tlast/bound\torigin\tinto a zone\tdup\tfailed\twrong\tcontrol\twall s\t")
	for _, name := range rivals {
		fmt.Fprintf(t, "%s\torigin\t", name)
	}
	fmt.Fprintln(t)
	for _, row := range rows {
		r, s := row.Result, row.Goals.scores(row.Result)
		fmt.Fprintf(t, "%s\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t%v\t%v\t%v\t%v\t%v\t%v\t%s\t%.1f\t", r.Scenario, r.Nodes, r.BoundS,
			r.MedianS, r.P99S, r.LastS, s.last, s.origin, s.zone, s.dup, s.failed, s.wrong, percentFigure.text(r.MessageShare), r.WallS)
		for _, rival := range row.Rivals {
			if rival == nil {
				fmt.Fprint(t, "-\t-\t")
				continue
			}
			fmt.Fprintf(t, "%.2f\t%.2f\t", rival.LastOverBound, rival.OriginCopies)
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	for _, row := range rows {
		if err := row.writeMissed(w); err != nil {
			return fmt.Errorf("write table: %w", err)
		}
	}
	return nil
}

func (s *Scored) writeMissed(w io.Writer) error {
	if err := s.Result.writeVerdict(w, s.Result.Scenario); err != nil {
		return err
	}
	for _, c := range s.Goals.Missed(s.Result) {
		if _, err := fmt.Fprintf(w, "missed: %s %s: %s, goal %s\n", s.Result.Scenario, c.Field, c.Got, cmp.Or(c.Goal, "0")); err != nil {
			return err
		}
	}
	return nil
}

func (s *Scenario) checkGoals() error {
	g := s.Goals
	for _, c := range []struct {
		name  string
		value float64
	}{
		{"last_over_bound", g.LastOverBound},
		{"last_over_bound_plus", g.LastOverBoundPlus.seconds()},
		{"origin_copies", g.OriginCopies},
		{"zone_copies", g.ZoneCopies},
		{"duplicates", float64(g.Duplicates)},
	} {
		if field := "goals." + c.name; s.given(field) && c.value == 0 {
			return s.problem(field, "must be more than 0; without a goal leave it out")
		}
	}
	if g.LastOverBound > 0 && g.LastOverBound < 1 {
		return s.problem("goals.last_over_bound", "must be at least 1: no system beats the bound")
	}
	return nil
}
