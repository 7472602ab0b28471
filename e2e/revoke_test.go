package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/wire"
)

// An operator revokes one of four nodes while all of them pull. The others deal with it no more: no connection, no answer on
// any protocol, no piece of theirs to it and none of its to them; nor after they and it were started again, nor does
// a node that joins later. Every pull ends right, its own from the registry, and the mesh goes on as before.
func TestRevokeUnderPull(t *testing.T) {
	long(t)
	m := revocableMesh(t, nodeSpec{zone: "a", seed: true}, nodeSpec{zone: "a"}, nodeSpec{zone: "b"}, nodeSpec{zone: "b"})
	bad, honest := m.nodes[3], m.nodes[:3]
	badID := bad.status(t).PeerID
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	img := m.registry.pushImage(t, "library/under-pull", 7, 24*mib, 8*mib)
	m.registry.proxy.behave(t, behaviour{Rate: 8 * mib}) // about 4 s
	pulls := []func() error{func() error {
		if err := m.waitSent(ctx, t, img.size/5); err != nil {
			return err
		}
		return m.revoke(t, honest[0], badID)
	}}
	for _, n := range m.nodes {
		pulls = append(pulls, func() error { return httpPull(ctx, n.mirror(), img) })
	}
	atOnce(t, pulls...)
	m.registry.proxy.behave(t, behaviour{})
	waitCut(t, badID, bad, honest...)
	m.checkApart(ctx, t, 20, bad, honest...)
	m.checkRefused(ctx, t, bad, honest...)

	for _, n := range m.nodes {
		n.kill()
	}
	for _, n := range m.nodes {
		n.start(t)
	}
	late := &node{mesh: m, host: m.net.host(9), zone: "b", dir: filepath.Join(m.dir, "late")}
	late.start(t)
	honest = append(slices.Clone(honest), late)
	waitCut(t, badID, bad, honest...)
	m.checkApart(ctx, t, 30, bad, honest...)
	m.checkRefused(ctx, t, bad, honest...)
}

// revocableMesh is a mesh that knows an operator, whose key is in its directory. All nodes are ways in, for a node that
// joins late the revoked one too.
func revocableMesh(t *testing.T, specs ...nodeSpec) *mesh {
	t.Helper()
	n := newNetwork(t)
	r := startRegistry(t, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir()}
	key, public := filepath.Join(m.dir, "operator.key"), filepath.Join(m.dir, "operator.pub")
	text, err := exec.Command(meshdBinary(t), "key", "operator").Output()
	must(t, err)
	must(t, os.WriteFile(key, text, 0o600))
	text, err = exec.Command(meshdBinary(t), "key", "public", key).Output()
	must(t, err)
	must(t, os.WriteFile(public, text, 0o644))
	m.extra = []string{"--operator-public", public}
	m.start(t, specs...)
	var ways []byte
	for _, n := range m.nodes {
		addr, err := os.ReadFile(filepath.Join(n.dir, "peer.addr"))
		must(t, err)
		ways = append(append(ways, addr...), '\n')
	}
	must(t, os.WriteFile(m.bootstrap(), ways, 0o600))
	return m
}

// revoke has an operator revoke a peer at one node.
func (m *mesh) revoke(t *testing.T, at *node, id string) error {
	t.Helper()
	out, err := exec.Command(meshdBinary(t), "revoke", id, "--operator-key", filepath.Join(m.dir, "operator.key"),
		"--admin-addr", at.admin(), "--data-dir", at.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("meshd revoke: %w: %s", err, out)
	}
	return nil
}

// waitCut waits until the honest nodes are connected to each other and have forgotten the bad one, which is alone.
func waitCut(t *testing.T, badID string, bad *node, honest ...*node) {
	t.Helper()
	members := func(n *node) (ids []string, connected int, err error) {
		var list []struct {
			PeerID    string `json:"peer_id"`
			Connected bool   `json:"connected"`
		}
		err = getJSON("http://"+n.admin()+"/v1/peers", &list)
		for _, p := range list {
			ids = append(ids, p.PeerID)
			if p.Connected {
				connected++
			}
		}
		return ids, connected, err
	}
	for _, n := range honest {
		n.waitFor(t, "a mesh without the revoked node", time.Minute, func() error {
			ids, connected, err := members(n)
			if err == nil && (slices.Contains(ids, badID) || connected != len(honest)-1) {
				err = fmt.Errorf("%d connected of %v", connected, ids)
			}
			return err
		})
	}
	bad.waitFor(t, "its solitude", time.Minute, func() error {
		_, connected, err := members(bad)
		if err == nil && connected > 0 {
			err = fmt.Errorf("%d connected", connected)
		}
		return err
	})
}

