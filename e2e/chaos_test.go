package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Bounds of a chaos run. They bound waits; they are no goals.
const (
	chaosClients = 20
	attemptLimit = 3 * time.Minute // one try of a client
	pullPatience = 4 * time.Minute // a pull, after the end of all faults
	returnLimit  = time.Minute     // a node that was started again, until it is ready
	originGrace  = 6 * time.Second // a seed refuses unasked for 5 s what a registry has refused

	chaosCacheMiB = 48
	chaosFreeMiB  = 16  // --min-free
	chaosDiskMiB  = 128 // of root's nodes
)

// chaosNodes are seven nodes in three zones, one of which has no seed.
var chaosNodes = []nodeSpec{
	{"east", true}, {"east", false}, {"east", false}, {"west", true}, {"west", false}, {"south", false}, {"south", false},
}

// chaosRun is a run: a mesh, a registry, clients, and what befalls them.
type chaosRun struct {
	t      *testing.T
	seed   uint64
	length time.Duration
	began  time.Time
	dir    string
	crane  string

	field    *field
	registry *registry
	nodes    []*chaosNode
	images   []*chaosImage
	excuses  excuses
	pulls    pullCounts
	returns  sync.WaitGroup // of nodes that were started

	mu     sync.Mutex
	story  []string // faults as they happened
	broken []string // what must not have happened
}

// chaosNode is a node over all its lives.
type chaosNode struct {
	*process
	run  *chaosRun
	i    int
	spec nodeSpec
	spot *spot
	log  string
	end  func()        // of the excuse
	over chan struct{} // closed when a fault has ended this life
}

// Random faults befall a mesh of real processes while clients pull. Whatever had a living path ends right, nothing wrong ever
// ends cleanly, and when it is over the mesh is as it was. MESHD_CHAOS_SEED and MESHD_CHAOS_TIME replay a run.
func TestChaos(t *testing.T) {
	long(t)
	need(t, "docker-registry", "curl")
	length := 30 * time.Second
	if s := os.Getenv("MESHD_CHAOS_TIME"); s != "" {
		var err error
		length, err = time.ParseDuration(s)
		must(t, err)
	}
	if !isolated(t, length+20*time.Minute) {
		return
	}
	seed := rand.Uint64() >> 32
	if s := os.Getenv("MESHD_CHAOS_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		must(t, err)
	}
	r := &chaosRun{t: t, seed: seed, length: length, dir: t.TempDir(), crane: craneBinary(t)}
	r.pulls.byHow, r.pulls.excused = map[string]int{}, map[string]int{}
	t.Logf("replay with: make chaos CHAOS_SEED=%d CHAOS_TIME=%v", seed, length)
	if os.Geteuid() != 0 {
		t.Log("NOT TESTED: cut networks and full disks, which need root")
	}
	r.build()
	before := r.measure()
	r.play()
	r.checkPulls()
	r.checkHealth(before)
	r.report()
}

// build makes the ground, the registry with its images, and the mesh.
func (r *chaosRun) build() {
	r.field = newField(r.t, len(chaosNodes))
	r.registry = startRegistry(r.t, r.field.net)
	for i := range 12 {
		r.images = append(r.images, r.pushChaosImage(i))
	}
	key, err := exec.Command(meshdBinary(r.t), "key", "new").Output()
	must(r.t, err)
	must(r.t, os.WriteFile(filepath.Join(r.dir, "mesh.key"), key, 0o600))
	var ways strings.Builder
	for i, spec := range chaosNodes {
		n := &chaosNode{run: r, i: i, spec: spec, spot: r.field.spots[i], log: filepath.Join(r.dir, fmt.Sprintf("node-%d.log", i+1))}
		r.nodes = append(r.nodes, n)
		fmt.Fprintf(&ways, "/ip4/%s/tcp/65003\n", n.spot.addr)
	}
	must(r.t, os.WriteFile(filepath.Join(r.dir, "bootstrap"), []byte(ways.String()), 0o600))
	r.began = time.Now()
	for _, n := range r.nodes {
		n.end = r.excuses.begin(n.i, "start", 0)
		n.start()
	}
	r.t.Cleanup(func() {
		for _, n := range r.nodes {
			n.kill()
		}
		if r.t.Failed() {
			r.showLogs()
		}
	})
	r.returns.Wait()
	r.awaitWhole()
}

