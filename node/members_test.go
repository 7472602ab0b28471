package node

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"

	"github.com/meshd-project/meshd/node/admin/client"
	"github.com/meshd-project/meshd/node/trust"
)

// newOperator makes an operator key and the file with its public half.
func newOperator(t *testing.T) (ed25519.PrivateKey, string) {
	t.Helper()
	text, err := trust.NewOperatorKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := trust.ParseOperatorKey([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	public, err := trust.PublicText(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "operator.pub")
	if err := os.WriteFile(path, []byte(public), 0o644); err != nil {
		t.Fatal(err)
	}
	return key, path
}

// askData asks the data port of a node for a piece in the name of a key, and returns the status; cutOff if the port takes no
// connection of it. The alert that says so reaches the client unless the reset of the connection overtakes it.
func askData(t *testing.T, key crypto.PrivKey, to *testNode) int {
	t.Helper()
	identity, err := libp2ptls.NewIdentity(key)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conf, _ := identity.ConfigForPeer(to.host.ID())
			conf.NextProtos = []string{"http/1.1"}
			d := tls.Dialer{Config: conf}
			return d.DialContext(ctx, "tcp", to.dataListener.Addr().String())
		},
	}}
	resp, err := c.Get("https://node/meshd/1/sha256:" + strings.Repeat("ab", 32) + "/0")
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "remote error", errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF):
		return cutOff
	case err != nil:
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

const cutOff = 0

func connected(a, b *testNode) bool {
	return a.host.Network().Connectedness(b.host.ID()) == network.Connected
}

// threeNodes are a mesh in which everybody is connected to everybody.
func threeNodes(t *testing.T, change func(i int, c *Config)) [3]*testNode {
	t.Helper()
	key := newKey(t)
	var nodes [3]*testNode
	for i := range nodes {
		c := testConfig(t, key)
		if i > 0 {
			c.P2P.Bootstrap = []string{nodes[0].peerAddr(t)}
		}
		change(i, &c)
		nodes[i] = launch(t, c, nil)
	}
	return nodes
}

// A revoked peer has no connection, hence no DHT and no gossip, and no data; what gossip says of it does not count. A list
// that is taken back lets it in again, one that is played again does not, and a restart forgets nothing.
func TestRevoke(t *testing.T) {
	operator, public := newOperator(t)
	nodes := threeNodes(t, func(_ int, c *Config) { c.P2P.OperatorPublic = public })
	a, b, bad := nodes[0], nodes[1], nodes[2]
	eventually(t, "the mesh", func() bool { return connected(a, b) && connected(a, bad) && connected(b, bad) })
	if got := askData(t, bad.key, a); got != http.StatusNotFound {
		t.Fatalf("a member asks for a piece that is not there: %d", got)
	}
	api, err := client.New(client.Config{Addr: a.adminListener.Addr().String(), OwnToken: a.path(AdminTokenFile)})
	if err != nil {
		t.Fatal(err)
	}
	put := func(serial uint64, peers ...peer.ID) error {
		raw, err := trust.List{Serial: serial, Peers: peers}.Sign(operator)
		if err != nil {
			t.Fatal(err)
		}
		return api.Do(t.Context(), http.MethodPut, "/v1/revoked", RevokedList{List: string(raw)}, nil)
	}
	if err := put(1, bad.host.ID()); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*testNode{a, b} {
		eventually(t, "the cut", func() bool { return !connected(n, bad) && !n.gate.Admits(bad.host.ID()) })
		eventually(t, "oblivion", func() bool {
			for _, m := range n.topology.Members() {
				if m.ID == bad.host.ID() {
					return false
				}
			}
			return true
		})
		if got := askData(t, bad.key, n); got != cutOff {
			t.Errorf("a revoked peer asks for data: %d", got)
		}
		err := bad.host.Connect(t.Context(), peer.AddrInfo{ID: n.host.ID(), Addrs: n.host.Addrs()})
		if err == nil && connected(n, bad) {
			t.Error("a revoked peer connects")
		}
	}
	if err := put(1); err == nil || !strings.Contains(err.Error(), "not newer") {
		t.Errorf("a list of the same serial: %v", err)
	}
	c := b.cfg
	b.stop()
	b = launch(t, c, nil)
	if b.gate.Admits(bad.host.ID()) {
		t.Error("a restart forgets")
	}
	if err := put(2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its return", func() bool { return connected(a, bad) })
}

// Who is not on the allow list is no member; the list is read again when it changes, and a broken one changes nothing.
func TestAllowPeers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "allow")
	write := func(text string) { // at once: the node may look at any time, and a file that is empty yet admits nobody
		if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	write("# nobody\n")
	nodes := threeNodes(t, func(i int, c *Config) {
		if i == 0 {
			c.P2P.AllowPeers = path
		}
	})
	a, b, c := nodes[0], nodes[1], nodes[2]
	eventually(t, "a mesh of the others", func() bool { return b.bootstrap != nil && !connected(a, b) })
	if got := askData(t, b.key, a); got != cutOff {
		t.Errorf("data for who is not on the list: %d", got)
	}
	write(fmt.Sprintln(b.host.ID()))
	eventually(t, "who is on the list", func() bool { return connected(a, b) })
	write("hello\n")
	if err := c.host.Connect(t.Context(), peer.AddrInfo{ID: a.host.ID(), Addrs: a.host.Addrs()}); err == nil && connected(a, c) {
		t.Error("who is not on the list connects")
	}
	if !connected(a, b) {
		t.Error("a broken list cuts")
	}
	write("")
	eventually(t, "the cut of who is off the list", func() bool { return !connected(a, b) })
}

func TestPublicFilesOthersCanChange(t *testing.T) {
	dir := openDir(t)
	_, public := newOperator(t)
	for _, row := range []struct {
		flag string
		set  func(c *Config, path string)
	}{
		{"--operator-public", func(c *Config, path string) { c.P2P.OperatorPublic = path }},
		{"--allow-peers", func(c *Config, path string) { c.P2P.AllowPeers = path }},
	} {
		path := copyFile(t, public, filepath.Join(dir, row.flag))
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
		c := testConfig(t, "")
		row.set(&c, path)
		if n, err := start(c); err == nil {
			n.close() //nolint:errcheck // it has failed already
			t.Errorf("%s: it starts", row.flag)
		} else if !strings.Contains(err.Error(), row.flag) || !strings.Contains(err.Error(), "chmod 644") {
			t.Errorf("%v", err)
		}
	}
}
