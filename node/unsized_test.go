package node

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// A blob of which its origin tells no length, and which it takes minutes to send, leaves it once for all who ask for it, at once
// or while it is being read: each waits for as long as that takes, with the real exchange, gossip and DHT.
func TestUnsizedBlobIsReadOnce(t *testing.T) {
	for _, seeds := range []int{0, 1, 2} {
		t.Run(fmt.Sprint(seeds, " seeds"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const takes = 100 * time.Second
				o := &memOrigin{data: make([]byte, 2<<20), unsized: true}
				o.rate = int64(len(o.data)) / int64(takes/time.Second)
				_, _ = rand.NewChaCha8([32]byte{3}).Read(o.data)
				d := digest.FromBytes(o.data)
				nodes, quit := crowd(t, 9, 2, seeds, o)
				defer quit()
				time.Sleep(40 * time.Second)
				var pulls errgroup.Group
				for i, c := range nodes {
					pulls.Go(func() error {
						if i%3 == 2 {
							time.Sleep(time.Duration(i) * takes / 10)
						}
						if err := c.pull(d); err != nil {
							return fmt.Errorf("node %d: %w", i, err)
						}
						return nil
					})
				}
				if err := pulls.Wait(); err != nil {
					t.Error(err)
				}
				if got := fmt.Sprintf("%.4f", float64(o.sent.Load())/float64(len(o.data))); got != "1.0000" {
					t.Errorf("the origin sent %s copies", got)
				}
			})
		})
	}
}
