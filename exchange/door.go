package exchange

import (
	"bufio"
	"container/list"
	"io"
	"net"
	"net/netip"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// maxUnproven is how many connections to the data port there are of those who have not shown yet that they are members. Each
// has headerTimeout for that.
const maxUnproven = 256

// door lets connections in to the data port: Config.MaxConns of them and, while they are strangers', maxUnproven. One that is
// too many takes the place of a stranger's, the oldest of the address that has most of them: who opens connections and says nothing
// shuts himself out. If all are members', those who come wait in the listen queue. Its methods may be called concurrently.
type door struct {
	most, strangers int

	mu      sync.Mutex
	members int
	waiting list.List          // *dataConn of strangers, the oldest first
	from    map[netip.Addr]int // them, by address
	changed chan struct{}      // closed when a member has gone
	shut    chan struct{}
	over    bool
}

func newDoor(most int) *door {
	return &door{
		most: most, strangers: min(maxUnproven, most), from: make(map[netip.Addr]int),
		changed: make(chan struct{}), shut: make(chan struct{}),
	}
}

// enter lets a stranger in once not all connections are members', in the place of another stranger if need be; nil, with the
// connection closed, once the door is closed.
func (d *door) enter(conn net.Conn, l *callers) *dataConn {
	if !d.await() {
		_ = conn.Close()
		return nil
	}
	c := &dataConn{Conn: conn, door: d, callers: l, addr: addrOf(conn)}
	d.mu.Lock()
	c.place = d.waiting.PushBack(c)
	d.from[c.addr]++
	var out *dataConn
	if n := d.waiting.Len(); n > d.strangers || d.members+n > d.most {
		out = d.dropOne()
	}
	d.mu.Unlock()
	if out != nil {
		_ = out.Conn.Close() // who reads from it closes it as well
	}
	return c
}

// await returns once there is room beside the members; false once the door is closed.
func (d *door) await() bool {
	for {
		d.mu.Lock()
		room, changed := d.members < d.most, d.changed
		d.mu.Unlock()
		if room {
			return true
		}
		select {
		case <-changed:
		case <-d.shut:
			return false
		}
	}
}

// close ends enter.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.over {
		d.over = true
		close(d.shut)
	}
}

// dropOne takes out the oldest stranger of the address that has most. The caller holds d.mu.
func (d *door) dropOne() *dataConn {
	var out *dataConn
	for e := d.waiting.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*dataConn); out == nil || d.from[c.addr] > d.from[out.addr] {
			out = c
		}
	}
	d.forget(out)
	return out
}

// forget takes a connection out of the strangers'. The caller holds d.mu.
func (d *door) forget(c *dataConn) {
	d.waiting.Remove(c.place)
	c.place = nil
	if d.from[c.addr]--; d.from[c.addr] == 0 {
		delete(d.from, c.addr)
	}
}

// known makes a stranger's connection a member's; false if it was dropped meanwhile.
func (d *door) known(c *dataConn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.place != nil {
		d.forget(c)
		c.member = true
		d.members++
	}
	return c.member
}

// leave is told of each connection once, when it is closed.
func (d *door) leave(c *dataConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case c.place != nil:
		d.forget(c)
	case c.member:
		c.member = false
		d.members--
		close(d.changed)
		d.changed = make(chan struct{})
	}
}

// addrOf returns who a connection is from, in IPv6 to the network: a host has as many addresses as it likes.
func addrOf(c net.Conn) netip.Addr {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	a := tcp.AddrPort().Addr().Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// dataConn is a connection to the data port.
type dataConn struct {
	net.Conn
	door  *door
	first *bufio.Reader // passes large reads through; nil where the first byte tells nothing
	once  sync.Once

	addr   netip.Addr
	place  *list.Element // among the strangers; guarded by door.mu, as is member
	member bool

	callers *callers
	caller  peer.ID // guarded by callers.mu, as is gone; "": not proven yet
	gone    bool
}

func (c *dataConn) Read(p []byte) (int, error) {
	if c.first == nil {
		return c.Conn.Read(p)
	}
	return c.first.Read(p)
}

// ReadFrom sends a file by sendfile, as far as the connection can.
func (c *dataConn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

func (c *dataConn) Close() error {
	c.once.Do(func() {
		c.callers.leave(c)
		c.door.leave(c)
	})
	return c.Conn.Close()
}
