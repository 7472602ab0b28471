package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/meshd-project/meshd/netsim"
)

// Streams are where the commands write: results to Out, progress to Err.
type Streams struct {
	Out, Err io.Writer
}

// Command is the command line of `meshd sim`.
type Command struct {
	Run      runCommand      `cmd:"" help:"Run scenarios and print what came of them."`
	Baseline baselineCommand `cmd:"" help:"Run scenarios with meshd and with its rivals, and print all beside each other."`
	Lab      labCommand      `cmd:"" help:"Run scenarios with real nodes in network namespaces (Linux, root) and print simulator and measurement beside each other."`
	Goals    goalsCommand    `cmd:"" help:"Run the ready-made scenarios that have goals and print what was reached."`
	List     listCommand     `cmd:"" help:"List the ready-made scenarios."`
}

// UsageError is a mistake in the command line or in a scenario.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

func (e *UsageError) Unwrap() error { return e.Err }

// engineFlags are those of every command that runs something.
type engineFlags struct {
	Seed    uint64 `placeholder:"N" help:"Seed of all randomness in place of the scenario's."`
	Workers int    `placeholder:"N" help:"Goroutines; 0 is one per processor. Results do not depend on it."`
}

// Validate is called by kong.
func (f *engineFlags) Validate() error {
	if f.Workers < 0 {
		return errors.New("--workers: want 0 or more")
	}
	return nil
}

// heapGrowth is by how many per cent the heap may grow between collections: ten thousand nodes live as long as the run, and
// there is little to collect.
const heapGrowth = 40

func (f *engineFlags) options() netsim.Options {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	return netsim.Options{Seed: f.Seed, Workers: f.Workers}
}

// find reads all runs of the scenarios named before the first is run, so that a mistake in the last shows at once.
func find(names []string) ([]*netsim.Scenario, error) {
	var runs []*netsim.Scenario
	for _, name := range names {
		some, err := netsim.Find(name)
		var bad *netsim.Error
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, &UsageError{fmt.Errorf("%w (meshd sim list shows the names)", err)}
		case errors.As(err, &bad):
			return nil, &UsageError{err}
		case err != nil:
			return nil, err
		}
		runs = append(runs, some...)
	}
	return runs, nil
}

// player runs scenarios one after the other and shows how far they are.
type player struct {
	bar   *bar
	total int // runs
	n     int // of them begun
}

func newPlayer(std Streams, total int) *player {
	return &player{bar: newBar(std.Err, time.Now), total: total}
}

// play runs a scenario. Its error says which run it is about; there may be a result all the same.
func (p *player) play(ctx context.Context, s *netsim.Scenario, opts netsim.Options) (*netsim.Result, error) {
	p.n++
	name := s.Name
	if opts.System != "" && opts.System != "meshd" {
		name += ", " + opts.System
	}
	label := name
	if p.total > 1 {
		label = fmt.Sprintf("%d of %d: %s", p.n, p.total, name)
	}
	p.bar.begin(label)
	defer p.bar.end()
	opts.Progress = p.bar.show
	r, err := s.Run(ctx, opts)
	var stalled *netsim.StalledError
	switch {
	case err == nil && r.Failed > 0 && r.Completed == 0:
		return r, fmt.Errorf("%s: nobody got the image", name)
	case err == nil:
		return r, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: interrupted", name)
	case errors.Is(err, netsim.ErrNoNode):
		return nil, &UsageError{fmt.Errorf("%s: %w", name, err)}
	case errors.As(err, &stalled): // who waits for whom is told with the result
		return r, fmt.Errorf("%s: stopped at %v: %s", name, stalled.At.Round(time.Millisecond), stalled.Why)
	}
	return r, fmt.Errorf("%s: %w", name, err)
}

// plot draws the results of one scenario: into dir itself, or where there are several scenarios into a directory of its
// own in it.
func plot(dir string, scenarios int, results []*netsim.Result) error {
	if len(results) == 0 {
		return nil
	}
	if scenarios > 1 {
		dir = filepath.Join(dir, fileName(results[0].Scenario))
	}
	return netsim.Plot(dir, results...)
}

// fileName turns the name of a run into one of a file: "table-20 layers[0].size=1.28GB" is table-20-layers0.size-1.28GB.
func fileName(name string) string {
	safe := strings.Map(func(r rune) rune {
		switch {
		case r == ' ', r == '=', r == '/', r == '\\':
			return '-'
		case r == '[', r == ']', r < ' ':
			return -1
		}
		return r
	}, name)
	return cmp.Or(strings.TrimLeft(safe, "."), "scenario")
}
