package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/multiformats/go-multiaddr"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"),
	)
}

// testNode is a node in this process, on loopback and ports of the system's choice.
type testNode struct {
	*node
	cfg  Config
	stop func() // and wait; the test fails if the node does
}

// testConfig is a node of the mesh whose key file is key ("" = none), quick to find others.
func testConfig(t *testing.T, key string) Config {
	c := Default()
	c.DataDir = t.TempDir()
	c.Mirror.Addr, c.Admin.Addr, c.Exchange.DataAddr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.P2P.Addrs, c.P2P.MeshKey = []string{"/ip4/127.0.0.1/tcp/0"}, key
	c.P2P.BootstrapInterval = 1500 * time.Millisecond
	c.Gossip.PresenceInterval = time.Second
	c.DrainTimeout = 5 * time.Second
	c.Store.MinFree = -1
	return c
}

func newKey(t *testing.T) string {
	t.Helper()
	text, err := NewMeshKey()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "mesh.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// launch starts a node and waits until it is ready. before, if not nil, sees it before it runs.
func launch(t *testing.T, c Config, before func(*node)) *testNode {
	t.Helper()
	n, err := start(c)
	if err != nil {
		t.Fatal(err)
	}
	if before != nil {
		before(n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.run(ctx) }()
	tn := &testNode{node: n, cfg: c}
	tn.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the node ended with %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("the node does not end")
		}
		http.DefaultClient.CloseIdleConnections()
	})
	t.Cleanup(tn.stop)
	eventually(t, "readiness", func() bool { return n.ready() == nil })
	return tn
}

// eventually polls until done is true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !done() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (n *testNode) peerAddr(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(n.cfg.DataDir, PeerAddrFile))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// zones returns how many connected members of each zone n knows.
func (n *testNode) zones() string {
	count := make(map[string]int)
	for _, m := range n.topology.Members() {
		if m.Connected {
			count[m.Zone]++
		}
	}
	return fmt.Sprint(count)
}

func (n *testNode) adminURL(path string) string {
	return "http://" + n.adminListener.Addr().String() + path
}

func (n *testNode) mirrorURL(path string) string {
	return "http://" + n.mirrorListener.Addr().String() + path
}

func get(t *testing.T, url string) (int, []byte) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	return resp.StatusCode, body
}

// fakeDNS answers every name with loopback.
type fakeDNS struct{ asked atomic.Int32 }

func (f *fakeDNS) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	f.asked.Add(1)
	if host != "meshd.test" {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::ffff:127.0.0.1")}, nil
}

func TestBootstrapKinds(t *testing.T) {
	key := newKey(t)
	first := launch(t, testConfig(t, key), nil)
	withID := first.peerAddr(t)
	bare, _, _ := strings.Cut(withID, "/p2p/")
	port := bare[strings.LastIndex(bare, "/")+1:]
	file := filepath.Join(t.TempDir(), "peers")
	if err := os.WriteFile(file, []byte("# members\n\n"+bare+"\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, spec string }{
		{"multiaddr with id", withID},
		{"multiaddr without id", bare},
		{"dns", "dns:meshd.test:" + port},
		{"multiaddr with a name", "/dns4/meshd.test/tcp/" + port},
		{"file", "file:" + file},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := testConfig(t, key)
			c.Zone = "other"
			c.P2P.Bootstrap = []string{row.spec}
			n := launch(t, c, func(n *node) { n.bootstrap.dns = &fakeDNS{} })
			eventually(t, "the first node", func() bool { return n.zones() == "map[default:1]" })
			eventually(t, "the first node to know the new one", func() bool { return strings.Contains(first.zones(), "other:") })
			n.stop()
			eventually(t, "the first node to miss the new one", func() bool { return first.zones() == "map[]" })
		})
	}
}

