package exchange

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
)

func plaintext(c *Config) { c.Plaintext = true }

// tap keeps what clients send to a data port, and can change what they are sent.
type tap struct {
	net.Listener
	edit func([]byte)

	mu   sync.Mutex
	seen bytes.Buffer
}

func (l *tap) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &tapConn{Conn: c, l: l}, err
}

type tapConn struct {
	net.Conn
	l *tap
}

func (c *tapConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.l.seen.Write(p[:n])
	return n, err
}

func (c *tapConn) Write(p []byte) (int, error) {
	if c.l.edit != nil {
		p = bytes.Clone(p)
		c.l.edit(p)
	}
	return c.Conn.Write(p)
}

func (l *tap) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen.String()
}

// holder starts a node that has a blob and whose data port is tapped.
func holder(t *testing.T, data []byte, edit func(*Config)) (*node, *tap) {
	t.Helper()
	wire := &tap{}
	n := startNode(t, nodeConfig{zone: "a", origin: newOrigin(data), edit: edit, listen: func(l net.Listener) net.Listener {
		wire.Listener = l
		return wire
	}})
	n.mustPull(want(digest.FromBytes(data), int64(len(data))), data)
	eventually(t, "complete", func() bool { _, ok := n.Stat(digest.FromBytes(data)); return ok })
	return n, wire
}

// Pieces go in plaintext between nodes that both have the option, over TLS between others, at the same port.
func TestPlaintextWhereBothAllowIt(t *testing.T) {
	for _, row := range []struct{ theirs, ours bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		t.Run(fmt.Sprintf("holder %v, asker %v", row.theirs, row.ours), func(t *testing.T) {
			data, d := content(3<<20+7, 70)
			a, wire := holder(t, data, func(c *Config) { c.Plaintext = row.theirs })
			b := startNode(t, nodeConfig{zone: "a", edit: func(c *Config) { c.Plaintext = row.ours }})
			mesh(t, a, b)
			b.mustPull(want(d, int64(len(data))), data)
			if plain := bytes.Contains([]byte(wire.text()), []byte("GET /meshd/1/")); plain != (row.theirs && row.ours) {
				t.Errorf("in plaintext: %v", plain)
			}
			checkGiven(t, a, b, len(data))
		})
	}
}

// A piece that is not whole yet, of a blob that is on its way, goes in plaintext too.
func TestPlaintextOfABlobOnItsWay(t *testing.T) {
	data, d := content(24<<20, 71)
	o := newOrigin(data)
	o.slow = time.Millisecond
	a := startNode(t, nodeConfig{zone: "a", origin: o, edit: plaintext})
	b := startNode(t, nodeConfig{zone: "a", origin: o, edit: plaintext})
	mesh(t, a, b)
	pullAll([]*node{a, b}, want(d, int64(len(data))), data)
	if in := b.Status().BytesIn.Zone + a.Status().BytesIn.Zone; in == 0 {
		t.Error("nothing went between the nodes")
	}
}

// askPlain sends a request in plaintext to a node's data port.
func askPlain(t *testing.T, n *node, path string, sign func(http.Header)) *http.Response {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+n.member.DataAddr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	sign(req.Header)
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp
}

// Without a ticket that was given to that peer, lately, by that node, nobody gets a byte in plaintext.
func TestPlaintextIsForTicketsOnly(t *testing.T) {
	data, d := content(1<<20, 72)
	a, _ := holder(t, data, plaintext)
	b := startNode(t, nodeConfig{zone: "a", edit: plaintext})
	mesh(t, a, b)
	path, other := wire.PiecePath(d, 0), wire.PiecePath(d, 1)
	id, stranger := swarm.PeerID(b.self), swarm.PeerID(a.self)
	secret, now := a.tickets.secret[:], time.Now()
	good, ok := b.ticket(t.Context(), a.self)
	if !ok {
		t.Fatal("no ticket")
	}
	for _, row := range []struct {
		name   string
		sign   func(http.Header)
		status int
	}{
		{"a ticket", func(h http.Header) { good.SignRequest(h, id, path) }, 200},
		{"none", func(http.Header) {}, 403},
		{"of another path", func(h http.Header) { good.SignRequest(h, id, other) }, 403},
		{"of another peer", func(h http.Header) { good.SignRequest(h, stranger, path) }, 403},
		{"of another node", func(h http.Header) {
			wire.NewTicket(b.tickets.secret[:], id, now.Add(ticketLife/2)).SignRequest(h, id, path)
		}, 403},
		{"ended", func(h http.Header) { wire.NewTicket(secret, id, now.Add(-2*time.Second)).SignRequest(h, id, path) }, 403},
		{"for too long", func(h http.Header) { wire.NewTicket(secret, id, now.Add(time.Hour)).SignRequest(h, id, path) }, 403},
		{"of a peer that is not connected", func(h http.Header) {
			wire.NewTicket(secret, "gone", now.Add(ticketLife/2)).SignRequest(h, "gone", path)
		}, 403},
	} {
		if got := askPlain(t, a, path, row.sign).StatusCode; got != row.status {
			t.Errorf("%s: status %d, want %d", row.name, got, row.status)
		}
	}
	c := startNode(t, nodeConfig{zone: "a", origin: newOrigin(data)})
	if got := askPlain(t, c, path, func(h http.Header) { good.SignRequest(h, id, path) }).StatusCode; got != 400 {
		t.Errorf("a node without the option answers %d", got)
	}
}

