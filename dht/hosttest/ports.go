package hosttest

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Ports are the data ports of a mesh: connections in memory, because a bubble's time stands still while a goroutine waits
// for a socket. They carry bytes in no time but for those of links. Its methods may be called concurrently.
type Ports struct {
	mu     sync.Mutex
	opened map[string]*Port
	links  map[string]*link
}

// NewPorts returns a network without ports; call it within a bubble.
func NewPorts() *Ports {
	return &Ports{opened: make(map[string]*Port), links: make(map[string]*link)}
}

// Listen opens the port of a node. A port that was there under the same address is no longer reached.
func (n *Ports) Listen(addr string) *Port {
	p := &Port{Ports: n, addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opened[addr] = p
	return p
}

// Narrow puts all connections to a port that are dialed from now on over one link, for what the port sends.
func (n *Ports) Narrow(addr string, bytesPerSecond int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[addr] = newLink(bytesPerSecond)
}

// Port is an exchange.Transport in memory.
type Port struct {
	*Ports
	addr   string
	in     *link // of what this end receives, nil if it takes no time
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// NarrowIn puts what the node receives of the connections that it dials over one link. It must not be called once the
// port is in use.
func (p *Port) NarrowIn(bytesPerSecond int) { p.in = newLink(bytesPerSecond) }

// DialContext connects to a port that is open.
func (p *Port) DialContext(ctx context.Context, addr string) (net.Conn, error) {
	p.mu.Lock()
	to, out := p.opened[addr], p.links[addr]
	p.mu.Unlock()
	if to == nil {
		return nil, errors.New("no such data port")
	}
	near, far := net.Pipe()
	for _, l := range []*link{out, p.in} {
		if l != nil {
			near = linkConn{near, l}
		}
	}
	select {
	case to.conns <- far:
		return near, nil
	case <-to.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (p *Port) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *Port) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements net.Listener.
func (p *Port) Addr() net.Addr { return portAddr(p.addr) }

type portAddr string

func (portAddr) Network() string  { return "mem" }
func (a portAddr) String() string { return string(a) }

// link is a link that all its connections share.
type link struct {
	turn           chan struct{} // of capacity 1: a bubble's time stands still while a goroutine waits for a lock
	bytesPerSecond int
}

func newLink(bytesPerSecond int) *link {
	return &link{turn: make(chan struct{}, 1), bytesPerSecond: bytesPerSecond}
}

// linkConn is the reading end of a connection over a link.
type linkConn struct {
	net.Conn
	link *link
}

func (c linkConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), 4<<10)])
	c.link.turn <- struct{}{}
	defer func() { <-c.link.turn }()
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.link.bytesPerSecond))
	return n, err
}
