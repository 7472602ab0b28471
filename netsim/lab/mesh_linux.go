package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/meshd-project/meshd/netsim"
	"github.com/meshd-project/meshd/netsim/testbed"
)

const (
	registryName = "registry.lab"
	mirrorAddr   = "127.0.0.1:65001"
	adminAddr    = "127.0.0.1:65002"
	pollEvery    = 100 * time.Millisecond // between two looks at a node that is coming up
	askTimeout   = 5 * time.Second        // for an answer of a node or the registry
)

// mesh is the processes of a lab. One goroutine starts and ends it; nodes may be asked by any.
type mesh struct {
	dir      string
	wires    *wires
	script   *netsim.Script
	scenario *netsim.Scenario
	registry *testbed.Process
	origin   *http.Client // inside the registry's namespace
	nodes    []*labNode
}

// labNode is one meshd.
type labNode struct {
	*testbed.Process
	netsim.Node
	dir  string
	http *http.Client // inside its namespace

	mu   sync.Mutex
	dead bool // it was killed on purpose
}

func (m *mesh) registryURL() string { return fmt.Sprintf("%v:%d", registryAddress(), registryPort) }

// start brings up registry and nodes, and returns when every node knows every other.
func (m *mesh) start(ctx context.Context) error {
	if err := m.startRegistry(); err != nil {
		return err
	}
	if err := m.writeKey(ctx); err != nil {
		return err
	}
	inZone := make([]int, len(m.scenario.Zones))
	for i, n := range m.script.Nodes {
		one := &labNode{Node: n, dir: filepath.Join(m.dir, n.Name), http: m.wires.hosts[i].client()}
		m.nodes = append(m.nodes, one)
		if err := m.startNode(i, hostAddress(n.Zone, inZone[n.Zone]).String()); err != nil {
			return err
		}
		inZone[n.Zone]++
		if i == 0 { // the others find the mesh by this one
			if err := m.writeBootstrap(ctx); err != nil {
				return err
			}
		}
	}
	return m.waitJoined(ctx)
}

func (m *mesh) startRegistry() error {
	m.origin = m.wires.registry.client()
	return m.wires.registry.Do(func() error {
		p, out, err := testbed.Start("registry", filepath.Join(m.dir, "registry.log"), "demo-registry", "--addr", m.registryURL())
		if err != nil {
			return err
		}
		_, readErr := bufio.NewReader(out).ReadString('\n')
		go p.Discard(out)
		m.registry = p
		if readErr != nil {
			<-p.Ended
			return p.Failed()
		}
		return nil
	})
}

// writeKey has the binary make a mesh key.
func (m *mesh) writeKey(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	key, err := exec.CommandContext(ctx, self, "key", "new").Output()
	if err != nil {
		return fmt.Errorf("make a mesh key: %w", err)
	}
	return os.WriteFile(m.keyFile(), key, 0o600)
}

func (m *mesh) keyFile() string { return filepath.Join(m.dir, "mesh.key") }

func (m *mesh) bootstrapFile() string { return filepath.Join(m.dir, "bootstrap") }

func (m *mesh) startNode(i int, host string) error {
	n := m.nodes[i]
	args := []string{
		"run",
		"--mirror-addr", mirrorAddr,
		"--admin-addr", adminAddr,
		"--p2p-addr", fmt.Sprintf("/ip4/%s/tcp/%d", host, p2pPort),
		"--data-addr", fmt.Sprintf("%s:%d", host, dataPort),
		"--data-dir", n.dir,
		"--zone", m.scenario.Zones[n.Zone].Name,
		"--mesh-key", m.keyFile(),
		"--bootstrap", "file:" + m.bootstrapFile(),
		"--registry", registryName + "=http://" + m.registryURL(),
		"--default-registry", registryName,
	}
	if n.Seed {
		args = append(args, "--seed")
	}
	return m.wires.hosts[i].Do(func() error {
		p, out, err := testbed.Start(n.Node.Name, filepath.Join(m.dir, n.Node.Name+".log"), args...)
		if err != nil {
			return err
		}
		go p.Discard(out)
		n.Process = p
		return nil
	})
}

