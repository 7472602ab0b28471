package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// keysOf are the mesh keys of a node by id, with the connections under each.
func (n *node) keysOf() (ids []string, conns map[string]int, err error) {
	var s struct {
		MeshKeys []struct {
			ID          string `json:"id"`
			Connections int    `json:"connections"`
		} `json:"mesh_keys"`
		Peers length `json:"peers"`
	}
	err = getJSON("http://"+n.admin()+"/v1/status", &s)
	conns = map[string]int{}
	for _, k := range s.MeshKeys {
		ids = append(ids, k.ID)
		conns[k.ID] = k.Connections
	}
	if err == nil && s.Peers.n < len(n.mesh.nodes)-1 {
		err = fmt.Errorf("%d peers", s.Peers.n)
	}
	return ids, conns, err
}

// The mesh key of four nodes is rotated, both steps, while they pull: every pull ends right, the registry is asked for nothing
// twice, and who has only the old key is out.
func TestKeyRotationUnderPull(t *testing.T) {
	long(t)
	m := newMesh(t, nodeSpec{zone: "a", seed: true}, nodeSpec{zone: "a"}, nodeSpec{zone: "b"}, nodeSpec{zone: "b"})
	key := filepath.Join(m.dir, "mesh.key")
	old, err := os.ReadFile(key)
	must(t, err)
	img := m.registry.pushImage(t, "library/rotated", 7, 40*mib, 20*mib)
	m.registry.proxy.behave(t, behaviour{Rate: mib}) // a minute, unless the rotation is over before
	meshd := func(args ...string) string {
		out, err := exec.Command(meshdBinary(t), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("meshd %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	pulls := make([]func() error, 0, len(m.nodes)+1)
	for _, n := range m.nodes {
		pulls = append(pulls, func() error { return httpPull(ctx, n.mirror(), img) })
	}
	pulls = append(pulls, func() error {
		if err := m.waitSent(ctx, t, img.size/40); err != nil {
			return err
		}
		start := time.Now()
		meshd("key", "rotate", key)
		for _, n := range m.nodes {
			n.waitFor(t, "the new key on all connections", time.Minute, func() error {
				ids, conns, err := n.keysOf()
				if err == nil && (len(ids) != 2 || conns[ids[1]] > 0 || conns[ids[0]] < len(m.nodes)-1) {
					err = fmt.Errorf("%v of %v", conns, ids)
				}
				return err
			})
		}
		meshd("key", "retire", key)
		for _, n := range m.nodes {
			n.waitFor(t, "the end of the old key", time.Minute, func() error {
				ids, _, err := n.keysOf()
				if err == nil && len(ids) != 1 {
					err = fmt.Errorf("%v", ids)
				}
				return err
			})
		}
		sent := m.registry.proxy.counts(t).BlobBytes
		t.Logf("rotated after %v; the registry has sent %d of %d bytes", time.Since(start).Round(time.Millisecond), sent, img.size)
		if sent >= img.size {
			return fmt.Errorf("the pull was over before the rotation was: the registry has sent %d bytes", sent)
		}
		m.registry.proxy.behave(t, behaviour{})
		return nil
	})
	atOnce(t, pulls...)
	m.checkCopies(t, img.size, maxCopies) // nobody was away, so nobody took over what another reads from the registry

	late := &node{mesh: &mesh{net: m.net, registry: m.registry, origin: m.origin, dir: t.TempDir()}, host: m.net.host(9), zone: "a"}
	late.dir = filepath.Join(late.mesh.dir, "late")
	must(t, os.WriteFile(filepath.Join(late.mesh.dir, "mesh.key"), old, 0o600))
	members, err := os.ReadFile(m.bootstrap())
	must(t, err)
	must(t, os.WriteFile(late.mesh.bootstrap(), members, 0o600))
	late.start(t)
	late.waitFor(t, "its failure to join", time.Minute, func() error {
		if !strings.Contains(late.output(), "another mesh key") {
			return errors.New("nothing of that in its log")
		}
		return nil
	})
	if s := late.status(t); s.Peers.n != 0 {
		t.Errorf("with the old key: %d peers", s.Peers.n)
	}
	if err := httpPull(ctx, late.mirror(), img); err != nil {
		t.Errorf("with the old key, from the registry: %v", err)
	}
	if in := late.status(t).BytesIn; in.Zone+in.OtherZone > 0 {
		t.Errorf("with the old key: %d bytes from members", in.Zone+in.OtherZone)
	}
}
