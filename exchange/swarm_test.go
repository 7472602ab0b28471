package exchange

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
)

// TestWarmPeer has one node get a blob from another one that has it, without a byte from the origin.
func TestWarmPeer(t *testing.T) {
	for _, size := range []int{300, 1 << 20, 12<<20 + 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			data, d := content(size, 20)
			o := newOrigin(data)
			a := startNode(t, nodeConfig{zone: "a", origin: o})
			b := startNode(t, nodeConfig{zone: "a", origin: o})
			mesh(t, a, b)
			a.mustPull(want(d, -1), data)
			eventually(t, "complete", func() bool { _, ok := a.Stat(d); return ok })
			began := time.Now()
			b.mustPull(want(d, int64(size)), data)
			t.Logf("%v", time.Since(began))
			if o.sent.Load() != int64(size) {
				t.Errorf("origin sent %s copies", copies(o, data))
			}
			checkGiven(t, a, b, size)
		})
	}
}

// checkGiven checks the accounts of a peer that gave another one n bytes. What is sent is counted once it has gone.
func checkGiven(t *testing.T, from, to *node, n int) {
	t.Helper()
	if in := to.Status().BytesIn; in.Zone != int64(n) {
		t.Errorf("in %+v, want %d", in, n)
	}
	eventually(t, "the giver's account", func() bool { return from.Status().BytesOut.Zone >= int64(n) })
	if out := from.Status().BytesOut; out.Zone != int64(n) {
		t.Errorf("out %+v, want %d", out, n)
	}
}

// TestRestartedPeerServes checks that a node tells of what it had on disk before it started.
func TestRestartedPeerServes(t *testing.T) {
	data, d := content(5<<20, 21)
	o := newOrigin(data)
	dir := t.TempDir()
	a := startNode(t, nodeConfig{zone: "a", origin: o, dir: dir})
	a.mustPull(want(d, -1), data)
	a.stop()
	a = startNode(t, nodeConfig{zone: "a", origin: o, dir: dir})
	b := startNode(t, nodeConfig{zone: "a", origin: o})
	mesh(t, a, b)
	b.mustPull(want(d, -1), data)
	if o.sent.Load() != int64(len(data)) {
		t.Errorf("origin sent %s copies", copies(o, data))
	}
}

// TestColdCrowd has nodes of two zones ask for one cold blob at once: the origin sends it once, and every zone
// but the first imports it once.
func TestColdCrowd(t *testing.T) {
	for name, row := range map[string]struct {
		nodes, seeds, zones, size int
		known                     bool
	}{
		"2 nodes":                      {nodes: 2, zones: 1, size: 16 << 20},
		"8 nodes, no seed":             {nodes: 8, zones: 1, size: 32 << 20},
		"8 nodes, no seed, size known": {nodes: 8, zones: 1, size: 32 << 20, known: true},
		"8 nodes, 1 seed":              {nodes: 8, seeds: 1, zones: 1, size: 32 << 20, known: true},
		"8 nodes, 2 seeds, 2 zones":    {nodes: 8, seeds: 2, zones: 2, size: 32 << 20, known: true},
		"8 nodes, one piece":           {nodes: 8, zones: 1, size: 700 << 10, known: true},
		"8 nodes, one piece, 1 seed":   {nodes: 8, seeds: 1, zones: 1, size: 700 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			if underRace {
				row.size = min(row.size, 8<<20)
			}
			data, d := content(row.size, 22)
			o := newOrigin(data)
			var nodes []*node
			for i := range row.nodes {
				nodes = append(nodes, startNode(t, nodeConfig{
					zone: fmt.Sprintf("z%d", i%row.zones), seed: i < row.seeds, origin: o,
				}))
			}
			mesh(t, nodes...)
			w := want(d, -1)
			if row.known {
				w.Size = int64(row.size)
			}
			began := time.Now()
			pullAll(nodes, w, data)
			t.Logf("%v, %d requests, origin copies %s", time.Since(began), o.requests.Load(), copies(o, data))
			if o.sent.Load() != int64(row.size) && !underRace {
				t.Errorf("origin sent %s copies in %d requests", copies(o, data), o.requests.Load())
			}
			var sum Status
			imports := map[string]int64{}
			for _, n := range nodes {
				st := n.Status()
				sum.BytesIn.Zone += st.BytesIn.Zone
				sum.BytesOut.Zone += st.BytesOut.Zone
				sum.BytesIn.OtherZone += st.BytesIn.OtherZone
				sum.BytesOut.OtherZone += st.BytesOut.OtherZone
				sum.BytesIn.Origin += st.BytesIn.Origin
				sum.DuplicateBytes += st.DuplicateBytes
				imports[n.cfg.Zone] += st.BytesIn.OtherZone + st.BytesIn.Origin
			}
			t.Logf("in %+v, out %+v, duplicate %d, into zones %v", sum.BytesIn, sum.BytesOut, sum.DuplicateBytes, imports)
			if sum.BytesIn.Origin != o.sent.Load() {
				t.Errorf("accounts say %d bytes from the origin, it sent %d", sum.BytesIn.Origin, o.sent.Load())
			}
			for zone, n := range imports {
				if float64(n) > 1.02*float64(row.size) && !underRace {
					t.Errorf("%s imported %.3f copies", zone, float64(n)/float64(row.size))
				}
			}
		})
	}
}