func TestBootstrapFileIsReadAgain(t *testing.T) {
	key, file := newKey(t), filepath.Join(t.TempDir(), "peers")
	c := testConfig(t, key)
	c.P2P.Bootstrap = []string{"file:" + file} // not there yet
	early := launch(t, c, nil)
	late := launch(t, testConfig(t, key), nil)
	if err := os.WriteFile(file, []byte(late.peerAddr(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the early node to find the late one", func() bool { return early.topology.Connected() == 1 })
}

func TestMDNS(t *testing.T) {
	if !multicastWorks() { // no matter of what is installed
		t.Skip("no interface of this machine does multicast")
	}
	key := newKey(t)
	c, d := testConfig(t, key), testConfig(t, key)
	c.P2P.Bootstrap, d.P2P.Bootstrap = []string{"mdns"}, []string{"mdns"}
	a, b := launch(t, c, nil), launch(t, d, nil)
	eventually(t, "each other", func() bool { return a.topology.Connected() == 1 && b.topology.Connected() == 1 })
}

// multicastWorks reports whether this machine has an interface that mDNS can use.
func multicastWorks() bool {
	ifaces, err := net.Interfaces()
	if err != nil {
		return false
	}
	for _, i := range ifaces {
		if i.Flags&(net.FlagUp|net.FlagMulticast) == net.FlagUp|net.FlagMulticast {
			return true
		}
	}
	return false
}

// TestMeshOfZones has newcomers that know one member find all, with their zones, and the DHT fill.
func TestMeshOfZones(t *testing.T) {
	key := newKey(t)
	c := testConfig(t, key)
	c.Zone, c.Seed = "east", true
	nodes := []*testNode{launch(t, c, nil)}
	for i, zone := range []string{"east", "east", "west", "west", "west"} {
		c := testConfig(t, key)
		c.Zone, c.Seed = zone, i == 2
		c.P2P.Bootstrap = []string{nodes[i].peerAddr(t)} // a chain
		nodes = append(nodes, launch(t, c, nil))
	}
	for i, n := range nodes {
		want := "map[east:2 west:3]"
		if i > 2 {
			want = "map[east:3 west:2]"
		}
		eventually(t, fmt.Sprintf("node %d to see %s", i, want), func() bool { return n.zones() == want })
		eventually(t, fmt.Sprintf("node %d to have a routing table", i), func() bool { return n.dht.Peers() == 5 })
		seeds := 0
		for _, m := range n.topology.Members() {
			if m.Seed {
				seeds++
			}
		}
		if want := 2 - min(1, map[int]int{0: 1, 3: 1}[i]); seeds != want {
			t.Errorf("node %d knows %d seeds, want %d", i, seeds, want)
		}
		eventually(t, "all RTTs", func() bool {
			for _, m := range n.topology.Members() {
				if m.RTT <= 0 || m.DataAddr == "" {
					return false
				}
			}
			return true
		})
	}
	var st Status
	code, body := get(t, nodes[4].adminURL("/v1/status"))
	if err := json.Unmarshal(body, &st); code != 200 || err != nil || st.Peers != 5 || st.Zone != "west" || st.Seed {
		t.Errorf("status %d: %s", code, body)
	}
}

func TestRejoinAfterRestart(t *testing.T) {
	key := newKey(t)
	a := launch(t, testConfig(t, key), nil)
	c := testConfig(t, key)
	c.Zone = "west"
	c.P2P.Bootstrap = []string{a.peerAddr(t)}
	b := launch(t, c, nil)
	eventually(t, "each other", func() bool { return a.topology.Connected() == 1 && b.topology.Connected() == 1 })
	id := b.host.ID()
	b.stop()
	eventually(t, "the other to miss it", func() bool { return a.topology.Connected() == 0 })
	c.P2P.Bootstrap = nil // only what it wrote down
	b = launch(t, c, nil)
	if b.host.ID() != id {
		t.Errorf("the identity changed from %s to %s", id, b.host.ID())
	}
	eventually(t, "each other again", func() bool { return a.zones() == "map[west:1]" && b.zones() == "map[default:1]" })
}

func TestAnotherMeshKeyIsKeptOut(t *testing.T) {
	inside := launch(t, testConfig(t, newKey(t)), nil)
	c := testConfig(t, newKey(t))
	bare, _, _ := strings.Cut(inside.peerAddr(t), "/p2p/")
	c.P2P.Bootstrap = []string{inside.peerAddr(t), bare}
	outside := launch(t, c, nil)
	for _, spec := range outside.bootstrap.specs {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := outside.bootstrap.try(ctx, target{addr: spec.addr, id: spec.id}); err == nil {
			t.Errorf("reached %s with another key", spec.addr)
		}
		cancel()
	}
	for _, n := range []*testNode{inside, outside} {
		if got := len(n.topology.Members()); got != 0 {
			t.Errorf("%d members", got)
		}
	}
}

func TestWithoutMeshKey(t *testing.T) {
	c := testConfig(t, "")
	c.P2P.Addrs, c.Exchange.DataAddr = []string{"/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"}, "0.0.0.0:0"
	if !hasIPv6() {
		c.P2P.Addrs = c.P2P.Addrs[:1]
	}
	a := launch(t, c, nil)
	for _, l := range a.host.Network().ListenAddresses() {
		if ip, err := l.ValueForProtocol(multiaddr.P_IP4); err == nil && ip != "127.0.0.1" {
			t.Errorf("listens on %s", l)
		}
		if ip, err := l.ValueForProtocol(multiaddr.P_IP6); err == nil && ip != "::1" {
			t.Errorf("listens on %s", l)
		}
	}
	if host, _, _ := net.SplitHostPort(a.dataListener.Addr().String()); host != "127.0.0.1" {
		t.Errorf("the data port listens on %s", host)
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, MeshKeyFile)); err != nil {
		t.Error(err)
	}
	d := testConfig(t, "")
	d.P2P.Bootstrap = []string{a.peerAddr(t)}
	b := launch(t, d, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := b.bootstrap.try(ctx, target{addr: b.bootstrap.specs[0].addr, id: b.bootstrap.specs[0].id}); err == nil {
		t.Error("two nodes without a key found together")
	}
}

func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func TestAddressTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	_, port, _ := net.SplitHostPort(taken)
	for flag, edit := range map[string]func(*Config){
		"--mirror-addr": func(c *Config) { c.Mirror.Addr = taken },
		"--admin-addr":  func(c *Config) { c.Admin.Addr = taken },
		"--data-addr":   func(c *Config) { c.Exchange.DataAddr = taken },
		"--p2p-addr":    func(c *Config) { c.P2P.Addrs = []string{"/ip4/127.0.0.1/tcp/" + port} },
	} {
		c := testConfig(t, "")
		edit(&c)
		err := Run(t.Context(), c)
		if err == nil || !strings.Contains(err.Error(), flag) || !strings.Contains(err.Error(), port) {
			t.Errorf("%s: got %v", flag, err)
		}
	}
}

func TestDataDirInUse(t *testing.T) {
	c := testConfig(t, "")
	launch(t, c, nil)
	if err := Run(t.Context(), c); err == nil {
		t.Error("two nodes run in one data dir")
	}
}

func TestPartFailureEndsTheNode(t *testing.T) {
	n, err := start(testConfig(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.run(context.Background()) }()
	eventually(t, "readiness", func() bool { return n.ready() == nil })
	n.mirrorListener.Close()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "mirror") {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the node goes on without its mirror")
	}
}

// countingRegistry is a registry that counts the bytes of blobs that it sends.
type countingRegistry struct {
	*httptest.Server
	sent atomic.Int64
	gate chan struct{} // if not nil, blob answers wait for it half-way
}

type countingWriter struct {
	http.ResponseWriter
	r       *countingRegistry
	written int
	refused bool // what is written is no blob: the registry refuses a range past the end, then it is asked for the whole
}

func (w *countingWriter) WriteHeader(code int) {
	w.refused = code >= http.StatusMultipleChoices
	w.ResponseWriter.WriteHeader(code)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	if w.refused {
		return w.ResponseWriter.Write(p)
	}
	if w.r.gate != nil && w.written > 0 {
		<-w.r.gate
	}
	w.r.sent.Add(int64(len(p))) // before it can be read
	n, err := w.ResponseWriter.Write(p)
	w.written += n
	w.r.sent.Add(int64(n - len(p)))
	return n, err
}

func newRegistry(t *testing.T) *countingRegistry {
	r := &countingRegistry{}
	h := registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)))
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodGet && strings.Contains(q.URL.Path, "/blobs/") {
			w = &countingWriter{ResponseWriter: w, r: r}
		}
		h.ServeHTTP(w, q)
	}))
	t.Cleanup(r.Close)
	return r
}

