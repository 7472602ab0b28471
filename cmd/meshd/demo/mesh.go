package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/meshd-project/meshd/netsim/testbed"
	"github.com/meshd-project/meshd/node"
)

const (
	registryName = "registry.demo"        // what the nodes call the demo's registry
	pollInterval = 100 * time.Millisecond // between two looks at a node that is coming up
)

// mesh is the registry and the nodes, all children of this process. It is used by one goroutine.
type mesh struct {
	dir      string
	registry *registryProcess
	nodes    []*meshNode
}

type registryProcess struct {
	*testbed.Process
	address string // host:port
}

type meshNode struct {
	*testbed.Process
	ports
	zone string
	seed bool
	dir  string
}

// start brings everything up and returns when every node knows every other.
func (m *mesh) start(ctx context.Context, nodes, zones, seedsPerZone int) error {
	if err := m.startRegistry(); err != nil {
		return err
	}
	key := filepath.Join(m.dir, "mesh.key")
	if err := writeKey(key); err != nil {
		return err
	}
	places, err := choosePorts(nodes)
	if err != nil {
		return err
	}
	seeds := make([]int, zones)
	for i, place := range places {
		zone := i % zones
		n := &meshNode{ports: place, zone: fmt.Sprintf("zone-%d", zone+1), seed: seeds[zone] < seedsPerZone}
		if n.seed {
			seeds[zone]++
		}
		n.dir = filepath.Join(m.dir, fmt.Sprintf("node-%d", i+1))
		if err := m.startNode(n, fmt.Sprintf("node-%d", i+1), key); err != nil {
			return err
		}
		m.nodes = append(m.nodes, n)
		if i == 0 { // the others find the mesh by this one
			if err := m.writeBootstrap(ctx, n); err != nil {
				return err
			}
		}
	}
	return m.waitJoined(ctx)
}

func writeKey(path string) error {
	key, err := node.NewMeshKey()
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(key), 0o600)
}

func (m *mesh) startRegistry() error {
	p, out, err := testbed.Start("registry", filepath.Join(m.dir, "registry.log"), "demo-registry")
	if err != nil {
		return err
	}
	line, readErr := bufio.NewReader(out).ReadString('\n')
	go p.Reap()
	m.registry = &registryProcess{Process: p, address: strings.TrimSpace(line)}
	if readErr != nil {
		<-p.Ended
		return p.Failed()
	}
	return nil
}

func (m *mesh) bootstrapFile() string { return filepath.Join(m.dir, "bootstrap") }

func (m *mesh) startNode(n *meshNode, name, key string) error {
	args := []string{
		"run",
		"--mirror-addr", n.addr(n.mirror),
		"--admin-addr", n.addr(n.ports.admin),
		"--p2p-addr", fmt.Sprintf("/ip4/%s/tcp/%d", n.host, n.p2p),
		"--data-addr", n.addr(n.tcp),
		"--data-dir", n.dir,
		"--zone", n.zone,
		"--mesh-key", key,
		"--bootstrap", "file:" + m.bootstrapFile(),
		"--registry", registryName + "=http://" + m.registry.address,
		"--default-registry", registryName,
	}
	if n.seed {
		args = append(args, "--seed")
	}
	p, out, err := testbed.Start(name, filepath.Join(m.dir, name+".log"), args...)
	if err != nil {
		return err
	}
	go p.Discard(out)
	n.Process = p
	return nil
}

// writeBootstrap waits for the first node and tells the others where it is.
func (m *mesh) writeBootstrap(ctx context.Context, n *meshNode) error {
	if err := n.wait(ctx, func() bool { return n.admin().Ready(ctx) }); err != nil {
		return err
	}
	addr, err := os.ReadFile(filepath.Join(n.dir, node.PeerAddrFile))
	if err != nil {
		return err
	}
	return os.WriteFile(m.bootstrapFile(), append(addr, '\n'), 0o600)
}

// waitJoined waits until every node is ready and sees all the others.
func (m *mesh) waitJoined(ctx context.Context) error {
	for _, n := range m.nodes {
		err := n.wait(ctx, func() bool {
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
func (n *meshNode) wait(ctx context.Context, done func() bool) error {
	for !done() {
		select {
		case <-n.Ended:
			return n.Failed()
		case <-ctx.Done():
			return fmt.Errorf("%s: %w\n%s", n.Name, context.Cause(ctx), testbed.Tail(n.Log, 1000))
		case <-time.After(pollInterval):
		}
	}
	return nil
}

// admin is the node's admin port.
func (n *meshNode) admin() testbed.Node {
	return testbed.Node{HTTP: http.DefaultClient, Admin: n.addr(n.ports.admin)}
}

func (r *registryProcess) counts(ctx context.Context) (testbed.Counts, error) {
	var c testbed.Counts
	return c, testbed.GetJSON(ctx, http.DefaultClient, "http://"+r.address+testbed.CountsPath, &c)
}

// stop ends all children and waits for them.
func (m *mesh) stop() {
	var wg sync.WaitGroup
	for _, n := range m.nodes {
		wg.Go(n.Stop)
	}
	wg.Wait()
	if m.registry != nil {
		m.registry.Stop()
	}
}

// explain says how to use the mesh that --keep leaves running.
func (m *mesh) explain(w io.Writer) {
	ref := m.nodes[len(m.nodes)-1].addr(m.nodes[0].mirror) + "/" + testbed.Repository + ":" + testbed.Tag
	fmt.Fprintf(w, "\nThe mesh keeps running; Ctrl-C stops it. Pull by hand from any node:\n\n")
	for _, n := range m.nodes {
		fmt.Fprintf(w, "  %-7s mirror %s  status http://%s/v1/status\n", n.Name, n.addr(n.mirror), n.addr(n.ports.admin))
	}
	fmt.Fprintf(w, "\nTheir logs and data are in %s.\n", m.dir)
	fmt.Fprintf(w, "\n  crane pull --insecure %s image.tar\n", ref)
	fmt.Fprintf(w, "  skopeo copy --src-tls-verify=false docker://%s dir:image\n", ref)
	fmt.Fprintf(w, "  docker pull %s\n", ref)
}
