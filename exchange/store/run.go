package store

import (
	"context"
	"sync"
	"time"
)

// roomEvery is how often Run looks whether others have filled the disk.
const roomEvery = time.Minute

// Run looks after the store until ctx is done: it gives room back while others fill the disk, and scrubs. It may run
// once, and ends before Close.
func (s *Store) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	if s.cfg.ScrubRate > 0 {
		work.Go(func() { s.scrub(ctx) })
	}
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.keepShelf()
			s.shrink()
		}
	}
}