// push stores size random bytes and returns their path at a mirror.
func (r *countingRegistry) push(t *testing.T, size int, seed uint64) (path string, data []byte) {
	t.Helper()
	data = make([]byte, size)
	var key [32]byte
	key[0] = byte(seed)
	rand.NewChaCha8(key).Read(data) //nolint:errcheck // never fails
	d := digest.FromBytes(data)
	resp, err := http.Post(r.URL+"/v2/a/b/blobs/uploads/?digest="+url.QueryEscape(d.String()), "application/octet-stream", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("push: %s", resp.Status)
	}
	return "/v2/a/b/blobs/" + d.String() + "?ns=registry.test", data
}

func TestBlobTravelsThroughTheMesh(t *testing.T) {
	reg := newRegistry(t)
	path, data := reg.push(t, 3<<20+17, 1)
	key := newKey(t)
	var nodes []*testNode
	for i := range 4 {
		c := testConfig(t, key)
		c.Zone, c.Seed = fmt.Sprint("z", i%2), i == 0
		c.Origin.Registries = []Registry{{Host: "registry.test", URL: reg.URL}}
		if i > 0 {
			c.P2P.Bootstrap = []string{nodes[0].peerAddr(t)}
		}
		nodes = append(nodes, launch(t, c, nil))
	}
	for _, n := range nodes {
		eventually(t, "everybody", func() bool { return n.topology.Connected() == len(nodes)-1 })
	}
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			resp, err := http.Get(n.mirrorURL(path))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !bytes.Equal(got, data) {
				t.Errorf("node %d: status %d, %d bytes, %v", i, resp.StatusCode, len(got), err)
			}
		})
	}
	wg.Wait()
	if sent := reg.sent.Load(); sent != int64(len(data)) {
		t.Errorf("the registry sent %d bytes for a blob of %d", sent, len(data))
	}
	for i, n := range nodes { // again: nothing more crosses the network
		if code, got := get(t, n.mirrorURL(path)); code != 200 || !bytes.Equal(got, data) {
			t.Errorf("node %d, second time: %d", i, code)
		}
		eventually(t, "accounts of each byte once, but for what came in vain", func() bool {
			s := n.status()
			return s.BytesIn.Zone+s.BytesIn.OtherZone+s.BytesIn.Origin-s.DuplicateBytes == int64(len(data))
		})
	}
	for i, n := range nodes {
		eventually(t, "the blob is announced, and others announce it", func() bool {
			s := n.status()
			return s.DHT.Announced > 0 && s.DHT.Placed > 0 && s.DHT.AskedFind > 0 && s.DHT.AskedStore > 0 &&
				s.Gossip.BytesIn > 0 && s.Gossip.BytesOut > 0 && s.Gossip.Delivered > 0
		})
		if s := n.status(); s.DHT.Peers == 0 || s.DHT.BucketSize != 10 || s.Gossip.Rejected != 0 {
			t.Errorf("node %d: DHT %+v, gossip %+v", i, s.DHT, s.Gossip)
		}
	}
	code, metrics := get(t, nodes[0].adminURL("/metrics"))
	if want := fmt.Sprintf("meshd_bytes_in_total{source=\"origin\"} %g", float64(len(data))); code != 200 || !strings.Contains(string(metrics), want) {
		t.Errorf("metrics lack %q", want)
	}
}