// checkApart pulls one image by the honest nodes and another by the bad one first: the registry sends each once to the mesh
// and once to the bad node, which takes nothing from the mesh and gives it nothing.
func (m *mesh) checkApart(ctx context.Context, t *testing.T, seed int64, bad *node, honest ...*node) {
	t.Helper()
	theirs := m.registry.pushImage(t, fmt.Sprint("library/theirs-", seed), seed, 8*mib, 3*mib)
	its := m.registry.pushImage(t, fmt.Sprint("library/its-", seed), seed+1, 8*mib, 3*mib)
	sent, before := m.registry.proxy.counts(t).BlobBytes, bad.status(t)
	honestPull := func(img *image) {
		t.Helper()
		var pulls []func() error
		for _, n := range honest {
			pulls = append(pulls, func() error { return httpPull(ctx, n.mirror(), img) })
		}
		atOnce(t, pulls...)
	}
	honestPull(theirs)
	must(t, httpPull(ctx, bad.mirror(), its))
	honestPull(its)
	must(t, httpPull(ctx, bad.mirror(), theirs))
	after := bad.status(t)
	in, out := after.BytesIn.minus(before.BytesIn), after.BytesOut.minus(before.BytesOut)
	if in.Zone+in.OtherZone > 0 || out.Zone+out.OtherZone > 0 {
		t.Errorf("the revoked node took %d bytes from members and gave them %d", in.Zone+in.OtherZone, out.Zone+out.OtherZone)
	}
	want := 2 * (theirs.size + its.size)
	if got := m.registry.proxy.counts(t).BlobBytes - sent; float64(got) > maxCopies*float64(want) {
		t.Errorf("the registry sent %d bytes, want %d: each image once to the mesh and once to the revoked node", got, want)
	}
}

// checkRefused deals with the honest nodes as the bad node would if it were made to lie: with its key and the mesh key, but
// with no gate of its own. A new key, which nobody has revoked, shows what would be had.
func (m *mesh) checkRefused(ctx context.Context, t *testing.T, bad *node, honest ...*node) {
	t.Helper()
	f, err := os.Open(filepath.Join(m.dir, "mesh.key"))
	must(t, err)
	defer f.Close()
	psk, err := pnet.DecodeV1PSK(f)
	must(t, err)
	raw, err := os.ReadFile(filepath.Join(bad.dir, "identity.key"))
	must(t, err)
	badKey, err := crypto.UnmarshalPrivateKey(raw)
	must(t, err)
	newKey, _, err := crypto.GenerateEd25519Key(rand.Reader)
	must(t, err)
	piece := wire.PiecePath(digest.FromString("nobody has this"), 0)
	for _, n := range honest {
		addr, err := os.ReadFile(filepath.Join(n.dir, "peer.addr"))
		must(t, err)
		to, err := peer.AddrInfoFromString(strings.TrimSpace(string(addr)))
		must(t, err)
		for _, p := range []protocol.ID{exchange.Protocol, "/meshd/kad/1.0.0", "/meshd/hello/3", "/meshsub/1.2.0"} {
			if err := speak(ctx, newKey, psk, *to, p); err != nil {
				t.Errorf("%s refuses a member on %s: %v", n.name, p, err)
			}
			if err := speak(ctx, badKey, psk, *to, p); err == nil {
				t.Errorf("%s speaks %s with the revoked node", n.name, p)
			}
		}
		port, err := dataTransport(badKey, to.ID)
		must(t, err)
		resp, err := (&http.Client{Transport: port}).Get("https://" + n.host + ":65004" + piece)
		var op *net.OpError // the alert, unless the reset of the connection overtakes it
		switch {
		case err == nil:
			resp.Body.Close()
			t.Errorf("the data port of %s answers the revoked node with %s", n.name, resp.Status)
		case !(errors.As(err, &op) && op.Op == "remote error" || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)):
			t.Errorf("the data port of %s does not cut the revoked node off: %v", n.name, err)
		}
		port.CloseIdleConnections()
	}
}

// speak connects and opens a stream of a protocol; it returns nil if the other side took it.
func speak(ctx context.Context, key crypto.PrivKey, psk pnet.PSK, to peer.AddrInfo, p protocol.ID) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	h, err := memberHost(key, psk)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Connect(ctx, to); err != nil {
		return err
	}
	s, err := h.NewStream(ctx, to.ID, p)
	if err != nil {
		return err
	}
	return s.Close()
}
