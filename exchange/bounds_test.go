package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/pace"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
)

// Requests at the data port beyond Config.MaxUploads are refused at once, with a time to come back, and served then.
func TestMaxUploads(t *testing.T) {
	data, d := content(3<<20, 80)
	limits := pace.NewLimits(0, 0, 0)
	a, _ := holder(t, data, func(c *Config) { c.MaxUploads, c.Limits = 1, limits })
	b := startNode(t, nodeConfig{zone: "a"})
	mesh(t, a, b)
	limits.Upload.SetRate(64 << 10) // the first takes seconds
	first, err := b.get(t.Context(), a.self, wire.PiecePath(d, 0))
	if err != nil || first.StatusCode != http.StatusOK {
		t.Fatalf("the first: %v, %v", first, err)
	}
	second, err := b.get(t.Context(), a.self, wire.PiecePath(d, 1))
	if err != nil {
		t.Fatal(err)
	}
	drop(second)
	wait, _ := wire.ParseBusy(second.Header)
	if second.StatusCode != http.StatusServiceUnavailable || wait <= 0 || second.Header.Get("Retry-After") != "1" {
		t.Errorf("the second: %s %v", second.Status, second.Header)
	}
	limits.Upload.SetRate(0)
	if n, err := io.Copy(io.Discard, first.Body); err != nil || n != first.ContentLength {
		t.Errorf("the first: %d bytes, %v", n, err)
	}
	_ = first.Body.Close()
	eventually(t, "the second is served", func() bool {
		resp, err := b.get(t.Context(), a.self, wire.PiecePath(d, 1))
		if err != nil {
			return false
		}
		drop(resp)
		return resp.StatusCode == http.StatusOK
	})
}

// Connections to the data port beyond Config.MaxConns wait in the listen queue until others end.
func TestMaxConns(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plaintext %v", plain), func(t *testing.T) {
			data, d := content(1<<20, 81)
			a, _ := holder(t, data, func(c *Config) { c.MaxConns, c.Plaintext = 2, plain })
			b := startNode(t, nodeConfig{zone: "a"})
			mesh(t, a, b)
			first := b.ask(t, a)
			b.ask(t, a)
			answered := make(chan error, 1)
			go func() {
				resp, err := b.get(context.Background(), a.self, wire.PiecePath(d, 0))
				if err == nil {
					drop(resp)
				}
				answered <- err
			}()
			select {
			case err := <-answered:
				t.Fatalf("served beside two others: %v", err)
			case <-time.After(200 * time.Millisecond):
			}
			_ = first.Close()
			if err := <-answered; err != nil {
				t.Errorf("after one has gone: %v", err)
			}
		})
	}
}

// ask opens a connection to the data port of a node and has a request answered on it.
func (n *node) ask(t *testing.T, of *node) net.Conn {
	t.Helper()
	c, err := n.tryAsk(t, of)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (n *node) tryAsk(t *testing.T, of *node) (net.Conn, error) {
	c, err := n.dialData(t.Context(), of.self)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, "GET "+wire.PiecePath(digest.FromString("x"), 0)+" HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return nil, err
	}
	_, err = c.Read(make([]byte, 1<<10))
	return c, err
}

// Those who open connections and say nothing, or never come to the end of it, keep no member out, however many they are.
func TestHalfOpenConnsKeepNobodyOut(t *testing.T) {
	for _, row := range []struct {
		name, says string
		plain      bool
	}{
		{"silent", "", false},
		{"silent, plaintext", "", true},
		{"half a handshake", "\x16\x03\x01", false},
		{"half a handshake, plaintext", "\x16\x03\x01", true},
		{"half a header, plaintext", "GET / HTTP/1.1\r\nHost: a\r\n", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			const most = 64
			a := startNode(t, nodeConfig{zone: "a", edit: func(c *Config) { c.MaxConns, c.Plaintext = most, row.plain }})
			b := startNode(t, nodeConfig{zone: "a"})
			mesh(t, a, b)
			flood := flooder{says: row.says, to: a.member.DataAddr, from: "127.0.0.3"}
			defer flood.stop()
			flood.run(t, 4*most)
			for i := range 5 {
				if _, err := b.tryAsk(t, a); err != nil {
					t.Fatalf("connection %d of a member: %v", i, err)
				}
				flood.run(t, most)
			}
		})
	}
}

// flooder opens connections that stay half-open.
type flooder struct {
	says, to, from string
	conns          []net.Conn
}

func (f *flooder) run(t *testing.T, n int) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(f.from)}}
	for range n {
		c, err := d.Dial("tcp", f.to)
		if err != nil {
			t.Fatal(err)
		}
		f.conns = append(f.conns, c)
		_, _ = io.WriteString(c, f.says) // it may be cut off already
	}
}

func (f *flooder) stop() {
	for _, c := range f.conns {
		_ = c.Close()
	}
}

