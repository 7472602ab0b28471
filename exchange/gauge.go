package exchange

import (
	"io"
	"sync"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// gauge watches how the bytes of a piece come and tells once when they drip: when two spans of half of Config.DripTime in a row
// have brought fewer than Config.DripRate does. A span in which this node did not read, or was not awake, counts as none.
type gauge struct {
	span  time.Duration
	least int64 // bytes of a span
	tell  func()

	mu      sync.Mutex
	timer   *time.Timer
	began   time.Time // the span
	paused  time.Time // reading did
	came    int64     // in the span
	reading bool
	held    bool // this node did not read for a part of the span
	slow    int  // spans in a row
	ended   bool
}

// newGauge begins to watch; tell is called by a goroutine of its own, once at most.
func newGauge(c swarm.Config, tell func()) *gauge {
	now := time.Now()
	g := &gauge{span: c.DripTime / 2, tell: tell, began: now, paused: now}
	g.least = int64(float64(c.DripRate) * g.span.Seconds())
	g.timer = time.AfterFunc(g.span, g.look)
	return g
}

// reads says that bytes are awaited.
func (g *gauge) reads() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reading = true
	g.held = g.held || time.Since(g.paused) > g.span/8
}

// read says that n bytes have come, and none are awaited for now.
func (g *gauge) read(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reading, g.paused = false, time.Now()
	g.came += int64(n)
}

// look ends a span.
func (g *gauge) look() {
	if g.drips() {
		g.tell()
	}
}

// drips ends a span, begins the next, and reports whether the bytes drip.
func (g *gauge) drips() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	asleep := time.Since(g.began) > g.span*3/2
	if asleep || g.held || !g.reading || g.came >= g.least {
		g.slow = 0
	} else {
		g.slow++
	}
	g.began, g.came, g.held = time.Now(), 0, false
	if g.ended = g.slow == 2; !g.ended {
		g.timer.Reset(g.span)
	}
	return g.ended
}

func (g *gauge) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	g.timer.Stop()
}

// moving is the body of a piece that is given more time as it comes, and watched.
type moving struct {
	io.Reader
	end   *grace
	gauge *gauge
}

func (m *moving) Read(p []byte) (int, error) {
	m.gauge.reads()
	n, err := m.Reader.Read(p)
	m.gauge.read(n)
	m.end.extend(timeFor(n))
	return n, err
}
