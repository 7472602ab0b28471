package exchange

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/meshd-project/meshd/dht/hosttest"
	"github.com/meshd-project/meshd/e2e/table"
	"github.com/meshd-project/meshd/e2e/testlog"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		table.Print(os.Stderr)
		os.Exit(code)
	}))
}

var testRef = swarm.OriginRef{Registry: "registry.example:5000", Repository: "team/app"}

// content returns n bytes that depend on seed alone, and their digest.
func content(n int, seed byte) ([]byte, digest.Digest) {
	b := make([]byte, n)
	_, _ = mrand.NewChaCha8([32]byte{seed}).Read(b)
	return b, digest.FromBytes(b)
}

// fakeOrigin serves blobs from memory and counts.
type fakeOrigin struct {
	mu      sync.Mutex
	blobs   map[digest.Digest][]byte
	fail    error         // of every Blob
	noRange bool          // the whole comes, whatever is asked
	noSize  bool          // as a chunked answer
	cut     int64         // > 0: each body breaks after so many bytes
	gate    chan struct{} // not nil: bodies block until it is closed,
	before  int64         // each after so many bytes
	auth    string        // expected
	slow    time.Duration // before each read
	vanish  bool          // the second Blob finds nothing

	requests atomic.Int64
	sent     atomic.Int64
	open     atomic.Int64
}

var (
	errNotFoundAtOrigin = errors.New("404 at origin")
	errNoRange          = errors.New("origin ignores ranges")
	errDenied           = errors.New("401 at origin")
)

func newOrigin(blobs ...[]byte) *fakeOrigin {
	o := &fakeOrigin{blobs: make(map[digest.Digest][]byte)}
	for _, b := range blobs {
		o.blobs[digest.FromBytes(b)] = b
	}
	return o
}

func (o *fakeOrigin) Blob(ctx context.Context, ref swarm.OriginRef, auth string, d digest.Digest, off, n int64) (OriginBody, error) {
	first := o.requests.Add(1) == 1
	o.mu.Lock()
	defer o.mu.Unlock()
	b, ok := o.blobs[d]
	size := int64(len(b))
	switch {
	case o.fail != nil:
		return OriginBody{}, o.fail
	case !ok, o.vanish && !first:
		return OriginBody{}, errNotFoundAtOrigin
	case auth != o.auth:
		return OriginBody{}, errDenied
	case off > 0 && o.noRange:
		return OriginBody{}, errNoRange
	}
	ranged := n >= 0 && !o.noRange
	if !ranged {
		off, n = 0, size
	}
	n = min(n, size-off)
	body := &fakeBody{o: o, r: bytes.NewReader(b[off : off+n]), ctx: ctx, gate: o.gate, before: o.before, cut: o.cut, slow: o.slow}
	o.open.Add(1)
	if o.noSize {
		size = -1
	}
	return OriginBody{ReadCloser: body, Size: size, Offset: off, Ranged: ranged}, nil
}

func (o *fakeOrigin) Listed(registry string) bool { return registry == testRef.Registry }

func (o *fakeOrigin) Classify(err error) (swarm.OriginErrorKind, time.Duration) {
	switch {
	case errors.Is(err, errNotFoundAtOrigin):
		return swarm.OriginNotFound, 0
	case errors.Is(err, errDenied):
		return swarm.OriginUnauthorized, 0
	case errors.Is(err, errNoRange):
		return swarm.OriginNoRange, 0
	}
	return swarm.OriginUnreachable, 0
}

type fakeBody struct {
	o      *fakeOrigin
	r      *bytes.Reader
	ctx    context.Context
	gate   chan struct{}
	before int64
	cut    int64
	slow   time.Duration
	read   int64
	once   sync.Once
}

