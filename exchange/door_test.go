package exchange

import (
	"net"
	"testing"
)

// callingConn is a connection from an address.
type callingConn struct {
	net.Conn
	from   string
	closed bool
}

func (c *callingConn) RemoteAddr() net.Addr {
	a, _ := net.ResolveTCPAddr("tcp", c.from)
	return a
}

func (c *callingConn) Close() error { c.closed = true; return nil }

// A stranger that is one too many takes the place of the oldest of the address that has most, and members stay.
func TestDoorDropsWhoHasMost(t *testing.T) {
	d, l := newDoor(4), &callers{}
	var conns []*callingConn
	var in []*dataConn
	for _, from := range []string{"10.0.0.1:1", "10.0.0.2:1", "[2001:db8::1]:1", "[2001:db8::2]:1", "10.0.0.3:1", "10.0.0.4:1"} {
		c := &callingConn{from: from}
		conns, in = append(conns, c), append(in, d.enter(c, l))
		if from == "10.0.0.1:1" && !d.known(in[0]) {
			t.Fatal("a stranger cannot become a member")
		}
	}
	var dropped []int
	for i, c := range conns {
		if c.closed {
			dropped = append(dropped, i)
		}
	}
	// The two of one IPv6 network count as one address; after its oldest, all have one, and the oldest goes.
	if len(dropped) != 2 || dropped[0] != 1 || dropped[1] != 2 {
		t.Errorf("dropped %v", dropped)
	}
	if d.known(in[1]) {
		t.Error("one that was dropped becomes a member")
	}
	for _, c := range in[3:] {
		for range 2 {
			if !d.known(c) {
				t.Error("one that is there does not become a member")
			}
		}
	}
	next, asked := &callingConn{from: "10.0.0.5:1"}, make(chan *dataConn)
	go func() { asked <- d.enter(next, l) }()
	for _, c := range in {
		_ = c.Close()
		_ = c.Close()
	}
	c := <-asked
	if c == nil || next.closed {
		t.Fatal("no room though all have gone")
	}
	_ = c.Close()
	if d.members != 0 || d.waiting.Len() != 0 || len(d.from) != 0 {
		t.Errorf("left: %d members, %d strangers, %v", d.members, d.waiting.Len(), d.from)
	}
	d.close()
	d.close()
	d.members = d.most
	last := &callingConn{from: "10.0.0.6:1"}
	if d.enter(last, l) != nil || !last.closed {
		t.Error("a closed door lets somebody in")
	}
}
