package gossip

import (
	"container/list"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"
)

const (
	maxBlobs     = 16384 // blobs with known holders; the longest unheard of go first
	maxHolders   = 16    // of one blob
	holdingTTL   = 30 * time.Minute
	importingTTL = time.Minute
	saidWindow   = time.Minute
	saidMax      = 1 << 16 // entries of a window
)

// holdings is who was said to hold or import which blob. It is not safe for concurrent use.
type holdings struct {
	blobs map[digest.Digest]*list.Element // of *blob
	order list.List                       // most recent first
}

type blob struct {
	digest  digest.Digest
	holders []holder
}

type holder struct {
	id      peer.ID
	holding bool
	heard   time.Time
}

func (h *holdings) add(id peer.ID, it item, now time.Time) {
	if h.blobs == nil {
		h.blobs = make(map[digest.Digest]*list.Element)
	}
	e := h.blobs[it.Digest]
	if e == nil {
		if len(h.blobs) >= maxBlobs {
			last := h.order.Back()
			delete(h.blobs, h.order.Remove(last).(*blob).digest)
		}
		e = h.order.PushFront(&blob{digest: it.Digest})
		h.blobs[it.Digest] = e
	}
	h.order.MoveToFront(e)
	b := e.Value.(*blob)
	i := slices.IndexFunc(b.holders, func(x holder) bool { return x.id == id })
	if i < 0 && len(b.holders) >= maxHolders {
		i = 0
		for j, x := range b.holders { // the oldest makes room
			if x.heard.Before(b.holders[i].heard) {
				i = j
			}
		}
	}
	if i < 0 {
		b.holders = append(b.holders, holder{})
		i = len(b.holders) - 1
	}
	b.holders[i] = holder{id: id, holding: it.Holding, heard: now}
}

// of returns who is believed to hold d, those in near first, holders before importers.
func (h *holdings) of(d digest.Digest, now time.Time, near func(peer.ID) (near, known bool)) []peer.ID {
	e := h.blobs[d]
	if e == nil {
		return nil
	}
	var classes [4][]peer.ID
	for _, x := range e.Value.(*blob).holders {
		ttl := importingTTL
		if x.holding {
			ttl = holdingTTL
		}
		isNear, known := near(x.id)
		if !known || now.Sub(x.heard) > ttl {
			continue
		}
		class := 0
		if !isNear {
			class += 2
		}
		if !x.holding {
			class++
		}
		classes[class] = append(classes[class], x.id)
	}
	return slices.Concat(classes[:]...)
}

// holding returns how many of those in near said within a time that they hold d.
func (h *holdings) holding(d digest.Digest, now time.Time, within time.Duration, near func(peer.ID) bool) int {
	e := h.blobs[d]
	if e == nil {
		return 0
	}
	n := 0
	for _, x := range e.Value.(*blob).holders {
		if x.holding && now.Sub(x.heard) < within && near(x.id) {
			n++
		}
	}
	return n
}

// said counts how often a fact was told on a topic within the last one to two windows.
type said struct {
	now, before map[fact]int
	since       time.Time
}

type fact struct {
	backbone bool
	zone     string
	item     item
}

func (s *said) count(f fact, now time.Time) int {
	s.turn(now)
	return s.now[f] + s.before[f]
}

func (s *said) add(f fact, now time.Time) {
	s.turn(now)
	if len(s.now) < saidMax {
		s.now[f]++
	}
}

func (s *said) turn(now time.Time) {
	if age := now.Sub(s.since); s.now == nil || age >= saidWindow {
		s.before = s.now
		if age >= 2*saidWindow {
			s.before = nil
		}
		s.now, s.since = make(map[fact]int), now
	}
}
