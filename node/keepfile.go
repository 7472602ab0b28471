package node

import (
	"bytes"
	"context"
	"time"
)

// keepFile writes down what text returns, every so often and if it is not what it was, until ctx is done, and once more
// then. A nil text leaves the file as it is. What cannot be written is tried again the next time.
func keepFile(ctx context.Context, path string, every time.Duration, text func() []byte) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last []byte
	write := func() {
		now := text()
		if now == nil || bytes.Equal(now, last) {
			return
		}
		if err := writeFile(path, now, 0o600); err != nil {
			log.Warnw("file not kept up to date", "err", err)
			return
		}
		last = now
	}
	for {
		select {
		case <-ctx.Done():
			write()
			return nil
		case <-tick.C:
			write()
		}
	}
}