func (b *fakeBody) Read(p []byte) (int, error) {
	if b.read < b.before {
		p = p[:min(int64(len(p)), b.before-b.read)]
	} else if b.gate != nil {
		select {
		case <-b.gate:
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
	if b.slow > 0 {
		select {
		case <-time.After(b.slow):
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
		p = p[:min(len(p), 64<<10)]
	}
	if b.cut > 0 && b.read >= b.cut {
		return 0, io.ErrUnexpectedEOF
	}
	if b.cut > 0 {
		p = p[:min(int64(len(p)), b.cut-b.read)]
	}
	n, err := b.r.Read(p)
	b.read += int64(n)
	b.o.sent.Add(int64(n))
	return n, err
}

func (b *fakeBody) Close() error {
	b.once.Do(func() { b.o.open.Add(-1) })
	return nil
}

// node is one meshd without its mirror and its DHT.
type node struct {
	*Exchange
	t      testing.TB
	host   host.Host
	st     *store.Store
	member Member
	cancel context.CancelFunc
	ended  chan error
	once   sync.Once
}

type nodeConfig struct {
	zone   string
	seed   bool
	origin Origin
	dir    string
	edit   func(*Config)
	listen func(net.Listener) net.Listener
	find   Providers
	gossip Gossip

	capacity int64 // of the store

	host host.Host      // not nil: a simulated one,
	port *hosttest.Port // and its data port
}

func newHost(t testing.TB) host.Host {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(
		libp2p.Identity(key),
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(libp2ptls.ID, libp2ptls.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
	)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// transport is the network under a node's data port.
func (c nodeConfig) transport(t testing.TB) Transport {
	t.Helper()
	if c.port != nil {
		return c.port
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if c.listen != nil {
		l = c.listen(l)
	}
	return TCP{l}
}

// policy is the one that is shipped where time is simulated or measured. Elsewhere it has more patience: on a busy machine an
// answer may take longer than a node waits before it asks somebody else as well, and what each gives is counted.
func (c nodeConfig) policy(t testing.TB) swarm.Config {
	p := swarm.DefaultConfig()
	if _, measured := t.(*testing.B); c.host == nil && !measured {
		p.Discover, p.Glimpse, p.SeedSilence, p.ClaimTimeout = 20*time.Second, 20*time.Second, 20*time.Second, 20*time.Second
		p.HedgeFloor, p.HurryFloor = 20*time.Second, 20*time.Second
	}
	return p
}

func startNode(t testing.TB, c nodeConfig) *node {
	t.Helper()
	testlog.To(t)
	h := c.host
	if h == nil {
		h = newHost(t)
	}
	if c.dir == "" {
		c.dir = t.TempDir()
	}
	st, err := store.Open(store.Config{Dir: c.dir, Capacity: c.capacity, PieceSize: func(n int64) int64 { return swarm.LayoutOf(n).PieceSize }})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Key: h.Peerstore().PrivKey(h.ID()), Zone: c.zone, Seed: c.seed, Transport: c.transport(t), Reannounce: -1, Swarm: c.policy(t),
	}
	addr := cfg.Transport.Addr().String()
	if c.edit != nil {
		c.edit(&cfg)
	}
	x, err := New(cfg, h, st, c.origin, c.find, c.gossip)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{
		Exchange: x, t: t, host: h, st: st, ended: make(chan error, 1),
		member: Member{ID: h.ID(), Zone: c.zone, Seed: c.seed, DataAddr: addr},
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { n.ended <- x.Run(ctx) }()
	t.Cleanup(n.stop)
	return n
}

// stop ends a node in the order that a daemon does.
func (n *node) stop() {
	n.once.Do(func() {
		n.cancel()
		if err := <-n.ended; err != nil {
			n.t.Errorf("run: %v", err)
		}
		if err := n.st.Close(); err != nil {
			n.t.Errorf("close store: %v", err)
		}
		_ = n.host.Close()
	})
}

// mesh connects nodes with each other and tells them of each other.
func mesh(t testing.TB, nodes ...*node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i, a := range nodes {
		for _, b := range nodes[i+1:] {
			if err := a.host.Connect(ctx, peer.AddrInfo{ID: b.host.ID(), Addrs: b.host.Addrs()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b {
				a.SetMember(b.member)
			}
		}
	}
}

func want(d digest.Digest, size int64) Want {
	return Want{Digest: d, Size: size, Origin: testRef, Class: swarm.Foreground}
}

// pull reads a blob whole.
func (n *node) pull(w Want) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	h, err := n.Open(ctx, w)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	r, err := h.Reader(0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	defer context.AfterFunc(ctx, func() { _ = r.Close() })()
	var b bytes.Buffer
	_, err = r.WriteTo(&b)
	return b.Bytes(), err
}

// mustPull pulls and compares.
func (n *node) mustPull(w Want, data []byte) {
	n.t.Helper()
	got, err := n.pull(w)
	if err != nil {
		n.t.Errorf("pull: %v", err)
	} else if !bytes.Equal(got, data) {
		n.t.Errorf("pulled %d bytes that are not the blob's %d", len(got), len(data))
	}
}

// pullAll has all nodes pull at once.
func pullAll(nodes []*node, w Want, data []byte) {
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() { n.mustPull(w, data) })
	}
	wg.Wait()
}

// eventually waits for a condition that goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 12_000 { // a minute: slow days are no failures
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func copies(o *fakeOrigin, data []byte) string {
	return fmt.Sprintf("%.4f", float64(o.sent.Load())/float64(len(data)))
}
