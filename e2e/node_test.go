package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// registryHost is what nodes call the registry; a request that names none means it, as dockerd's do.
const registryHost = "docker.io"

// bySource is bytes_in and bytes_out of /v1/status.
type bySource struct {
	Disk      int64 `json:"disk"`
	Zone      int64 `json:"zone"`
	OtherZone int64 `json:"other_zone"`
	Origin    int64 `json:"origin"`
}

func (b bySource) network() int64 { return b.Zone + b.OtherZone + b.Origin }

func (b bySource) minus(c bySource) bySource {
	return bySource{b.Disk - c.Disk, b.Zone - c.Zone, b.OtherZone - c.OtherZone, b.Origin - c.Origin}
}

func (b bySource) plus(c bySource) bySource {
	return bySource{b.Disk + c.Disk, b.Zone + c.Zone, b.OtherZone + c.OtherZone, b.Origin + c.Origin}
}

// nodeStatus is /v1/status, as far as the tests read it.
type nodeStatus struct {
	PeerID         string   `json:"peer_id"`
	Zone           string   `json:"zone"`
	Seed           bool     `json:"seed"`
	Peers          length   `json:"peers"`
	Pulls          length   `json:"pulls"`
	Quarantined    length   `json:"quarantined"`
	BytesIn        bySource `json:"bytes_in"`
	BytesOut       bySource `json:"bytes_out"`
	OriginRequests int64    `json:"origin_requests"`
	DuplicateBytes int64    `json:"duplicate_bytes"`
	StreamedBytes  int64    `json:"streamed_bytes"`
	NotKept        *struct {
		Why string `json:"why"`
	} `json:"not_kept"`
}

// node is one meshd process.
type node struct {
	*process
	mesh *mesh
	host string
	dir  string
	zone string
	seed bool

	binary string // "": meshd
}

func (n *node) mirror() string { return n.host + ":65001" }
func (n *node) admin() string  { return n.host + ":65002" }

// mesh is some nodes with one mesh key and one registry.
type mesh struct {
	net      network
	registry *registry // nil: registryURL is used
	guarded  *registry // what registry holds, for those who have tokens; nil if there is none
	origin   string    // the registry's URL for the nodes
	dir      string
	nodes    []*node
	extra    []string // flags for every node
	each     func(n *node) []string
	alone    bool // no key and no bootstrap: a node without a mesh
}

// nodeSpec is what differs between nodes.
type nodeSpec struct {
	zone string
	seed bool
}

// newMesh starts a registry and one node per spec, and waits until every node knows all others.
func newMesh(t testing.TB, specs ...nodeSpec) *mesh {
	t.Helper()
	n := newNetwork(t)
	r := startRegistry(t, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir()}
	m.start(t, specs...)
	return m
}

func (m *mesh) start(t testing.TB, specs ...nodeSpec) {
	t.Helper()
	key, err := exec.Command(meshdBinary(t), "key", "new").Output()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(m.dir, "mesh.key"), key, 0o600))
	for i, s := range specs {
		n := &node{mesh: m, host: m.net.host(i + 1), zone: s.zone, seed: s.seed, dir: filepath.Join(m.dir, fmt.Sprint("node-", i+1))}
		n.start(t)
		m.nodes = append(m.nodes, n)
		if i == 0 {
			addr, err := os.ReadFile(filepath.Join(n.dir, "peer.addr"))
			must(t, err)
			must(t, os.WriteFile(m.bootstrap(), append(addr, '\n'), 0o600))
		}
	}
	m.waitJoined(t)
}

func (m *mesh) bootstrap() string { return filepath.Join(m.dir, "bootstrap") }

// waitJoined waits until every node knows all others.
func (m *mesh) waitJoined(t testing.TB) {
	t.Helper()
	for _, n := range m.nodes {
		n.waitFor(t, fmt.Sprintf("%d peers", len(m.nodes)-1), 60*time.Second, func() error {
			s, err := n.tryStatus()
			if err == nil && s.Peers.n < len(m.nodes)-1 {
				err = fmt.Errorf("it has %d", s.Peers.n)
			}
			return err
		})
	}
}

// start starts the node, for the first time or again, and waits until it is ready.
func (n *node) start(t testing.TB) {
	t.Helper()
	args := []string{
		"run", "--data-dir", n.dir, "--zone", n.zone,
		"--mirror-addr", n.mirror(), "--admin-addr", n.admin(),
		"--p2p-addr", "/ip4/" + n.host + "/tcp/65003", "--data-addr", n.host + ":65004",
		"--registry", registryHost + "=" + n.mesh.origin,
	}
	if !n.mesh.alone {
		args = append(args, "--mesh-key", filepath.Join(n.mesh.dir, "mesh.key"), "--bootstrap", "file:"+n.mesh.bootstrap())
	}
	if n.seed {
		args = append(args, "--seed")
	}
	args = append(args, n.mesh.extra...)
	if n.mesh.each != nil {
		args = append(args, n.mesh.each(n)...)
	}
	n.process = startProcess(t, filepath.Base(n.dir), exec.Command(cmp.Or(n.binary, meshdBinary(t)), args...))
	n.waitFor(t, "readiness", time.Minute, n.ready)
}

// ready returns nil when the node says that it is ready.
func (n *node) ready() error {
	resp, err := httpClient.Get("http://" + n.admin() + "/readyz")
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

func (n *node) tryStatus() (nodeStatus, error) {
	var s nodeStatus
	return s, getJSON("http://"+n.admin()+"/v1/status", &s)
}

func (n *node) status(t testing.TB) nodeStatus {
	t.Helper()
	s, err := n.tryStatus()
	must(t, err)
	return s
}

// bytesIn adds up what the nodes that run took in.
func (m *mesh) bytesIn(t testing.TB) bySource {
	t.Helper()
	var sum bySource
	for _, n := range m.nodes {
		if n.running() {
			sum = sum.plus(n.status(t).BytesIn)
		}
	}
	return sum
}

// metric reads one plain value of /metrics.
func (n *node) metric(t testing.TB, name string) float64 {
	t.Helper()
	resp, err := httpClient.Get("http://" + n.admin() + "/metrics")
	must(t, err)
	defer resp.Body.Close()
	body := readAll(t, resp.Body)
	for line := range strings.Lines(body) {
		var v float64
		if _, err := fmt.Sscanf(line, name+" %g", &v); err == nil {
			return v
		}
	}
	t.Fatalf("/metrics of %s has no %s", n.name, name)
	return 0
}

// descriptors counts the open files of the process.
func (n *node) descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid))
	must(t, err)
	return len(entries)
}

// files lists what is in the node's store, with sizes.
func (n *node) files(t testing.TB) map[string]int64 {
	t.Helper()
	files := map[string]int64{}
	must(t, filepath.WalkDir(filepath.Join(n.dir, "blobs"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		files[path] = info.Size()
		return err
	}))
	return files
}

// atOnce runs the functions at the same time and reports every error.
func atOnce(t testing.TB, fs ...func() error) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(fs))
	for i, f := range fs {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}
