package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/meshd-project/meshd/node"
)

const (
	registryName = "registry.demo"        // what the nodes call the demo's registry
	pollInterval = 100 * time.Millisecond // between two looks at a node that is coming up
	maxAnswer    = 8 << 20                // bytes read of a status
)

// mesh is the registry and the nodes, all children of this process. It is used by one goroutine.
type mesh struct {
	dir      string
	registry *registryProcess
	nodes    []*meshNode
}

type registryProcess struct {
	*process
	address string // host:port
}

type meshNode struct {
	*process
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
	p, out, err := startProcess("registry", filepath.Join(m.dir, "registry.log"), "demo-registry")
	if err != nil {
		return err
	}
	line, readErr := bufio.NewReader(out).ReadString('\n')
	go p.reap()
	m.registry = &registryProcess{process: p, address: strings.TrimSpace(line)}
	if readErr != nil {
		<-p.ended
		return p.failed()
	}
	return nil
}

func (m *mesh) bootstrapFile() string { return filepath.Join(m.dir, "bootstrap") }

func (m *mesh) startNode(n *meshNode, name, key string) error {
	args := []string{
		"run",
		"--mirror-addr", n.addr(n.mirror),
		"--admin-addr", n.addr(n.admin),
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
	p, out, err := startProcess(name, filepath.Join(m.dir, name+".log"), args...)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, out)
		p.reap()
	}()
	n.process = p
	return nil
}

// writeBootstrap waits for the first node and tells the others where it is.
func (m *mesh) writeBootstrap(ctx context.Context, n *meshNode) error {
	if err := n.wait(ctx, func() bool { return n.ready(ctx) }); err != nil {
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
			s, err := n.status(ctx)
			return err == nil && s.Peers.n >= len(m.nodes)-1 && n.ready(ctx)
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
		case <-n.ended:
			return n.failed()
		case <-ctx.Done():
			return fmt.Errorf("%s: %w\n%s", n.name, context.Cause(ctx), tail(n.log, 1000))
		case <-time.After(pollInterval):
		}
	}
	return nil
}

func (n *meshNode) ready(ctx context.Context) bool {
	resp, err := get(ctx, "http://"+n.addr(n.admin)+"/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// status is what the demo reads of a node's /v1/status.
type status struct {
	Peers   count  `json:"peers"`
	BytesIn source `json:"bytes_in"`
}

// source is bytes by where they came from.
type source struct {
	Disk      int64 `json:"disk"`
	Zone      int64 `json:"zone"`
	OtherZone int64 `json:"other_zone"`
	Origin    int64 `json:"origin"`
}

func (a source) minus(b source) source {
	return source{a.Disk - b.Disk, a.Zone - b.Zone, a.OtherZone - b.OtherZone, a.Origin - b.Origin}
}

func (n *meshNode) status(ctx context.Context) (status, error) {
	var s status
	return s, getJSON(ctx, "http://"+n.addr(n.admin)+"/v1/status", &s)
}

func (r *registryProcess) counts(ctx context.Context) (Counts, error) {
	var c Counts
	return c, getJSON(ctx, "http://"+r.address+countsPath, &c)
}

func get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(req)
}

func getJSON(ctx context.Context, url string, into any) error {
	resp, err := get(ctx, url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}

// stop ends all children and waits for them.
func (m *mesh) stop() {
	var wg sync.WaitGroup
	for _, n := range m.nodes {
		wg.Go(n.stop)
	}
	wg.Wait()
	if m.registry != nil {
		m.registry.stop()
	}
}

// explain says how to use the mesh that --keep leaves running.
func (m *mesh) explain(w io.Writer) {
	ref := m.nodes[len(m.nodes)-1].addr(m.nodes[0].mirror) + "/" + imageRepository + ":" + imageTag
	fmt.Fprintf(w, "\nThe mesh keeps running; Ctrl-C stops it. Pull by hand from any node:\n\n")
	for _, n := range m.nodes {
		fmt.Fprintf(w, "  %-7s mirror %s  status http://%s/v1/status\n", n.name, n.addr(n.mirror), n.addr(n.admin))
	}
	fmt.Fprintf(w, "\nTheir logs and data are in %s.\n", m.dir)
	fmt.Fprintf(w, "\n  crane pull --insecure %s image.tar\n", ref)
	fmt.Fprintf(w, "  skopeo copy --src-tls-verify=false docker://%s dir:image\n", ref)
	fmt.Fprintf(w, "  docker pull %s\n", ref)
}

// count is a number that a status gives as a number or as a list.
type count struct{ n int }

// UnmarshalJSON implements json.Unmarshaler.
func (c *count) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &c.n) == nil {
		return nil
	}
	var list []json.RawMessage
	err := json.Unmarshal(data, &list)
	c.n = len(list)
	return err
}
