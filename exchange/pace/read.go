package pace

import (
	"context"
	"io"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// Read reads some of p, a chunk at most: what is there if a limit is set, else the whole chunk. Bytes are paid for once
// they have come, so that those still awaited hold up nobody; waited is how long that took. Errors are those of
// io.ReadAtLeast, or the context's.
func Read(ctx context.Context, c swarm.Class, r io.Reader, p []byte, limits ...*Limiter) (n int, waited time.Duration, err error) {
	p = p[:min(len(p), MaxChunk)]
	least := len(p)
	for _, l := range limits {
		if l.Rate() > 0 {
			p, least = p[:min(len(p), l.Chunk())], 1
		}
	}
	if n, err = io.ReadAtLeast(r, p, least); err != nil {
		return n, 0, err
	}
	began := time.Now()
	for _, l := range limits {
		if err := l.Wait(ctx, c, n); err != nil {
			return n, time.Since(began), err
		}
	}
	return n, time.Since(began), nil
}
