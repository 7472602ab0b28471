package dht

import (
	"context"
	"fmt"
	"sync"
	"time"

	kad "github.com/libp2p/go-libp2p-kad-dht"
)

const (
	smallBucket = 10
	largeBucket = 20
	largeMesh   = 200 // members from which on the large bucket is used
	smallMesh   = 150 // members below which the small one is again
	resizeEvery = time.Minute
)

// bucketFor returns Kademlia's k for a mesh. In a small one more copies of a record would be on every other node, in a
// large one fewer would be lost with the nodes that restart; between the bounds k stays what it was.
func bucketFor(members, k int) int {
	switch {
	case members >= largeMesh:
		return largeBucket
	case members < smallMesh || k == 0:
		return smallBucket
	}
	return k
}

// table is the kad-dht in use. Its bucket size is fixed when it is made, so another size is another kad-dht on the same
// host and datastore.
type table struct {
	open func(bucket int) (*kad.IpfsDHT, error)

	mu     sync.Mutex
	kad    *kad.IpfsDHT
	users  *sync.WaitGroup // of kad
	bucket int
}

// newTable opens the first kad-dht.
func newTable(bucket int, open func(int) (*kad.IpfsDHT, error)) (*table, error) {
	k, err := open(bucket)
	if err != nil {
		return nil, fmt.Errorf("start the DHT: %w", err)
	}
	return &table{open: open, kad: k, users: new(sync.WaitGroup), bucket: bucket}, nil
}

// use returns the kad-dht, which stays open until done is called.
func (t *table) use() (k *kad.IpfsDHT, done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.users.Add(1)
	return t.kad, t.users.Done
}

// size returns the bucket size in use.
func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bucket
}

// resize replaces the kad-dht by one with another bucket size, which starts from the peers that are connected. The old one
// is closed once those who use it have done, which their own time-outs bound.
func (t *table) resize(bucket int) error {
	k, err := t.open(bucket)
	if err != nil {
		return fmt.Errorf("restart the DHT: %w", err)
	}
	t.mu.Lock()
	old, users := t.kad, t.users
	t.kad, t.users, t.bucket = k, new(sync.WaitGroup), bucket
	t.mu.Unlock()
	users.Wait()
	return old.Close()
}

func (t *table) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kad.Close()
}

// watch fits the bucket size to the mesh until ctx is done.
func (d *DHT) watch(ctx context.Context) {
	tick := time.NewTicker(resizeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		members, k := d.cfg.Members.Count(), d.table.size()
		want := bucketFor(members, k)
		if d.cfg.BucketSize > 0 || want == k {
			continue
		}
		log.Infow("mesh has another size, the DHT restarts", "members", members, "bucket", want)
		if err := d.table.resize(want); err != nil {
			log.Warnw("DHT not restarted, it goes on as it was", "err", err)
		}
	}
}
