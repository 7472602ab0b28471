package exchange

import (
	"sync"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// rank returns who goes first: a session that a client waits for, or one that fills up for later.
func (s *session) rank() swarm.Class {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.class
}

// leastRate is what a piece has to come or go at once it moves, in bytes a second. What was sent of a piece that is given up
// was sent for nothing, so many pieces on a narrow link are waited for; a peer that drips is not.
const leastRate = 8 << 10

// timeFor returns how long n bytes of a piece may take.
func timeFor(n int) time.Duration { return time.Duration(n) * time.Second / leastRate }

// writeBy returns when n bytes of a piece have to be gone that are written now.
func (x *Exchange) writeBy(n int) time.Time {
	return time.Now().Add(x.cfg.ProgressTimeout + timeFor(n))
}

// grace ends a request that takes too long, not counting the time for which this node itself held it up.
type grace struct {
	mu    sync.Mutex
	timer *time.Timer // nil: no end
	end   time.Time
}

// newGrace calls expired after d; never if d is 0.
func newGrace(d time.Duration, expired func()) *grace {
	g := &grace{end: time.Now().Add(d)}
	if d > 0 {
		g.timer = time.AfterFunc(d, expired)
	}
	return g
}

// extend moves the end.
func (g *grace) extend(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer == nil || d <= 0 || !g.timer.Stop() {
		return
	}
	g.end = g.end.Add(d)
	g.timer.Reset(time.Until(g.end))
}

func (g *grace) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer != nil {
		g.timer.Stop()
	}
}