// pushChaosImage pushes an image of some layers of up to 8 MiB.
func (r *chaosRun) pushChaosImage(i int) *chaosImage {
	rng := rand.New(rand.NewPCG(r.seed, 1000+uint64(i)))
	var sizes []int64
	for range 1 + rng.IntN(3) {
		sizes = append(sizes, 64<<10+rng.Int64N(8*mib))
	}
	img, about := newImage(r.t, fmt.Sprintf("library/chaos-%d", i), int64(r.seed)<<8+int64(i), sizes...)
	ref, err := name.NewTag(r.registry.addr+"/"+about.repo+":"+about.tag, name.Insecure)
	must(r.t, err)
	must(r.t, remote.Write(ref, img))
	c := &chaosImage{image: about}
	layers, err := img.Layers()
	must(r.t, err)
	for _, l := range layers {
		rc, err := l.Compressed()
		must(r.t, err)
		data, err := io.ReadAll(rc)
		must(r.t, err)
		c.layers = append(c.layers, data)
	}
	return c
}

// start starts the node's next life, and ends its excuse when it is ready.
func (n *chaosNode) start() {
	args := []string{
		"run", "--data-dir", filepath.Join(n.spot.dir, "data"), "--zone", n.spec.zone,
		"--cache-size", fmt.Sprintf("%dMiB", chaosCacheMiB), "--min-free", fmt.Sprintf("%dMiB", chaosFreeMiB),
		"--mirror-addr", n.spot.addr + ":65001", "--admin-addr", n.spot.admin + ":65002",
		"--p2p-addr", "/ip4/" + n.spot.addr + "/tcp/65003", "--data-addr", n.spot.addr + ":65004",
		"--registry", registryHost + "=" + n.run.registry.url(),
		"--mesh-key", filepath.Join(n.run.dir, "mesh.key"), "--bootstrap", "file:" + filepath.Join(n.run.dir, "bootstrap"),
	}
	if n.spec.seed {
		args = append(args, "--seed")
	}
	file, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(n.run.t, err)
	defer file.Close()
	fmt.Fprintf(file, "---- started %.2fs into the run\n", time.Since(n.run.began).Seconds())
	cmd := exec.Command(meshdBinary(n.run.t), args...)
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{name: fmt.Sprint("node-", n.i+1), cmd: cmd, log: n.log, ended: make(chan struct{})}
	must(n.run.t, n.spot.do(cmd.Start))
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	n.process, n.over = p, make(chan struct{})
	end, over := n.end, n.over
	n.run.returns.Go(func() {
		if err := n.awaitReady(p, over); err != nil {
			n.run.breaks("%s did not come back: %v", p.name, err)
		}
		end()
	})
}

// awaitReady polls /readyz of a life of the node, until that is over.
func (n *chaosNode) awaitReady(p *process, over <-chan struct{}) error {
	for deadline := time.Now().Add(returnLimit); ; {
		resp, err := n.get("/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		select {
		case <-over:
			return nil
		case <-p.ended:
			select {
			case <-over:
				return nil
			default:
				return fmt.Errorf("ended: %w", p.err)
			}
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v: %w", returnLimit, err)
		}
	}
}

func (n *chaosNode) get(path string) (*http.Response, error) {
	return n.spot.http.Get("http://" + n.spot.admin + ":65002" + path)
}

// play runs the clients and the schedule, and returns when both are through.
func (r *chaosRun) play() {
	faults := schedule(r.seed, r.length, len(r.nodes), r.field.root)
	ctx, cancel := context.WithTimeout(r.t.Context(), r.length+pullPatience)
	defer cancel()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	r.began = time.Now()
	for i := range chaosClients {
		clients.Go(func() { r.client(ctx, i, stop) })
	}
	r.carryOut(faults)
	close(stop)
	clients.Wait()
	r.t.Logf("%d faults: %s", len(faults), tally(faults))
}

// step is a fault's beginning or end.
type step struct {
	at time.Duration
	do func() string
}

