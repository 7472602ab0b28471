package node

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

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
		seed.ports.Narrow(seed.data, 120<<10)
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
