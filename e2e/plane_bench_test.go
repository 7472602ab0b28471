package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	libnetwork "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/meshd-project/meshd/e2e/table"
	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
)

// stamped is a blob of any size that takes no room: one block of noise, with its number at the start of each.
type stamped struct {
	block []byte
	size  int64
	off   int64
}

func newStamped(size int64) *stamped {
	s := &stamped{block: make([]byte, mib), size: size}
	_, _ = rand.Read(s.block)
	return s
}

func (s *stamped) Read(p []byte) (int, error) {
	if s.off >= s.size {
		return 0, io.EOF
	}
	at := s.off % mib
	p = p[:min(int64(len(p)), mib-at, s.size-s.off)]
	copy(p, s.block[at:])
	var stamp [8]byte
	binary.BigEndian.PutUint64(stamp[:], uint64(s.off/mib))
	if at < 8 {
		copy(p, stamp[at:])
	}
	s.off += int64(len(p))
	return len(p), nil
}

func (s *stamped) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += s.off
	case io.SeekEnd:
		off += s.size
	}
	s.off = off
	return off, nil
}

// serveStamped is a registry of one such blob, in this process.
func serveStamped(b *testing.B, addr string, s *stamped) (path string) {
	b.Helper()
	h := sha256.New()
	_, err := io.Copy(h, s)
	must(b, err)
	path = "/v2/library/big/blobs/" + digest.NewDigest(digest.SHA256, h).String()
	l, err := net.Listen("tcp", addr)
	must(b, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		own := *s
		http.ServeContent(w, r, "", time.Time{}, &own)
	})}
	go func() { _ = srv.Serve(l) }()
	b.Cleanup(func() { _ = srv.Close() })
	return path
}

// A pull of 1 GiB from a peer that has it, each round by a new node, real processes: hash and disk at the receiver, the
// mirror and curl behind it. CPU seconds are those of both nodes. Beside it the same by hand (bare_bench_test.go).
func BenchmarkPeer1GiB(b *testing.B) { peerGiB(b, encrypted, "encrypted", table.Goal{AtMost: 2.5}) }

func BenchmarkPeer1GiBPlaintext(b *testing.B) {
	peerGiB(b, plaintext, "plaintext", table.Goal{}, "--data-plaintext")
}

func peerGiB(b *testing.B, mode bareMode, kind string, goal table.Goal, extra ...string) {
	need(b, "curl")
	n := newNetwork(b)
	path := serveStamped(b, n.host(200)+":5000", newStamped(gib))
	m := &mesh{net: n, origin: "http://" + n.host(200) + ":5000", dir: b.TempDir(), extra: extra}
	m.start(b, nodeSpec{"bench", false}, nodeSpec{"bench", false})
	holder, asker := m.nodes[0], m.nodes[1]
	curl(b, "http://"+holder.mirror()+path)
	hand := startBare(b, mode)
	var seconds, cpu, least, peak []float64
	for b.Loop() {
		useMemory(b, m.dir)
		before := selfSeconds(b)
		curl(b, hand.front)
		least = append(least, (selfSeconds(b)-before)/(gib/1e9))

		useMemory(b, m.dir)
		before = holder.cpuSeconds(b) + asker.cpuSeconds(b)
		took := curl(b, "http://"+asker.mirror()+path)
		spent := (holder.cpuSeconds(b) + asker.cpuSeconds(b) - before) / (gib / 1e9)
		if in := asker.status(b).BytesIn; in.Origin > 0 {
			b.Logf("this round is left out, it read the registry: %+v", in) // the machine stood still for seconds
		} else {
			seconds, cpu, peak = append(seconds, took), append(cpu, spent), append(peak, asker.memory(b, "VmHWM"))
		}
		asker.kill()
		must(b, os.RemoveAll(asker.dir))
		asker.start(b)
		m.waitJoined(b)
	}
	if len(seconds) == 0 {
		b.Fatal("every round read the registry: pulls from a peer were not measured")
	}
	b.Logf("meshd %.2f s/GB, by hand %.2f s/GB", cpu, least)
	b.ReportMetric(gib/1e6/median(seconds), "MB/s")
	b.ReportMetric(median(cpu), "cpu-s/GB")
	b.ReportMetric(median(least), "bare-cpu-s/GB")
	b.ReportMetric(median(peak), "peak-MiB")
	what := "pull from a peer with hash, disk and client, " + kind + ", CPU of both nodes"
	table.Add(table.Row{What: what, Unit: "s/GB", Ours: table.Median(cpu), Goal: goal})
	table.Add(table.Row{
		What: what + ", beside the least", Unit: "s/GB", Ours: table.Median(cpu),
		Reference: table.Median(least), ReferenceName: "the same by hand",
	})
}

// A cold pull of 4 GiB: what the node needs of memory at most.
func BenchmarkCold4GiB(b *testing.B) {
	need(b, "curl")
	n := newNetwork(b)
	path := serveStamped(b, n.host(200)+":5000", newStamped(4*gib))
	var peak []float64
	host := 1
	for b.Loop() {
		m := &mesh{net: n, origin: "http://" + n.host(200) + ":5000", dir: b.TempDir(), alone: true}
		node := &node{mesh: m, host: n.host(host), zone: "bench", dir: filepath.Join(m.dir, "node")}
		host++
		node.start(b)
		curl(b, "http://"+node.mirror()+path)
		peak = append(peak, node.memory(b, "VmHWM"))
		node.kill()
		must(b, os.RemoveAll(node.dir))
	}
	b.ReportMetric(median(peak), "peak-MiB")
	table.Add(table.Row{What: "node that pulls 4 GiB, peak RSS", Unit: "MiB", Ours: table.Median(peak), Goal: table.Goal{AtMost: 150}})
}

