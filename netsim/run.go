package netsim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// Options tune a run without changing what it shows.
type Options struct {
	// Seed replaces the scenario's, if not 0.
	Seed uint64
	// System is "meshd" or a rival: see Systems. Default "meshd".
	System string
	// Workers is the number of goroutines; 0 is one per processor. The result does not depend on it.
	Workers int
	// Progress is called now and then, if set.
	Progress func(Progress)
	// Record takes what the cores are told and decide, as JSON lines (scenarios/README.md); RecordNodes names the
	// nodes whose cores are meant, all if it is empty. Of meshd only.
	Record      io.Writer
	RecordNodes []string
}

// Progress says how far a run is.
type Progress struct {
	Virtual time.Duration
	Pieces  int64 // stored so far
	Total   int64 // to be stored by hosts whose clients want them
	Open    int   // hosts that have not finished
}

// Nodes returns the number of hosts and seeds.
func (s *Scenario) Nodes() int {
	n := 0
	for _, z := range s.Zones {
		n += z.Hosts + z.Seeds
	}
	return n
}

// Run plays a scenario. It fails with ctx, with a *StalledError if the run stopped before everybody had finished, or with
// an *InvariantError if a rule was broken; the result up to then comes with it.
func (s *Scenario) Run(ctx context.Context, opts Options) (*Result, error) {
	began := time.Now()
	one := *s
	if opts.Seed != 0 {
		one.Seed = opts.Seed
	}
	play := one.runMesh
	if opts.System != "" && opts.System != "meshd" {
		play = one.runRival
	}
	r, err := play(ctx, opts)
	if r == nil {
		return nil, err
	}
	r.WallS = time.Since(began).Seconds()
	var stalled *StalledError
	if errors.As(err, &stalled) {
		r.Verdict = stalled
	}
	return r, err
}

// runMesh runs the cores.
func (s *Scenario) runMesh(ctx context.Context, opts Options) (*Result, error) {
	w, err := newWorld(s)
	if err != nil {
		return nil, err
	}
	w.limit(opts)
	if opts.Record != nil {
		if err := w.record(opts.Record, opts.RecordNodes); err != nil {
			return nil, err
		}
	}
	limit := bound(w.t, w.layers, w)
	err = errors.Join(w.play(ctx, opts), w.rec.close())
	r := w.result()
	r.bounded(limit)
	return r, err
}

// runRival runs another system.
func (s *Scenario) runRival(ctx context.Context, opts Options) (*Result, error) {
	v, err := newRival(s, opts.System)
	if err != nil {
		return nil, err
	}
	v.limit(opts)
	r, err := v.play(ctx, opts.System, s.Limit.std(), opts.Progress)
	r.bounded(bound(v.t, newLayers(s), nil))
	return r, err
}

func (e *engine) limit(opts Options) {
	if opts.Workers > 0 {
		e.workers = opts.Workers
	}
}

// play runs the world until all pulls have ended.
func (w *world) play(ctx context.Context, opts Options) error {
	watch := watcher{w: w, progress: opts.Progress}
	err := w.run(ctx, swarm.Time(w.t.s.Limit), func() (bool, error) {
		if ctx.Err() != nil { // at once: a window of thousands of nodes takes a while
			return false, context.Cause(ctx)
		}
		return watch.look()
	})
	var stalled *StalledError
	switch {
	case errors.Is(err, errNothingLeft):
		return w.verdict("nothing is left to happen")
	case errors.As(err, &stalled):
		return w.verdict(stalled.Why)
	}
	return err
}

// watcher looks whether a run gets on.
type watcher struct {
	w        *world
	progress func(Progress)
	n        int
	pieces   int64
	open     int
	since    swarm.Time // of the last piece
}

// look reports whether the run is over, and fails if it got nowhere for the patience of a run.
func (v *watcher) look() (bool, error) {
	w := v.w
	if err := cmp.Or(w.violation(), w.rec.failed()); err != nil {
		return false, err
	}
	if w.open == 0 {
		return true, nil
	}
	if v.n++; v.n%256 != 0 {
		return false, nil
	}
	var pieces int64
	for _, h := range w.hosts {
		pieces += h.counts.pieces
	}
	if v.progress != nil {
		var total int64
		for _, l := range w.layers.list {
			total += int64(l.layout.Pieces())
		}
		v.progress(Progress{Virtual: time.Duration(w.now), Pieces: pieces, Total: total * int64(len(w.t.hosts)), Open: w.open})
	}
	if pieces != v.pieces || w.open != v.open || w.pending() {
		v.pieces, v.open, v.since = pieces, w.open, w.now
	}
	if w.now.Sub(v.since) > patience {
		return false, w.verdict(fmt.Sprintf("no piece has moved for %v", patience))
	}
	return false, nil
}

// pending reports whether something is still to befall the world: a client that comes, a fault that ends.
func (w *world) pending() bool {
	if len(w.ops) > 0 {
		return true
	}
	for _, h := range w.hosts {
		if at := w.arrived[h.id]; !h.dead && at != never && at > w.now {
			return true
		}
	}
	return false
}

// verdict says who waits for whom.
func (w *world) verdict(why string) *StalledError {
	e := &StalledError{At: time.Duration(w.now), Why: why}
	for _, h := range w.hosts {
		if w.t.nodes[h.id].seed || h.dead || h.ended != 0 || w.arrived[h.id] == never {
			continue
		}
		if len(e.Waits) == maxWaits {
			e.More++
			continue
		}
		e.Waits = append(e.Waits, h.waits())
	}
	return e
}

// waits says what a host waits for.
func (h *host) waits() string {
	name := h.w.t.nodes[h.id].name
	if h.started == never {
		return name + " has not begun"
	}
	if h.halted {
		return name + " is stopped"
	}
	for b := range h.pulls {
		p := &h.pulls[b]
		if !p.wanted || p.ended {
			continue
		}
		text := fmt.Sprintf("%s has %d of %d pieces of layer %d", name, p.count, p.have.Len(), b)
		for _, r := range h.asked {
			if r.blob == int32(b) {
				text += fmt.Sprintf(", waits %v for piece %d of %s", h.now.Sub(r.at).Round(time.Millisecond), r.piece, h.w.t.nodes[r.to].name)
			}
		}
		if len(h.fetches) > 0 {
			text += ", waits for the origin"
		}
		if len(h.asked) == 0 && len(h.fetches) == 0 {
			text += ", asks nobody for anything"
		}
		return text
	}
	return name + " waits for nothing"
}