// TestSeedOfOtherZone has nodes of a zone without a seed pull what only a seed elsewhere can fetch.
func TestSeedOfOtherZone(t *testing.T) {
	data, d := content(8<<20, 23)
	o := newOrigin(data)
	seed := startNode(t, nodeConfig{zone: "a", seed: true, origin: o})
	down := newOrigin()
	down.fail = errors.New("no route to origin")
	b := startNode(t, nodeConfig{zone: "b", origin: down})
	c := startNode(t, nodeConfig{zone: "b", origin: down})
	mesh(t, seed, b, c)
	pullAll([]*node{b, c}, want(d, int64(len(data))), data)
	if o.sent.Load() != int64(len(data)) {
		t.Errorf("origin sent %s copies", copies(o, data))
	}
	if in := b.Status().BytesIn.OtherZone + c.Status().BytesIn.OtherZone; in != int64(len(data)) {
		t.Errorf("zone b imported %d of %d bytes", in, len(data))
	}
}

// TestSeedRefusesUnlisted checks that peers cannot have a seed fetch from any registry they like.
func TestSeedRefusesUnlisted(t *testing.T) {
	data, d := content(1<<20, 24)
	o := newOrigin(data)
	seed := startNode(t, nodeConfig{zone: "a", seed: true, origin: o})
	none := newOrigin()
	n := startNode(t, nodeConfig{zone: "a", origin: none})
	mesh(t, seed, n)
	w := want(d, -1)
	w.Origin.Registry = "internal.example"
	if _, err := n.pull(w); !errors.Is(err, errNotFoundAtOrigin) {
		t.Errorf("got %v", err)
	}
	if o.requests.Load() != 0 {
		t.Error("the seed asked an unlisted registry")
	}
}

// TestNotFoundAnywhere has many nodes ask for what does not exist.
func TestNotFoundAnywhere(t *testing.T) {
	o := newOrigin()
	var nodes []*node
	for i := range 4 {
		nodes = append(nodes, startNode(t, nodeConfig{zone: "a", seed: i == 0, origin: o}))
	}
	mesh(t, nodes...)
	began := time.Now()
	for _, n := range nodes {
		_, err := n.pull(want(digest.FromString("nothing"), -1))
		var refused *RefusedError
		if !errors.Is(err, errNotFoundAtOrigin) && !errors.As(err, &refused) {
			t.Errorf("got %v", err)
		}
	}
	t.Logf("%v, %d requests", time.Since(began), o.requests.Load())
}

// badListener breaks the data port of a node: corrupt flips a byte of what it sends, after limit bytes it hangs up.
type badListener struct {
	net.Listener
	conns func(net.Conn) net.Conn
}

func (l *badListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.conns(c), nil
}

type hangUp struct {
	net.Conn
	left *atomic.Int64
}