// carryOut applies faults in their time.
func (r *chaosRun) carryOut(faults []fault) {
	var steps []step
	for _, f := range faults {
		undo := func() string { return "" }
		steps = append(steps,
			step{f.at, func() (what string) { what, undo = r.apply(f); return what }},
			step{f.at + f.lasts, func() string { return undo() }})
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	for _, s := range steps {
		time.Sleep(time.Until(r.began.Add(s.at)))
		if what := s.do(); what != "" {
			r.tell("%7.2fs %s", time.Since(r.began).Seconds(), what)
		}
	}
	time.Sleep(time.Until(r.began.Add(r.length)))
	r.returns.Wait()
}

func (r *chaosRun) tell(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.story = append(r.story, fmt.Sprintf(format, args...))
}

// breaks notes what must not have happened.
func (r *chaosRun) breaks(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = append(r.broken, fmt.Sprintf(format, args...))
}

// apply begins a fault. It says what it did and returns what ends it.
func (r *chaosRun) apply(f fault) (what string, undo func() string) {
	if f.node < 0 {
		return r.applyShared(f)
	}
	n := r.nodes[f.node]
	what = f.String()[9:]
	if slices.Contains(endings, f.kind) {
		return what, r.applyEnd(f, n)
	}
	switch f.kind {
	case faultPause:
		n.end = r.excuses.begin(f.node, "pause", time.Second)
		must(r.t, n.cmd.Process.Signal(syscall.SIGSTOP))
		return what, func() string {
			must(r.t, n.cmd.Process.Signal(syscall.SIGCONT))
			n.end()
			return n.name + " goes on"
		}
	case faultFill:
		must(r.t, n.spot.fill())
		return what, func() string { must(r.t, n.spot.drain()); return n.name + " has room" }
	case faultNoWay:
		end := r.excuses.begin(f.node, "no way to the registry", originGrace)
		return what, r.cutPairs(f, [][2]int{{f.node, registrySpot}}, end)
	case faultCut:
		return what, r.cutPairs(f, [][2]int{{f.node, f.other}}, func() {})
	case faultLone:
		var pairs [][2]int
		for i := range r.nodes {
			if i != f.node {
				pairs = append(pairs, [2]int{f.node, i})
			}
		}
		return what, r.cutPairs(f, pairs, func() {})
	}
	panic(f.kind)
}

// applyEnd ends a node's process; the undoing starts the next.
func (r *chaosRun) applyEnd(f fault, n *chaosNode) (undo func() string) {
	n.end = r.excuses.begin(f.node, string(f.kind), time.Second)
	close(n.over)
	if f.kind == faultRestart {
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
	} else {
		n.kill()
	}
	return func() string {
		what := n.name + " starts"
		select {
		case <-n.ended:
		case <-time.After(30 * time.Second):
			r.breaks("%s does not end within 30 s of SIGTERM", n.name)
			n.kill()
		}
		data := filepath.Join(n.spot.dir, "data")
		if f.kind == faultDamage {
			how, err := damage(data, f.pick)
			must(r.t, err)
			what += " with " + how
		}
		if f.kind == faultWipe {
			must(r.t, os.RemoveAll(data))
		}
		n.start()
		return what
	}
}

// cutPairs cuts each pair on the side that the fault's pick says.
func (r *chaosRun) cutPairs(f fault, pairs [][2]int, end func()) (undo func() string) {
	for i := range pairs {
		if f.pick>>i&1 == 1 && pairs[i][1] != registrySpot {
			pairs[i][0], pairs[i][1] = pairs[i][1], pairs[i][0]
		}
		must(r.t, r.field.cut(pairs[i][0], pairs[i][1]))
	}
	return func() string {
		for _, p := range pairs {
			must(r.t, r.field.mend(p[0], p[1]))
		}
		end()
		return fmt.Sprintf("mended: %s of %.2fs", f.kind, f.at.Seconds())
	}
}

// applyShared begins a fault that befalls everybody.
func (r *chaosRun) applyShared(f fault) (what string, undo func() string) {
	if f.kind == faultSplit {
		zone := []string{"east", "west", "south"}[f.pick%3]
		var pairs [][2]int
		for i, a := range r.nodes {
			for j, b := range r.nodes {
				if a.spec.zone == zone && b.spec.zone != zone {
					pairs = append(pairs, [2]int{i, j})
				}
			}
		}
		return f.String()[9:] + " of " + zone, r.cutPairs(f, pairs, func() {})
	}
	how := map[faultKind]behaviour{
		faultSlow: {Rate: 2 * mib}, faultError: {Status: http.StatusServiceUnavailable}, faultHang: {Hang: true}, faultBreak: {Break: true},
	}[f.kind]
	end := func() {}
	if f.kind != faultSlow {
		end = r.excuses.begin(-1, "registry: "+string(f.kind), originGrace)
	}
	r.registry.proxy.behave(r.t, how)
	return f.String()[9:], func() string {
		r.registry.proxy.behave(r.t, behaviour{})
		end()
		return "registry is well"
	}
}