// writeBootstrap waits for the first node and tells the others where it is.
func (m *mesh) writeBootstrap(ctx context.Context) error {
	n := m.nodes[0]
	if err := n.wait(ctx, func(ctx context.Context) bool { return n.admin().Ready(ctx) }); err != nil {
		return err
	}
	addr, err := os.ReadFile(filepath.Join(n.dir, "peer.addr"))
	if err != nil {
		return err
	}
	return os.WriteFile(m.bootstrapFile(), append(addr, '\n'), 0o600)
}

// waitJoined waits until every node is ready and sees all the others.
func (m *mesh) waitJoined(ctx context.Context) error {
	for _, n := range m.nodes {
		err := n.wait(ctx, func(ctx context.Context) bool {
			s, err := n.admin().Status(ctx)
			return err == nil && int(s.Peers) >= len(m.nodes)-1 && n.admin().Ready(ctx)
		})
		if err != nil {
			return fmt.Errorf("the mesh did not form: %w", err)
		}
	}
	return nil
}

// wait polls done until it is true, the node ends, or ctx does.
func (n *labNode) wait(ctx context.Context, done func(context.Context) bool) error {
	for {
		ask, cancel := context.WithTimeout(ctx, askTimeout)
		ok := done(ask)
		cancel()
		if ok {
			return nil
		}
		select {
		case <-n.Ended:
			return n.Failed()
		case <-ctx.Done():
			return fmt.Errorf("%s: %w\n%s", n.Node.Name, context.Cause(ctx), testbed.Tail(n.Log, 1000))
		case <-time.After(pollEvery):
		}
	}
}

// admin is the node's admin port.
func (n *labNode) admin() testbed.Node { return testbed.Node{HTTP: n.http, Admin: adminAddr} }

// kill ends the node's process on purpose.
func (n *labNode) kill() {
	n.mu.Lock()
	n.dead = true
	n.mu.Unlock()
	n.Kill()
}

func (n *labNode) killed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dead
}

// counts asks the registry what it sent.
func (m *mesh) counts(ctx context.Context) (testbed.Counts, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var c testbed.Counts
	return c, testbed.GetJSON(ctx, m.origin, "http://"+m.registryURL()+testbed.CountsPath, &c)
}

// pids returns the processes that live.
func (m *mesh) pids() []int {
	pids := []int{m.registry.PID()}
	for _, n := range m.nodes {
		if !n.killed() {
			pids = append(pids, n.PID())
		}
	}
	return pids
}

// push makes the scenario's layers and pushes them from inside the registry's namespace.
func (m *mesh) push(ctx context.Context) (*testbed.Image, error) {
	var sizes []int64
	for _, l := range m.scenario.Layers {
		for range l.Count {
			sizes = append(sizes, unpacked(int64(l.Size)))
		}
	}
	img, err := testbed.Push(ctx, m.registryURL(), m.origin.Transport, m.scenario.Seed, sizes...)
	if err != nil {
		return nil, fmt.Errorf("push to the lab's registry: %w", err)
	}
	return img, nil
}

// unpacked returns how much goes into a layer that is to have n bytes: tar and gzip add about a ten-thousandth to what does
// not compress. It rather comes out a little smaller, so that it has as many pieces as in the simulator.
func unpacked(n int64) int64 { return max(n-n/8192-4096, 1) }

// end kills all children: nothing that they hold is wanted any more.
func (m *mesh) end() {
	var wg sync.WaitGroup
	for _, n := range m.nodes {
		n.http.CloseIdleConnections()
		if n.Process != nil {
			wg.Go(n.kill)
		}
	}
	if m.registry != nil {
		m.origin.CloseIdleConnections()
		wg.Go(m.registry.Kill)
	}
	wg.Wait()
}

// logs returns the ends of the logs of the nodes whose pulls failed.
func (m *mesh) logs(errs []error) string {
	var b strings.Builder
	for i, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) && !m.nodes[i].killed() {
			fmt.Fprintf(&b, "--- end of the log of %s\n%s", m.nodes[i].Node.Name, testbed.Tail(m.nodes[i].Log, 2000))
		}
	}
	return b.String()
}