// A connection ends with a refusal: neither a body that never comes nor the time between requests keeps it.
func TestRefusalEndsTheConnection(t *testing.T) {
	a := startNode(t, nodeConfig{zone: "a", edit: plaintext})
	b := startNode(t, nodeConfig{zone: "a"})
	mesh(t, a, b)
	for _, row := range []struct{ name, request string }{
		{"stranger", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"},
		{"endless body", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := net.Dial("tcp", a.member.DataAddr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			if _, err := io.WriteString(c, row.request); err != nil {
				t.Fatal(err)
			}
			if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 40") {
				t.Errorf("%q, %v", answer, err)
			}
		})
	}
}

// A peer has maxCallerConns connections to the data port at most, and another when one of them has ended.
func TestConnsOfOnePeer(t *testing.T) {
	a, b := startNode(t, nodeConfig{zone: "a"}), startNode(t, nodeConfig{zone: "a"})
	mesh(t, a, b)
	var open []net.Conn
	for range maxCallerConns {
		open = append(open, b.ask(t, a))
	}
	if _, err := b.tryAsk(t, a); err == nil {
		t.Error("one too many is taken")
	}
	_ = open[0].Close()
	eventually(t, "another is taken", func() bool { _, err := b.tryAsk(t, a); return err == nil })
}

// A node that is out of descriptors for a moment keeps its data port.
func TestDataPortOutlivesAFullTable(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plaintext %v", plain), func(t *testing.T) {
			full := &fullTable{}
			full.left.Store(3)
			a := startNode(t, nodeConfig{zone: "a", edit: func(c *Config) { c.Plaintext = plain }, listen: func(l net.Listener) net.Listener {
				full.Listener = l
				return full
			}})
			b := startNode(t, nodeConfig{zone: "a"})
			mesh(t, a, b)
			resp, err := b.get(t.Context(), a.self, wire.PiecePath(digest.FromString("x"), 0))
			if err != nil {
				t.Fatal(err)
			}
			drop(resp)
			if left := full.left.Load(); left > 0 {
				t.Errorf("%d failures left", left)
			}
		})
	}
}

// fullTable fails to accept for want of descriptors.
type fullTable struct {
	net.Listener
	left atomic.Int32
}

func (l *fullTable) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// Peers beyond Config.MaxStreams get no control stream until others end.
func TestMaxStreams(t *testing.T) {
	a := startNode(t, nodeConfig{zone: "a", edit: func(c *Config) { c.MaxStreams = 1 }})
	b, c := startNode(t, nodeConfig{zone: "a"}), startNode(t, nodeConfig{zone: "a"})
	mesh(t, a, b, c)
	talk := func(n *node) error {
		st, err := n.host.NewStream(t.Context(), a.self, Protocol)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = st.Reset() })
		card, err := wire.AppendCard(nil, n.ownCard())
		if err != nil {
			return err
		}
		_ = st.SetDeadline(time.Now().Add(time.Minute))
		if _, err := st.Write(card); err != nil {
			return err
		}
		_, err = st.Read(make([]byte, 1))
		if n == b {
			t.Cleanup(func() { _ = st.Close() })
		}
		return err
	}
	if err := talk(b); err != nil {
		t.Fatalf("the first: %v", err)
	}
	if err := talk(c); err == nil {
		t.Error("the second is taken beside the first")
	}
	_ = a.host.Network().ClosePeer(b.self)
	eventually(t, "the second is taken", func() bool { return talk(c) == nil })
}

// Who opens more blobs that are on their way than Config.MaxWaiting is told to come back; blobs on disk are always served.
func TestMaxWaiting(t *testing.T) {
	kept, k := content(2<<20, 82)
	data, d := content(2<<20, 83)
	o := newOrigin(kept, data)
	n := startNode(t, nodeConfig{zone: "a", origin: o, edit: func(c *Config) { c.MaxWaiting = 2 }})
	n.mustPull(want(k, int64(len(kept))), kept)
	eventually(t, "complete", func() bool { _, ok := n.Stat(k); return ok })
	gate := make(chan struct{})
	o.mu.Lock()
	o.gate = gate
	o.mu.Unlock()
	var open []*Handle
	for range 2 {
		h, err := n.Open(t.Context(), want(d, int64(len(data))))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, h)
	}
	if _, err := n.Open(t.Context(), want(d, int64(len(data)))); !errors.Is(err, ErrBusy) {
		t.Errorf("the third: %v", err)
	}
	n.mustPull(want(k, int64(len(kept))), kept)
	_ = open[0].Close()
	close(gate)
	n.mustPull(want(d, int64(len(data))), data)
	_ = open[1].Close()
	_ = open[1].Close() // counts once
	if got := n.waiting.Load(); got != 0 {
		t.Errorf("%d are counted as open", got)
	}
}

// Memory for pieces on their way is bounded: who comes when it is lent waits.
func TestBuffersAreBounded(t *testing.T) {
	b := newBuffers(3 << 20)
	one, err := b.get(t.Context(), 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := b.get(ctx, 2<<20); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("lent 4 MiB of 3: %v", err)
	}
	b.put(one)
	if two, err := b.get(t.Context(), 2<<20); err != nil || int64(len(two)) != 2<<20 {
		t.Errorf("after one has come back: %d, %v", len(two), err)
	}
}
