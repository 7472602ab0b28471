package gossip

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/semaphore"
)

const (
	helloProtocol = "/meshd/hello/3"
	helloTimeout  = 10 * time.Second
	helloTries    = 3
	helloLimit    = 32       // greetings at once
	maxAge        = 4 * 3600 // of a roster entry, in seconds: more than the longest patience
	maxHello      = 64 << 10
	maxRoster     = 256
	rosterRemote  = 48 // of these, kept for other zones
)

// hello is what two nodes tell each other when they meet.
type hello struct {
	self   presence
	roster []rosterEntry
}

type rosterEntry struct {
	presence
	age time.Duration // whole seconds since it was heard
}

func (h hello) encode() []byte {
	b := appendBytes(nil, string(h.self.encode()))
	b = binary.AppendUvarint(b, uint64(len(h.roster)))
	for _, e := range h.roster {
		b = binary.AppendUvarint(b, uint64(e.age/time.Second))
		b = appendBytes(b, string(e.encode()))
	}
	return b
}

func decodeHello(b []byte) (hello, error) {
	r := reader{b: b}
	next := func() (presence, error) {
		raw := r.bytes("presence", maxMessage)
		if r.err != nil {
			return presence{}, r.err
		}
		msg, err := decode(raw)
		p, ok := msg.(presence)
		if err == nil && !ok {
			err = fmt.Errorf("%w: not a presence", errMalformed)
		}
		return p, err
	}
	var h hello
	var err error
	if h.self, err = next(); err != nil {
		return hello{}, err
	}
	for range r.uvarint("roster", maxRoster) {
		e := rosterEntry{age: time.Duration(r.uvarint("age", maxAge)) * time.Second}
		if e.presence, err = next(); err != nil {
			return hello{}, err
		}
		h.roster = append(h.roster, e)
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("bytes left over")
	}
	return h, r.err
}

// connected queues a greeting for a connection that this node dialed; the other side greets the rest.
func (g *Gossip) connected(_ network.Network, c network.Conn) {
	if c.Stat().Direction != network.DirOutbound {
		return
	}
	select {
	case g.greetings <- c:
	default:
		log.Warnw("too many new connections, one is not greeted", "peer", c.RemotePeer())
	}
}

// disconnected makes what the peer said of itself hearsay, once the last connection is gone.
func (g *Gossip) disconnected(n network.Network, c network.Conn) {
	id := c.RemotePeer()
	if n.Connectedness(id) == network.Connected {
		return
	}
	g.limitMu.Lock()
	delete(g.limits, id)
	g.limitMu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.table.members[id]; m != nil && m.direct {
		m.direct = false
		g.tellOf(id, changed)
	}
}

// greet says hello on queued connections until ctx is done.
func (g *Gossip) greet(ctx context.Context) error {
	limit := semaphore.NewWeighted(helloLimit)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-g.greetings:
			if limit.Acquire(ctx, 1) != nil {
				return nil
			}
			wg.Go(func() {
				defer limit.Release(1)
				g.greetPeer(ctx, c)
			})
		}
	}
}

func (g *Gossip) greetPeer(ctx context.Context, c network.Conn) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for try := range helloTries {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		if c.IsClosed() {
			return
		}
		err := g.sayHello(ctx, c.RemotePeer())
		if err == nil {
			return
		}
		log.Debugw("hello failed", "peer", c.RemotePeer(), "err", err)
		wait.Reset(jitter(time.Second << try))
	}
}

// sayHello exchanges hellos on a new stream.
func (g *Gossip) sayHello(ctx context.Context, p peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	s, err := g.host.NewStream(network.WithNoDial(ctx, "hello"), p, helloProtocol)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { s.Reset() }) //nolint:errcheck // nothing to do about it
	defer stop()
	if err := g.writeHello(s); err != nil {
		s.Reset() //nolint:errcheck
		return err
	}
	if err := g.readHello(s); err != nil {
		s.Reset() //nolint:errcheck
		return err
	}
	return s.Close()
}

// handleHello answers a stream of a peer that has dialed this node.
func (g *Gossip) handleHello(s network.Stream) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		s.Reset() //nolint:errcheck
		return
	}
	g.hellos.Add(1)
	g.mu.Unlock()
	defer g.hellos.Done()
	s.SetDeadline(time.Now().Add(helloTimeout)) //nolint:errcheck // the peer's own bound remains
	err := g.readHello(s)
	if err == nil {
		err = g.writeHello(s)
	}
	if err != nil {
		log.Debugw("hello refused", "peer", s.Conn().RemotePeer(), "err", err)
		s.Reset() //nolint:errcheck
		return
	}
	s.Close() //nolint:errcheck
}

func (g *Gossip) writeHello(s network.Stream) error {
	h := hello{self: g.presence(), roster: g.roster(s.Conn().RemotePeer())}
	body := h.encode()
	for len(body) > maxHello { // unusually long addresses
		h.roster = h.roster[:len(h.roster)/2]
		body = h.encode()
	}
	if _, err := s.Write(append(binary.AppendUvarint(nil, uint64(len(body))), body...)); err != nil {
		return err
	}
	return s.CloseWrite()
}

func (g *Gossip) readHello(s network.Stream) error {
	br := bufio.NewReader(s)
	n, err := binary.ReadUvarint(br)
	if err != nil {
		return err
	}
	if n > maxHello {
		return fmt.Errorf("%w: hello of %d bytes", errMalformed, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(br, body); err != nil {
		return err
	}
	h, err := decodeHello(body)
	if err != nil {
		return err
	}
	if h.self.ID != s.Conn().RemotePeer() {
		return errors.New("hello speaks for another peer")
	}
	g.met(h)
	return nil
}

// met takes in a hello.
func (g *Gossip) met(h hello) {
	isConnected := g.host.Network().Connectedness(h.self.ID) == network.Connected
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	h.self.Leaving = false
	h.self.Addrs = g.cfg.AddrFilter(h.self.Addrs)
	if g.table.members[h.self.ID] == nil {
		if gone, removed := g.table.makeRoom(); removed {
			g.emit(event{lost: gone})
		}
	}
	v := g.table.apply(h.self, isConnected, now, 0)
	g.tellOf(h.self.ID, v)
	if v == changed && len(g.table.members) <= presencePerInterval {
		wake(g.wakeTell) // our streams to it are new, or we are; a large mesh knows of us by then
	}
	for _, e := range h.roster {
		age := e.age
		if e.Leaving || age > e.patience() {
			continue
		}
		e.Addrs = g.cfg.AddrFilter(e.Addrs)
		g.tellOf(e.ID, g.table.apply(e.presence, false, now, age))
	}
}

// roster picks members to tell a peer of: of this zone, and seeds and contacts of others.
func (g *Gossip) roster(to peer.ID) []rosterEntry {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	var near, far []rosterEntry
	for id, m := range g.table.members { // map order is the random choice
		e := rosterEntry{presence: m.presence, age: min(now.Sub(m.heard).Truncate(time.Second), maxAge*time.Second)}
		if m.direct {
			e.age = 0
		}
		switch {
		case id == to:
		case m.Zone == g.cfg.Zone && len(near) < maxRoster:
			near = append(near, e)
		case m.Zone != g.cfg.Zone && len(far) < maxRoster && (len(g.table.members) <= maxRoster || g.table.isContact(id)):
			far = append(far, e)
		}
	}
	keep := maxRoster - min(len(far), max(rosterRemote, maxRoster-len(near)))
	near = near[:min(len(near), keep)]
	return append(near, far[:min(len(far), maxRoster-len(near))]...)
}
