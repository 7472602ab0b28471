package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/meshd-project/meshd/netsim"
	"github.com/meshd-project/meshd/netsim/testbed"
)

// startTimeout is how long mesh and image may take to be there.
const startTimeout = 3 * time.Minute

// Run plays a scenario with processes of the binary that runs, in a directory of its own under that for temporary files.
// It needs root. Everything that it made is gone when it returns, whatever came of the run. Its error is Check's, or
// says what could not be set up; hosts that failed are in the result.
func Run(ctx context.Context, s *netsim.Scenario, opts Options) (r *Result, err error) {
	if err := Check(s); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("the lab needs root, to make network namespaces and TUN devices")
	}
	dir, done, err := openDir()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	l := &bench{s: s, p: s.Script(), opts: opts, wires: &wires{}}
	defer l.wires.close()
	if err := l.wires.lay(s, l.p); err != nil {
		return nil, err
	}
	l.router = newRouter(newFabric(s, l.p), l.wires.tuns)
	l.mesh = &mesh{dir: dir, wires: l.wires, script: l.p, scenario: s}

	routing, stop := context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	g.Go(func() error { return l.router.Run(routing) })
	defer func() { err = errors.Join(err, g.Wait()) }()
	defer stop()
	defer l.mesh.end()
	return l.run(ctx)
}

// bench is one run.
type bench struct {
	s      *netsim.Scenario
	p      *netsim.Script
	opts   Options
	wires  *wires
	router *router
	mesh   *mesh
}

// run starts the mesh, plays the script and gathers what it showed.
func (l *bench) run(ctx context.Context) (*Result, error) {
	began := time.Now()
	setup, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not there after %v", startTimeout))
	defer cancel()
	l.say("starting a registry and %d nodes in %d zones", len(l.p.Nodes), len(l.s.Zones))
	if err := l.mesh.start(setup); err != nil {
		return nil, err
	}
	img, err := l.mesh.push(setup)
	if err != nil {
		return nil, err
	}
	l.say("pulling %v", netsim.Bytes(img.Size))
	before, busy, own := l.router.traffic(), readCPU(), processTime(l.mesh.pids())
	clients := l.play(ctx, img)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	now := readCPU()
	lab := processTime(l.mesh.pids()) - own
	r := l.result(ctx, img, clients, before)
	r.RouterLateS = l.router.lateness().Seconds()
	r.CPUBusy, r.CPULab, r.WallS = busy.share(now), max(lab, 0)/max(now.all-busy.all, 1), time.Since(began).Seconds()
	return r, nil
}

func (l *bench) say(format string, args ...any) {
	if l.opts.Progress != nil {
		fmt.Fprintf(l.opts.Progress, "%s: %s\n", l.s.Name, fmt.Sprintf(format, args...))
	}
}

// clients are the pulls, by node.
type clients struct {
	took []testbed.Took
	errs []error // of those that pulled
	done []bool  // it got the image
}

// play releases clients and faults, and returns when every client has ended.
func (l *bench) play(ctx context.Context, img *testbed.Image) *clients {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(l.s.Limit))
	defer cancel()
	n := len(l.p.Nodes)
	c := &clients{took: make([]testbed.Took, n), errs: make([]error, n), done: make([]bool, n)}
	release := time.Now()
	faults, over := context.WithCancel(ctx)
	var harm sync.WaitGroup
	for _, k := range l.p.Strikes {
		harm.Go(func() { l.strike(faults, release, k) })
	}
	var pulls sync.WaitGroup
	for i, node := range l.p.Nodes {
		if node.Arrives < 0 {
			continue
		}
		pulls.Go(func() {
			if !sleepUntil(ctx, release.Add(node.Arrives)) {
				c.errs[i] = context.Cause(ctx)
				return
			}
			one := &testbed.Client{HTTP: l.mesh.nodes[i].http, Mirror: mirrorAddr, Parallel: l.s.Pull.Parallel}
			c.took[i], c.errs[i] = one.Pull(ctx, img)
			c.done[i] = c.errs[i] == nil
		})
	}
	pulls.Wait()
	over()
	harm.Wait()
	return c
}