func TestDrainServesToTheEnd(t *testing.T) {
	reg := newRegistry(t)
	path, data := reg.push(t, 5<<20, 2)
	reg.gate = make(chan struct{})
	c := testConfig(t, "")
	c.Origin.Registries = []Registry{{Host: "registry.test", URL: reg.URL}}
	c.DrainTimeout = time.Minute
	n := launch(t, c, nil)
	type answer struct {
		data []byte
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		resp, err := http.Get(n.mirrorURL(path))
		if err != nil {
			got <- answer{nil, err}
			return
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		got <- answer{data, err}
	}()
	eventually(t, "the pull to begin", func() bool { return reg.sent.Load() > 0 })
	stopped := make(chan struct{})
	go func() { n.stop(); close(stopped) }()
	eventually(t, "readiness to go", func() bool { return n.ready() != nil })
	if code, body := get(t, n.adminURL("/readyz")); code != 503 || !strings.Contains(string(body), "stopping") {
		t.Errorf("readyz %d %s", code, body)
	}
	eventually(t, "peer.addr to go", func() bool {
		_, err := os.Stat(filepath.Join(c.DataDir, PeerAddrFile))
		return errors.Is(err, os.ErrNotExist)
	})
	close(reg.gate)
	if a := <-got; a.err != nil || !bytes.Equal(a.data, data) {
		t.Errorf("the running pull got %d bytes, %v", len(a.data), a.err)
	}
	<-stopped
}

func TestProbeGivesUp(t *testing.T) {
	c := testConfig(t, "")
	n := launch(t, c, nil)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	quick := *n.bootstrap.probe
	quick.timeout = 200 * time.Millisecond
	if id, err := quick.peerID(t.Context(), silent.Addr().String()); err == nil {
		t.Errorf("a silent port is %s", id)
	}
	rude := httptest.NewServer(http.NotFoundHandler())
	defer rude.Close()
	if id, err := quick.peerID(t.Context(), rude.Listener.Addr().String()); err == nil {
		t.Errorf("a web server is %s", id)
	}
	self := n.host.Addrs()[0]
	id, err := n.bootstrap.idAt(t.Context(), self)
	if err != nil || id != n.host.ID() {
		t.Errorf("asked itself: %s, %v", id, err)
	}
	if err := n.bootstrap.try(t.Context(), target{addr: self}); err != nil {
		t.Errorf("itself as a bootstrap address: %v", err)
	}
	if n.host.Network().Connectedness(n.host.ID()) == network.Connected {
		t.Error("connected to itself")
	}
}
