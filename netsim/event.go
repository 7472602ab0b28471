package netsim

import (
	"slices"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// kind says what an event means to the agent that it is for.
type kind uint8

const (
	evWake        kind = iota // nothing but to look at the alarm
	evMessage                 // a control message: msg
	evAsk                     // a request for a piece
	evCancel                  // a request is withdrawn
	evRefused                 // a request is refused for load or want of the piece: wait, load
	evPiece                   // a piece is here
	evServed                  // an upload ended; flag bit okay
	evReset                   // a transfer broke off
	evOriginHead              // the origin answers
	evOriginPiece             // a piece came from the origin
	evOriginEnd               // a fetch brought all it was to bring
	evOriginFail              // a fetch failed; load is the swarm.OriginErrorKind
	evOpened                  // the store made room
	evVerified                // the whole was checked
	evProviders               // discovery found: msg is []int32; flag bit okay on the last
	evMember                  // a connection to a peer is up
	evLost                    // a connection to a peer is gone
	evWant                    // the local client asks for the image
	evStarted                 // bytes of a piece come
	evStart                   // the node is up
)

// Bits of event.flag.
const (
	okay    = 1 << iota
	corrupt // the bytes are not what the sender says
	wrong   // the bytes are not the blob's, and somebody signed for them
)

// event is something that happens at a node. What the fields mean depends on the kind.
type event struct {
	at   swarm.Time
	node int32 // whom it is for
	from int32
	kind kind
	flag uint8
	load uint8
	blob int32
	unit uint32 // piece
	by   int32  // attester
	xfer uint64
	wait int64 // nanoseconds
	msg  any
}

// calendar holds what is to happen, by windows of time. Within a window things stay in the order in which they were
// put in.
type calendar[T any] struct {
	width   swarm.Time
	at      func(*T) swarm.Time
	ring    [][]T
	base    int64 // number of the window that ring[base%len] stands for; earlier ones are over
	count   int   // in the ring
	far     []T   // beyond the ring, a heap by time and number
	farSeq  []uint64
	seq     uint64
	recycle [][]T
}

const ringWindows = 1 << 13

func newCalendar[T any](width swarm.Time, at func(*T) swarm.Time) *calendar[T] {
	return &calendar[T]{width: width, at: at, ring: make([][]T, ringWindows)}
}

func (c *calendar[T]) window(t swarm.Time) int64 { return int64(t / c.width) }

// put adds x. What is due in the past goes into the first window not yet taken.
func (c *calendar[T]) put(x T) { c.add(c.at(&x), &x) }

// add is put for those who know when x is due.
func (c *calendar[T]) add(at swarm.Time, x *T) {
	w := max(c.window(at), c.base)
	if w >= c.base+ringWindows {
		c.putFar(*x)
		return
	}
	c.putNear(w, x)
}

func (c *calendar[T]) putNear(w int64, x *T) {
	b := &c.ring[w%ringWindows]
	if *b == nil && len(c.recycle) > 0 {
		last := len(c.recycle) - 1
		*b, c.recycle = c.recycle[last], c.recycle[:last]
	}
	*b = append(*b, *x)
	c.count++
}

// next returns the first window that has something in it.
func (c *calendar[T]) next() (int64, bool) {
	if c.count > 0 {
		for w := c.base; ; w++ {
			if len(c.ring[w%ringWindows]) > 0 {
				return w, true
			}
		}
	}
	if len(c.far) > 0 {
		return c.window(c.at(&c.far[0])), true
	}
	return 0, false
}

// take removes all that is due in window w, which must not be after next. Earlier windows are over from then on.
// The slice is to be handed back to done.
func (c *calendar[T]) take(w int64) []T {
	c.base = w
	c.approach()
	b := c.ring[w%ringWindows]
	c.ring[w%ringWindows] = nil
	c.count -= len(b)
	c.base = w + 1
	c.approach()
	return b
}

// approach moves what is no longer far into the ring, before anything is put there behind it.
func (c *calendar[T]) approach() {
	for len(c.far) > 0 && c.window(c.at(&c.far[0])) < c.base+ringWindows {
		x := c.popFar()
		c.putNear(max(c.window(c.at(&x)), c.base), &x)
	}
}

func (c *calendar[T]) done(b []T) {
	if cap(b) > 0 {
		clear(b)
		c.recycle = append(c.recycle, b[:0])
	}
}

func (c *calendar[T]) putFar(x T) {
	c.seq++
	c.far, c.farSeq = append(c.far, x), append(c.farSeq, c.seq)
	for i := len(c.far) - 1; i > 0; {
		p := (i - 1) / 2
		if !c.farLess(i, p) {
			break
		}
		c.farSwap(i, p)
		i = p
	}
}

func (c *calendar[T]) popFar() T {
	x := c.far[0]
	n := len(c.far) - 1
	c.farSwap(0, n)
	var zero T
	c.far[n] = zero
	c.far, c.farSeq = c.far[:n], c.farSeq[:n]
	for i := 0; ; {
		s := 2*i + 1
		if s >= n {
			break
		}
		if s+1 < n && c.farLess(s+1, s) {
			s++
		}
		if !c.farLess(s, i) {
			break
		}
		c.farSwap(i, s)
		i = s
	}
	return x
}

func (c *calendar[T]) farLess(i, j int) bool {
	a, b := c.at(&c.far[i]), c.at(&c.far[j])
	return a < b || a == b && c.farSeq[i] < c.farSeq[j]
}

func (c *calendar[T]) farSwap(i, j int) {
	c.far[i], c.far[j] = c.far[j], c.far[i]
	c.farSeq[i], c.farSeq[j] = c.farSeq[j], c.farSeq[i]
}

// byTime sorts events by time, and keeps the order of those at the same time.
func byTime(evs []*event) {
	for i := 1; i < len(evs); i++ {
		if i > 64 {
			slices.SortStableFunc(evs, func(a, b *event) int { return int(min(max(a.at-b.at, -1), 1)) })
			return
		}
		for j := i; j > 0 && evs[j].at < evs[j-1].at; j-- {
			evs[j], evs[j-1] = evs[j-1], evs[j]
		}
	}
}