func (c hangUp) Write(p []byte) (int, error) {
	if c.left.Add(-int64(len(p))) < 0 {
		_ = c.Close()
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

// TestProviderDiesMidPiece has the only provider hang up after a while; the origin gives the rest.
func TestProviderDiesMidPiece(t *testing.T) {
	data, d := content(16<<20, 25)
	o := newOrigin(data)
	var left atomic.Int64
	left.Store(3<<20 + 1000)
	a := startNode(t, nodeConfig{zone: "a", origin: o, listen: func(l net.Listener) net.Listener {
		return &badListener{l, func(c net.Conn) net.Conn { return hangUp{c, &left} }}
	}})
	b := startNode(t, nodeConfig{zone: "a", origin: o})
	mesh(t, a, b)
	a.mustPull(want(d, -1), data)
	eventually(t, "complete", func() bool { _, ok := a.Stat(d); return ok })
	began := time.Now()
	b.mustPull(want(d, int64(len(data))), data)
	st := b.Status()
	t.Logf("%v: in %+v, duplicate %d", time.Since(began), st.BytesIn, st.DuplicateBytes)
	if st.BytesIn.Zone < 2<<20 {
		t.Error("nothing came from the peer")
	}
}

// TestProviderVanishes kills a node while others pull from it.
func TestProviderVanishes(t *testing.T) {
	data, d := content(24<<20, 26)
	o := newOrigin(data)
	o.gate, o.before = make(chan struct{}), 7<<20 // what dies with the seed, at most
	var nodes []*node
	for i := range 4 {
		nodes = append(nodes, startNode(t, nodeConfig{zone: "a", seed: i == 0, origin: o}))
	}
	mesh(t, nodes...)
	done := make(chan struct{})
	go func() { defer close(done); pullAll(nodes[1:], want(d, int64(len(data))), data) }()
	eventually(t, "half way", func() bool { return nodes[1].Status().ClientBytes > 6<<20 })
	began := time.Now()
	nodes[0].stop()
	close(o.gate)
	<-done
	t.Logf("%v after the seed died: origin copies %s", time.Since(began), copies(o, data))
	if c := float64(o.sent.Load()) / float64(len(data)); c > 1.3 {
		t.Errorf("origin sent %.3f copies", c)
	}
}

// doctor makes a node serve data as the blob d, whatever it is, and attest hash(piece) for each piece.
func doctor(t *testing.T, n *node, d digest.Digest, data []byte, hash func([]byte) swarm.Hash) {
	t.Helper()
	doctorAs(t, n, func() notary { return n.notary }, d, data, hash)
}

// doctorAs is doctor with somebody else's signature under each piece.
func doctorAs(t *testing.T, n *node, who func() notary, d digest.Digest, data []byte, hash func([]byte) swarm.Hash) {
	t.Helper()
	size := int64(len(data))
	l := swarm.LayoutOf(size)
	p, err := n.st.Begin(d, size, l.PieceSize)
	if err != nil {
		t.Fatal(err)
	}
	s := n.sessionFor(d)
	f, err := p.OpenFile()
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.Pieces() {
		off, k := l.Span(swarm.PieceIndex(i))
		sum := hash(data[off : off+k])
		att, err := who().attest(d, size, swarm.PieceIndex(i), sum)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.WritePiece(i, data[off:off+k], sum, att.Proof()); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	s.part, s.file, s.phase, s.size, s.layout = p, f, filling, size, l
	s.have = swarm.FullBitmap(l.Pieces())
	s.held = l.Pieces()
	s.mu.Unlock()
	n.post(swarm.Held{Digest: d, Size: size, Have: swarm.FullBitmap(l.Pieces())})
}

// TestLiar has a node that says it has the blob and sends other bytes than it attests: it is isolated, nothing of
// its bytes is kept, and the blob comes from elsewhere.
func TestLiar(t *testing.T) {
	data, d := content(8<<20, 27)
	o := newOrigin(data)
	a := startNode(t, nodeConfig{zone: "a", origin: o})
	b := startNode(t, nodeConfig{zone: "a", origin: o})
	doctor(t, a, d, data, func(b []byte) swarm.Hash { return swarm.Hash{1, 2, 3} })
	mesh(t, a, b)
	began := time.Now()
	b.mustPull(want(d, int64(len(data))), data)
	st := b.Status()
	t.Logf("%v: in %+v, wasted %d", time.Since(began), st.BytesIn, st.DuplicateBytes)
	if len(st.Quarantined) != 1 || st.Quarantined[0].Peer != a.host.ID() {
		t.Errorf("quarantined: %+v", st.Quarantined)
	}
	if st.BytesIn.Origin != int64(len(data)) || st.DuplicateBytes == 0 {
		t.Errorf("in %+v, wasted %d", st.BytesIn, st.DuplicateBytes)
	}
	if resp, err := get(a, b, d, 0); err != nil || resp != 200 {
		t.Errorf("a quarantined peer gets %d, %v", resp, err)
	}
}

// get has node a ask node b for a piece, past a's core, and returns the status.
func get(a, b *node, d digest.Digest, i swarm.PieceIndex) (int, error) {
	resp, err := a.client.Get("https://" + peerHost(b.host.ID()) + wire.PiecePath(d, i))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// TestLyingAttester has a node attest wrong bytes that hash as it says: only the whole gives it away. It is found
// out, the blob comes from elsewhere, and readers never see a wrong blob end cleanly.
func TestLyingAttester(t *testing.T) {
	data, d := content(8<<20, 28)
	wrong := bytes.Clone(data)
	wrong[5<<20] ^= 1
	o := newOrigin(data)
	a := startNode(t, nodeConfig{zone: "a", origin: newOrigin()})
	told := make(chan Evidence, 16)
	b := startNode(t, nodeConfig{zone: "a", origin: o, edit: func(c *Config) { c.Evidence = func(e Evidence) { told <- e } }})
	doctor(t, a, d, wrong, func(b []byte) swarm.Hash { return sha256.Sum256(b) })
	mesh(t, a, b)
	got, err := b.pull(want(d, int64(len(data))))
	t.Logf("first: %d bytes, %v: %+v", len(got), err, b.Status().BytesIn)
	if err == nil && !bytes.Equal(got, data) {
		t.Fatal("a wrong blob ended cleanly")
	}
	if err != nil && !errors.Is(err, ErrRestarted) {
		t.Errorf("got %v", err)
	}
	b.mustPull(want(d, int64(len(data))), data)
	if in := b.Status().BytesIn; in.Origin != int64(len(data)) || in.Zone != int64(len(data)) {
		t.Errorf("in %+v", in)
	}
	eventually(t, "the liar is isolated", func() bool {
		q := b.Status().Quarantined
		return len(q) == 1 && q[0].Peer == a.host.ID()
	})
	checkEvidence(t, told, a.host.ID(), data, wrong)
}

// pausing is a connection that lets so many bytes out, and the others once a client has been given some.
type pausing struct {
	net.Conn
	left  *atomic.Int64
	given <-chan struct{}
}

func (c pausing) Write(p []byte) (int, error) {
	if c.left.Add(-int64(len(p))) < 0 {
		<-c.given
	}
	return c.Conn.Write(p)
}

// Two liars come one after the other, and each has signed wrong hashes. Only the client that was given bytes of the first
// has to come again: the second time it gets nothing before all is proven, whoever lies meanwhile.
func TestLyingAttestersOneAfterTheOther(t *testing.T) {
	data, d := content(8<<20, 29)
	o := newOrigin(data)
	o.fail = errors.New("out of reach")
	b := startNode(t, nodeConfig{zone: "a", origin: o})
	join := func(at int, listen func(net.Listener) net.Listener) *node {
		wrong := bytes.Clone(data)
		wrong[at] ^= 1
		liar := startNode(t, nodeConfig{zone: "a", origin: newOrigin(), listen: listen})
		doctor(t, liar, d, wrong, func(b []byte) swarm.Hash { return sha256.Sum256(b) })
		mesh(t, liar, b)
		return liar
	}
	var left atomic.Int64
	left.Store(7 << 20)
	given := make(chan struct{})
	join(7<<20, func(l net.Listener) net.Listener {
		return &badListener{l, func(c net.Conn) net.Conn { return pausing{c, &left, given} }}
	})
	h, err := b.Open(t.Context(), want(d, int64(len(data))))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	r, err := h.Reader(0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	close(given)
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, ErrRestarted) {
		t.Fatalf("got %v", err)
	}
	pulled := make(chan struct{})
	go func() {
		defer close(pulled)
		b.mustPull(want(d, int64(len(data))), data)
	}()
	second := join(6<<20, nil)
	eventually(t, "the second liar is found out", func() bool {
		s := b.session(d)
		return s != nil && b.distrusts(s, swarm.PeerID(second.host.ID()))
	})
	o.mu.Lock()
	o.fail = nil
	o.mu.Unlock()
	<-pulled
}

// checkEvidence wants one proof, that the liar signed the hash of the one piece that is wrong, and that it convinces
// nobody of anything else.
func checkEvidence(t *testing.T, told <-chan Evidence, liar peer.ID, data, wrong []byte) {
	t.Helper()
	e := <-told
	lo := int64(e.Piece) * e.PieceSize
	hi := min(lo+e.PieceSize, int64(len(data)))
	if e.Peer != liar || e.Signed != fmt.Sprintf("%x", sha256.Sum256(wrong[lo:hi])) || e.Proven != fmt.Sprintf("%x", sha256.Sum256(data[lo:hi])) {
		t.Errorf("%+v", e)
	}
	if err := e.Check(); err != nil {
		t.Error(err)
	}
	if len(told) > 0 {
		t.Errorf("more: %+v", <-told)
	}
	for name, forge := range map[string]func(e *Evidence){
		"another hash":      func(e *Evidence) { e.Signed = strings.Repeat("ab", 32) },
		"the right hash":    func(e *Evidence) { e.Signed = e.Proven },
		"another piece":     func(e *Evidence) { e.Piece++ },
		"another size":      func(e *Evidence) { e.Size++ },
		"another blob":      func(e *Evidence) { e.Digest = digest.FromString("x") },
		"no signature":      func(e *Evidence) { e.Signature = nil },
		"no hash":           func(e *Evidence) { e.Proven = "" },
		"no digest":         func(e *Evidence) { e.Digest = "sha256:x" },
		"a piece before it": func(e *Evidence) { e.Piece = -1 },
	} {
		forged := e
		if forge(&forged); forged.Check() == nil {
			t.Errorf("%s: believed", name)
		}
	}
}

// TestFreshAttesters has four members pass on wrong pieces that nobody they know has signed, each piece under a key of its own
// that was made for it: no attester is met twice, and whoever passes a stranger's word on is not to blame for it. What that
// gains: the blob is brought in once in vain. Then the node takes no stranger's word and reads the registry, once; the pull ends
// right, the evidence names the made-up keys, and a member that did nothing is believed as before.
func TestFreshAttesters(t *testing.T) {
	const lies = 4
	data, d := content(4<<20, 31)
	told := make(chan Evidence, 256)
	b := startNode(t, nodeConfig{zone: "a", origin: newOrigin(data), edit: func(c *Config) {
		c.Evidence = func(e Evidence) { told <- e }
		c.Swarm.Discover = swarm.DefaultConfig().Discover // who lied to it does not answer again: it is not to wait for them
	}})
	honest := startNode(t, nodeConfig{zone: "a", origin: newOrigin()})
	nodes, made := []*node{b, honest}, map[peer.ID]bool{}
	for i := range lies {
		wrong := bytes.Clone(data)
		wrong[i<<20] ^= 1
		liar := startNode(t, nodeConfig{zone: "a", origin: newOrigin()})
		doctorAs(t, liar, func() notary {
			key, _, err := crypto.GenerateEd25519Key(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			id, err := peer.IDFromPrivateKey(key)
			if err != nil {
				t.Fatal(err)
			}
			made[id] = true
			return notary{key, swarm.PeerID(id)}
		}, d, wrong, func(b []byte) swarm.Hash { return sha256.Sum256(b) })
		nodes = append(nodes, liar)
	}
	mesh(t, nodes...)
	var err error
	for range lies + 1 {
		var got []byte
		if got, err = b.pull(want(d, int64(len(data)))); err == nil {
			if !bytes.Equal(got, data) {
				t.Fatal("a wrong blob ended cleanly")
			}
			break
		}
		if !errors.Is(err, ErrRestarted) {
			t.Fatal(err)
		}
	}
	if err != nil {
		t.Fatalf("never right: %v", err)
	}
	st := b.Status()
	t.Logf("in %+v, wasted %d of a blob of %d, %d pieces of evidence", st.BytesIn, st.DuplicateBytes, len(data), len(told))
	if st.BytesIn.Zone > int64(len(data)) || st.BytesIn.Origin > int64(len(data)) {
		t.Errorf("in %+v of a blob of %d", st.BytesIn, len(data))
	}
	for _, q := range st.Quarantined {
		if q.Peer == honest.host.ID() {
			t.Errorf("a member that did nothing is quarantined: %+v", q)
		}
	}
	for range len(told) {
		if e := <-told; !made[e.Peer] || e.Check() != nil {
			t.Errorf("evidence against %s, who signed nothing wrong: %v", e.Peer, e.Check())
		}
	}
}

// TestStrangersGetNothing checks that the data port answers members with a control connection only.
func TestStrangersGetNothing(t *testing.T) {
	data, d := content(1<<20, 29)
	a := startNode(t, nodeConfig{zone: "a", origin: newOrigin(data)})
	b := startNode(t, nodeConfig{zone: "a"})
	a.mustPull(want(d, -1), data)
	b.SetMember(a.member) // but no connection
	if code, err := get(b, a, d, 0); err == nil {
		t.Errorf("stranger got %d", code)
	}
	mesh(t, a, b)
	eventually(t, "a member is served", func() bool { code, err := get(b, a, d, 0); return err == nil && code == 200 })
	a.mu.Lock()
	a.banned[b.self] = ban{refuse: true, until: time.Now().Add(time.Hour)}
	a.mu.Unlock()
	if code, err := get(b, a, d, 0); err == nil && code != 403 { // over the connection that is there
		t.Errorf("who is refused everything got %d", code)
	}
	if code, err := get(b, a, d, 0); err == nil { // over another
		t.Errorf("who is refused everything got %d", code)
	}
	// Another identity behind the address is not who was asked for.
	c := startNode(t, nodeConfig{})
	b.SetMember(Member{ID: c.host.ID(), DataAddr: a.member.DataAddr})
	if code, err := get(b, c, d, 0); err == nil {
		t.Errorf("an impostor was believed: %d", code)
	}
}

// fakeProviders is a DHT that everybody shares.
type fakeProviders struct {
	self  peer.AddrInfo
	table *providerTable
	spans chan []int
}

type providerTable struct {
	holders chan map[digest.Digest][]peer.AddrInfo // a lock with content
}

func newTable() *providerTable {
	t := &providerTable{holders: make(chan map[digest.Digest][]peer.AddrInfo, 1)}
	t.holders <- map[digest.Digest][]peer.AddrInfo{}
	return t
}

func (p *fakeProviders) Find(_ context.Context, d digest.Digest, found func([]peer.AddrInfo)) error {
	m := <-p.table.holders
	list := append([]peer.AddrInfo(nil), m[d]...)
	p.table.holders <- m
	found(list)
	return nil
}

func (p *fakeProviders) Provide(_ context.Context, d digest.Digest, _ bool) error {
	m := <-p.table.holders
	m[d] = append(m[d], p.self)
	p.table.holders <- m
	return nil
}

func (p *fakeProviders) ProvideSpans(ctx context.Context, d digest.Digest, spans []int) error {
	if p.spans != nil {
		p.spans <- spans
	}
	return p.Provide(ctx, d, false)
}

// TestStrangerFoundByDiscovery has a node get a blob from one that it knows from the DHT alone: no topology told
// of it, so they exchange cards.
func TestStrangerFoundByDiscovery(t *testing.T) {
	data, d := content(6<<20, 30)
	table := newTable()
	pa, pb := &fakeProviders{table: table}, &fakeProviders{table: table}
	o := newOrigin(data)
	a := startNode(t, nodeConfig{zone: "a", origin: o, find: pa})
	b := startNode(t, nodeConfig{zone: "a", find: pb})
	other := startNode(t, nodeConfig{zone: "a"})
	mesh(t, b, other) // b searches only if it is not alone
	pa.self = peer.AddrInfo{ID: a.host.ID(), Addrs: a.host.Addrs()}
	pb.self = peer.AddrInfo{ID: b.host.ID(), Addrs: b.host.Addrs()}
	a.mustPull(want(d, -1), data)
	_ = pa.Provide(context.Background(), d, false)
	b.mustPull(want(d, -1), data)
	if in := b.Status().BytesIn; in.Zone != int64(len(data)) {
		t.Errorf("in %+v", in)
	}
}
