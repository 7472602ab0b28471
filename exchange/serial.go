package exchange

import (
	"sync"
)

// serial runs functions one after another, in the order given, in a goroutine that exists while there is work.
type serial struct {
	mu    sync.Mutex
	queue []func()
	busy  bool
}

// do runs f after the functions before it. start is asked for a goroutine if none is at it; if it refuses, f is
// dropped.
func (q *serial) do(start func(run func()) bool, f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, f)
	if q.busy {
		return
	}
	if q.busy = start(q.run); !q.busy {
		q.queue = nil
	}
}

func (q *serial) run() {
	for {
		q.mu.Lock()
		if len(q.queue) == 0 {
			q.busy = false
			q.mu.Unlock()
			return
		}
		f := q.queue[0]
		q.queue = q.queue[1:]
		q.mu.Unlock()
		f()
	}
}