// A member has maxCallerConns connections in plaintext at most, another when one of them has ended, and none of them is another's.
func TestPlaintextConnsOfOnePeer(t *testing.T) {
	a := startNode(t, nodeConfig{zone: "a", edit: plaintext})
	b, c := startNode(t, nodeConfig{zone: "a", edit: plaintext}), startNode(t, nodeConfig{zone: "a", edit: plaintext})
	mesh(t, a, b, c)
	path := wire.PiecePath(digest.FromString("x"), 0) // which is not here
	// on asks on a connection, which is made if it is nil, and returns it and the status of the answer.
	on := func(n *node, conn net.Conn) (net.Conn, int) {
		ticket, ok := n.ticket(t.Context(), a.self)
		if !ok {
			t.Fatal("no ticket")
		}
		if conn == nil {
			var err error
			if conn, err = net.Dial("tcp", a.member.DataAddr); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
		req, err := http.NewRequest(http.MethodGet, "http://a"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		ticket.SignRequest(req.Header, swarm.PeerID(n.self), path)
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		if err := req.Write(conn); err != nil {
			return conn, 0
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), req)
		if err != nil {
			return conn, 0
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return conn, resp.StatusCode
	}
	var open []net.Conn
	for i := range maxCallerConns {
		conn, status := on(b, nil)
		if status != http.StatusNotFound {
			t.Fatalf("connection %d: status %d", i, status)
		}
		open = append(open, conn)
	}
	if _, status := on(b, nil); status != http.StatusForbidden {
		t.Errorf("one too many: status %d", status)
	}
	if _, status := on(c, nil); status != http.StatusNotFound {
		t.Errorf("another member: status %d", status)
	}
	if _, status := on(c, open[1]); status != http.StatusForbidden {
		t.Errorf("another member on the same connection: status %d", status)
	}
	_ = open[0].Close()
	eventually(t, "another is taken", func() bool { _, status := on(b, nil); return status == http.StatusNotFound })
}

// Who changes an answer on the way does not get its piece taken, and the peer is not blamed for it.
func TestPlaintextChangedOnTheWay(t *testing.T) {
	data, d := content(3<<20, 73)
	var mu sync.Mutex
	changed := 0
	a, wire := holder(t, data, plaintext)
	wire.edit = func(p []byte) {
		mu.Lock()
		defer mu.Unlock()
		if i := bytes.Index(p, []byte("Meshd-Signature: ")); i >= 0 && changed < 2 {
			p[i+len("Meshd-Signature: ")] ^= 1
			changed++
		}
	}
	b := startNode(t, nodeConfig{zone: "a", edit: plaintext})
	mesh(t, a, b)
	b.mustPull(want(d, int64(len(data))), data)
	mu.Lock()
	defer mu.Unlock()
	if changed != 2 {
		t.Errorf("%d answers were changed", changed)
	}
	if q := b.Status().Quarantined; len(q) > 0 {
		t.Errorf("quarantined: %+v", q)
	}
}

// A holder that has started anew knows none of its old tickets: the asker gets another one and goes on.
func TestTicketOfAnEarlierLife(t *testing.T) {
	data, d := content(2<<20, 74)
	a, _ := holder(t, data, plaintext)
	b := startNode(t, nodeConfig{zone: "a", edit: plaintext})
	mesh(t, a, b)
	p := b.tickets.of(a.self)
	p.ticket = wire.NewTicket([]byte("of an earlier life"), swarm.PeerID(b.self), time.Now().Add(ticketLife))
	p.until = time.Now().Add(ticketLife)
	b.mustPull(want(d, int64(len(data))), data)
}