// crowdPeer is a member of the mesh, as far as a holder of blobs sees it: a control connection with its stream, and a
// connection to the data port.
type crowdPeer struct {
	close func()
	ask   *http.Client
	data  string // URL of the data port
}

// memberHost is a libp2p host with the mesh key that listens nowhere.
func memberHost(key crypto.PrivKey, psk pnet.PSK) (host.Host, error) {
	return libp2p.New(
		libp2p.Identity(key), libp2p.NoListenAddrs, libp2p.PrivateNetwork(psk), libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(libp2ptls.ID, libp2ptls.New), libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(&libnetwork.NullResourceManager{}), libp2p.DisableRelay(), libp2p.DisableMetrics(),
	)
}

func newCrowdPeer(ctx context.Context, psk pnet.PSK, to peer.AddrInfo, dataHost string) (_ *crowdPeer, err error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	h, err := memberHost(key, psk)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = h.Close()
		}
	}()
	if err := h.Connect(ctx, to); err != nil {
		return nil, err
	}
	st, err := h.NewStream(ctx, to.ID, exchange.Protocol)
	if err != nil {
		return nil, err
	}
	card, err := wire.AppendCard(nil, wire.Card{Zone: "bench"})
	if err != nil {
		return nil, err
	}
	if _, err := st.Write(card); err != nil {
		return nil, err
	}
	frame, err := wire.ReadFrame(bufio.NewReader(st), nil)
	if err != nil {
		return nil, err
	}
	told, err := wire.DecodeCard(frame)
	if err != nil {
		return nil, err
	}
	t, err := dataTransport(key, to.ID)
	if err != nil {
		return nil, err
	}
	return &crowdPeer{
		close: func() { t.CloseIdleConnections(); _ = h.Close() },
		ask:   &http.Client{Transport: t}, data: "https://" + net.JoinHostPort(dataHost, strconv.Itoa(int(told.DataPort))),
	}, nil
}

// dataTransport asks a peer's data port under the identity of a key.
func dataTransport(key crypto.PrivKey, to peer.ID) (*http.Transport, error) {
	identity, err := libp2ptls.NewIdentity(key)
	if err != nil {
		return nil, err
	}
	return &http.Transport{DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conf, _ := identity.ConfigForPeer(to)
		conf.NextProtos = []string{"http/1.1"}
		return (&tls.Dialer{Config: conf}).DialContext(ctx, network, addr)
	}}, nil
}

// fetch asks for a piece until it is served, as the policy does: after the time that the holder says.
func (p *crowdPeer) fetch(ctx context.Context, d digest.Digest, i swarm.PieceIndex) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.data+wire.PiecePath(d, i), nil)
		if err != nil {
			return err
		}
		resp, err := p.ask.Do(req)
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		switch {
		case err == nil && resp.StatusCode == http.StatusOK && n == resp.ContentLength:
			return nil
		case err != nil || resp.StatusCode != http.StatusServiceUnavailable:
			return fmt.Errorf("piece %d: %s: %w", i, resp.Status, err)
		}
		wait, _ := wire.ParseBusy(resp.Header)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A seed with 500 peers connected that all fetch pieces at once: its memory at most.
func BenchmarkSeedOf500(b *testing.B) {
	need(b, "curl")
	const peers, pieces = 500, 4
	n := newNetwork(b)
	path := serveStamped(b, n.host(200)+":5000", newStamped(256*mib))
	d := digest.Digest(path[strings.LastIndexByte(path, '/')+1:])
	m := &mesh{net: n, origin: "http://" + n.host(200) + ":5000", dir: b.TempDir()}
	m.start(b, nodeSpec{"bench", true})
	seed := m.nodes[0]
	curl(b, "http://"+seed.mirror()+path)
	f, err := os.Open(filepath.Join(m.dir, "mesh.key"))
	must(b, err)
	psk, err := pnet.DecodeV1PSK(f)
	must(b, err)
	must(b, f.Close())
	addr, err := os.ReadFile(filepath.Join(seed.dir, "peer.addr"))
	must(b, err)
	to, err := peer.AddrInfoFromString(strings.TrimSpace(string(addr)))
	must(b, err)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	crowd := make([]*crowdPeer, peers)
	defer func() {
		var wg sync.WaitGroup
		for _, p := range crowd {
			if p != nil {
				wg.Go(p.close)
			}
		}
		wg.Wait()
	}()
	var connect errgroup.Group
	connect.SetLimit(16)
	for i := range crowd {
		connect.Go(func() (err error) { crowd[i], err = newCrowdPeer(ctx, psk, *to, seed.host); return err })
	}
	must(b, connect.Wait())
	var seconds []float64
	for b.Loop() {
		began := time.Now()
		var g errgroup.Group
		for i, p := range crowd {
			g.Go(func() error {
				var errs []error
				for j := range pieces {
					errs = append(errs, p.fetch(ctx, d, swarm.PieceIndex((i*pieces+j)%512)))
				}
				return errors.Join(errs...)
			})
		}
		must(b, g.Wait())
		seconds = append(seconds, time.Since(began).Seconds())
	}
	if got := seed.descriptors(b); got < 2*peers {
		b.Fatalf("%d descriptors: not all of %d peers have their two connections", got, peers)
	}
	peak := seed.memory(b, "VmHWM")
	b.ReportMetric(peak, "peak-MiB")
	b.ReportMetric(peers*pieces*0.524288/median(seconds), "MB/s")
	table.Add(table.Row{What: "seed that serves 500 connected peers, peak RSS", Unit: "MiB", Ours: peak, Goal: table.Goal{AtMost: 300}})
}
