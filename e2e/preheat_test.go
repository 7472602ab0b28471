package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// preheatJob is /v1/preheats/ID, as far as the tests read it.
type preheatJob struct {
	ID     uint64 `json:"id"`
	State  string `json:"state"`
	Reason string `json:"reason"`
	Bytes  int64  `json:"bytes"`
	Total  int64  `json:"total"`
	Nodes  []struct {
		State string `json:"state"`
	} `json:"nodes"`
}

// command runs meshd with the node's admin address and its own token, and returns what it prints.
func (n *node) command(t testing.TB, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(meshdBinary(t), append(args, "--admin-addr", n.admin(), "--data-dir", n.dir)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("meshd %s: %w\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
	return string(out), err
}

// preheat runs `meshd preheat --wait` and returns the job.
func (n *node) preheat(t testing.TB, args ...string) preheatJob {
	t.Helper()
	out, err := n.command(t, append([]string{"preheat", "--wait", "--json"}, args...)...)
	must(t, err)
	var j preheatJob
	must(t, json.Unmarshal([]byte(out), &j))
	return j
}

// A preheat of every node in two zones: the registry sends the image once, each zone imports it once, and pulls are then
// served from the disk. The second time there is nothing to do.
func TestPreheat(t *testing.T) {
	long(t)
	m := newMesh(t, twoZones...)
	img := m.registry.pushImage(t, "library/big", 31, 24*mib, 16*mib, 8*mib, 1*mib)
	j := m.nodes[1].preheat(t, "big", "--scope", "all")
	if j.State != "succeeded" || len(j.Nodes) != 4 || j.Bytes != 4*img.size || j.Total != j.Bytes {
		t.Fatalf("%+v, image of %d bytes", j, img.size)
	}
	m.checkCopies(t, img.size, 1.0)
	m.checkZones(t, img.size)
	sent, in := m.registry.proxy.counts(t).BlobBytes, m.bytesIn(t)
	start := time.Now()
	j = m.nodes[2].preheat(t, "big", "--scope", "all")
	t.Logf("the second preheat took %v", time.Since(start).Round(time.Millisecond))
	if j.State != "succeeded" {
		t.Errorf("again: %+v", j)
	}
	for _, n := range m.nodes {
		must(t, cranePull(t, n.mirror(), img))
	}
	if more := m.registry.proxy.counts(t).BlobBytes - sent; more != 0 {
		t.Errorf("%d bytes of blobs from the registry after the preheat", more)
	}
	if more := m.bytesIn(t).minus(in).network(); more != 0 {
		t.Errorf("%d bytes over the network after the preheat", more)
	}
	// Any node shows the job, and each says that it holds the image.
	for _, n := range m.nodes {
		out, err := n.command(t, "preheat", "get", fmt.Sprint(j.ID))
		must(t, err)
		if !strings.Contains(out, "succeeded") || !strings.Contains(out, "zone west: 2 of 2") {
			t.Errorf("%s shows %s", n.name, out)
		}
		out, err = n.command(t, "cache", "ls")
		must(t, err)
		if !strings.Contains(out, "docker.io/library/big:latest") {
			t.Errorf("%s holds %s", n.name, out)
		}
	}
}

// checkZones checks that what crossed into each zone, from the registry or another zone, is one copy; a zone with the seed that
// reads the registry has no less.
func (m *mesh) checkZones(t testing.TB, size int64) {
	t.Helper()
	for zone, n := range m.intoZones(t) {
		copies := float64(n) / float64(size)
		t.Logf("copies into %s: %.4f", zone, copies)
		if copies < 1 || copies > maxCopies {
			t.Errorf("%.4f copies crossed into %s, want 1", copies, zone)
		}
	}
}

// Of an index the platforms asked for are taken and no others, and bad input leaves nothing behind.
func TestPreheatIndexAndRefusals(t *testing.T) {
	m := newMesh(t, nodeSpec{"east", true}, nodeSpec{"west", true})
	var index v1.ImageIndex = empty.Index
	sizes := map[string]int64{}
	for i, arch := range []string{"amd64", "arm64", "s390x"} {
		img, info := newImage(t, "library/multi", int64(40+i), 2*mib)
		sizes[arch] = info.size
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	ref, err := name.NewTag(m.registry.addr+"/library/multi:1", name.Insecure)
	must(t, err)
	must(t, remote.WriteIndex(ref, index))
	j := m.nodes[0].preheat(t, "multi:1", "--platform", "linux/arm64,linux/s390x", "--scope", "seeds")
	if want := 2 * (sizes["arm64"] + sizes["s390x"]); j.State != "succeeded" || j.Total != want {
		t.Errorf("%+v, want %d bytes", j, want)
	}
	m.checkCopies(t, sizes["arm64"]+sizes["s390x"], 1.0)
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"multi:1", "--platform", "linux/riscv64"}, "linux/riscv64 is not in the index, which has linux/amd64, linux/arm64, linux/s390x"},
		{[]string{"multi:2"}, "no such image"},
		{[]string{"nosuch:1"}, "no such image"},
		{[]string{"other.example/x:1"}, "registry not allowed"},
		{[]string{"multi:1", "--scope", "zone=north"}, `no node of zone "north"`},
		{[]string{"multi:1", "--scope", "moon"}, "want seed, seeds, zone=NAME"},
		{[]string{"MULTI"}, "want [HOST/]NAME"},
	} {
		out, err := m.nodes[0].command(t, append([]string{"preheat", "--wait"}, row.args...)...)
		if err == nil || !strings.Contains(out+err.Error(), row.want) {
			t.Errorf("%v: %s%v, want %q", row.args, out, err, row.want)
		}
	}
	for _, id := range []string{"1", "0", "x", "99999999999999999999"} {
		if _, err := m.nodes[0].command(t, "preheat", "get", id); err == nil || !strings.Contains(err.Error(), "no such job") {
			t.Errorf("get %s: %v", id, err)
		}
	}
	for _, n := range m.nodes {
		if pulls := n.status(t).Pulls.n; pulls != 0 {
			t.Errorf("%s still brings in %d blobs", n.name, pulls)
		}
	}
}
