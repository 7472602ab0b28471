package node

import (
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// thinLink is a link that all connections share.
type thinLink struct {
	turn           chan struct{} // of capacity 1: a bubble's time stands still while a goroutine waits for a lock
	bytesPerSecond int
}

// thinConn is the reading end of a connection over one.
type thinConn struct {
	net.Conn
	link *thinLink
}

func (c thinConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), 4<<10)])
	c.link.turn <- struct{}{}
	defer func() { <-c.link.turn }()
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.link.bytesPerSecond))
	return n, err
}

// Over a link on which several pieces at a time take minutes, each byte comes once: no end gives a piece up that moves.
func TestThinLinkCarriesEachByteOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 4 << 20
		o := &memOrigin{data: make([]byte, size)}
		_, _ = rand.NewChaCha8([32]byte{2}).Read(o.data)
		d := digest.FromBytes(o.data)
		nodes, quit := crowd(t, 6, 2, 1, o)
		defer quit()
		time.Sleep(40 * time.Second)
		seed := nodes[0]
		if err := seed.pull(d); err != nil {
			t.Fatal(err)
		}
		seed.ports.narrow(seed.data, &thinLink{turn: make(chan struct{}, 1), bytesPerSecond: 120 << 10})
		time.Sleep(time.Second)
		var pulls errgroup.Group
		for _, c := range nodes {
			if c.zone != seed.zone {
				pulls.Go(func() error { return c.pull(d) })
			}
		}
		if err := pulls.Wait(); err != nil {
			t.Fatal(err)
		}
		var in, lost int64
		for _, c := range nodes {
			s := c.x.Status()
			in += s.BytesIn.OtherZone
			lost += s.DuplicateBytes
		}
		if in != size || lost != 0 || o.sent.Load() != size {
			t.Errorf("%d bytes came into the zone and %d out of the origin for %d of a blob, %d of them for nothing", in, o.sent.Load(), size, lost)
		}
	})
}