// sleepUntil reports whether the time came before ctx ended.
func sleepUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// strike does a fault when its time comes, and takes it back when it is over.
func (l *bench) strike(ctx context.Context, release time.Time, k netsim.Strike) {
	if !sleepUntil(ctx, release.Add(k.At)) {
		return
	}
	l.harm(k, true)
	if k.For > 0 {
		sleepUntil(ctx, release.Add(k.At+k.For))
		l.harm(k, false)
	}
}

// harm does a fault, or takes it back.
func (l *bench) harm(k netsim.Strike, on bool) {
	factor := k.Factor
	if !on {
		factor = 1 / k.Factor
	}
	var err error
	switch k.Harm {
	case netsim.HarmKill:
		if k.Silent { // the end of its connections never gets out
			err = l.wires.unplug(k.Node)
		}
		l.mesh.nodes[k.Node].kill()
	case netsim.HarmStop:
		err = l.mesh.nodes[k.Node].Halt(on)
	case netsim.HarmSlow:
		err = l.wires.slow(k.Node, factor)
	case netsim.HarmCut:
		l.router.change(func(f *fabric) { f.cut(k.Zone, on) })
	case netsim.HarmPipe:
		l.router.change(func(f *fabric) { f.scale(k.Zone, factor) })
	}
	if err != nil {
		l.say("a fault could not be played: %v", err)
	}
}

// result gathers what the run showed.
func (l *bench) result(ctx context.Context, img *testbed.Image, c *clients, before []count) *Result {
	n := len(l.p.Nodes)
	m := &netsim.Measured{
		System: "lab", Image: img.Size, BySource: map[string]int64{}, Into: make([]int64, len(l.s.Zones)),
		Took: make([]time.Duration, n), First: make([]time.Duration, n), Killed: make([]bool, n),
	}
	for i, node := range l.mesh.nodes {
		m.Took[i], m.First[i], m.Killed[i] = -1, -1, node.killed()
		if c.done[i] {
			m.Took[i], m.First[i] = c.took[i].All, c.took[i].FirstByte
		}
		var wrong *testbed.WrongError
		if errors.As(c.errs[i], &wrong) {
			m.WrongBytes += wrong.Bytes
		}
		if !m.Killed[i] {
			l.ask(ctx, node, m)
		}
	}
	sent, err := l.mesh.counts(ctx)
	if err != nil {
		l.say("the registry does not say what it sent: %v", err)
	}
	m.OriginBytes, m.OriginRequests = sent.BlobBytes, sent.BlobRequests
	wire := map[string]float64{}
	for z, now := range l.router.traffic()[:len(l.s.Zones)] {
		m.Into[z] = now.payload - before[z].payload
		wire[l.s.Zones[z].Name] = float64(now.packets-before[z].packets) / float64(img.Size)
	}
	r := &Result{Result: *l.s.Result(l.p, m), IntoZoneWire: wire, Congestion: congestion, Errors: map[string]string{}}
	for i, err := range c.errs {
		if err != nil && !m.Killed[i] {
			r.Errors[l.p.Nodes[i].Name] = err.Error()
		}
	}
	if len(r.Errors) > 0 {
		l.say("%d pulls failed\n%s", len(r.Errors), l.mesh.logs(c.errs))
	}
	return r
}

// ask adds what a node says of itself.
func (l *bench) ask(ctx context.Context, n *labNode, m *netsim.Measured) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := n.admin().Status(ctx)
	if err != nil {
		l.say("%s does not say where its bytes came from: %v", n.Node.Name, err)
		return
	}
	m.BySource["origin"] += s.BytesIn.Origin
	m.BySource["zone"] += s.BytesIn.Zone
	m.BySource["other_zone"] += s.BytesIn.OtherZone
	m.Duplicates += s.DuplicateBytes
	m.Quarantines += int64(s.Quarantined)
}
