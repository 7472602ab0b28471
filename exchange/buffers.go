package exchange

import (
	"context"
	"math/bits"
	"sync"

	"golang.org/x/sync/semaphore"
)

// buffers lends memory for pieces on their way from the network to the disk, in powers of two, and bounds what is
// lent at a time. Whoever holds a buffer never waits for another one, so the bound cannot lock up.
type buffers struct {
	limit *semaphore.Weighted
	pools [maxClass + 1]sync.Pool
}

const (
	minClass = 12 // 4 KiB
	maxClass = 23 // 8 MiB, the largest piece
)

func newBuffers(limit int64) *buffers { return &buffers{limit: semaphore.NewWeighted(limit)} }

// get returns a buffer of n bytes, of at most swarm.MaxPieceSize, once there is room. It fails with ctx.
func (b *buffers) get(ctx context.Context, n int64) ([]byte, error) {
	class := max(bits.Len64(uint64(max(n, 1)-1)), minClass)
	if err := b.limit.Acquire(ctx, 1<<class); err != nil {
		return nil, err
	}
	if p, ok := b.pools[class].Get().(*[]byte); ok {
		return (*p)[:n], nil
	}
	return make([]byte, n, 1<<class), nil
}

// put takes back a buffer of get.
func (b *buffers) put(buf []byte) {
	class := bits.Len64(uint64(cap(buf) - 1))
	buf = buf[:cap(buf)]
	b.pools[class].Put(&buf)
	b.limit.Release(1 << class)
}
