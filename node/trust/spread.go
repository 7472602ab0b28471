package trust

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	protocolID      = "/meshd/revoked/1"
	exchangeTimeout = 5 * time.Second
	again           = time.Minute // between two looks at a peer at random
	maxHandled      = 16          // streams of others at once
	maxWaiting      = 1024        // connections to exchange lists over
	spreaders       = 8
)

// Run exchanges lists with the peers of h, and closes connections to those who are not admitted, until ctx ends. gone is
// told of each peer that was cut.
func (g *Gate) Run(ctx context.Context, h host.Host, gone func(peer.ID)) error {
	g.mu.Lock()
	g.cut = func() { g.cutFrom(h, gone) }
	g.mu.Unlock()
	g.cutFrom(h, gone)
	if g.operator == nil {
		<-ctx.Done()
		return nil
	}
	queue := make(chan peer.ID, maxWaiting)
	offer := func(p peer.ID) {
		select {
		case queue <- p:
		default: // the look at a peer at random makes up for it
		}
	}
	notifiee := &network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		if c.Stat().Direction == network.DirOutbound {
			offer(c.RemotePeer())
		}
	}}
	h.Network().Notify(notifiee)
	defer h.Network().StopNotify(notifiee)
	stop := g.listen(ctx, h)
	defer stop()
	for _, p := range h.Network().Peers() {
		offer(p)
	}
	var workers sync.WaitGroup
	defer workers.Wait()
	for range spreaders {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case p := <-queue:
					if err := g.exchange(ctx, h, p); err != nil {
						log.Debugw("no exchange of revocations", "peer", p, "err", err)
					}
				}
			}
		})
	}
	look := time.NewTicker(again)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.changed:
			for _, p := range h.Network().Peers() {
				offer(p)
			}
		case <-look.C:
			if peers := h.Network().Peers(); len(peers) > 0 {
				offer(peers[rand.IntN(len(peers))])
			}
		}
	}
}

// cutFrom closes connections to those who are not admitted.
func (g *Gate) cutFrom(h host.Host, gone func(peer.ID)) {
	list, _ := g.Revoked()
	for _, p := range list.Peers {
		if p != g.self {
			gone(p)
		}
	}
	for _, p := range h.Network().Peers() {
		if !g.Admits(p) {
			gone(p)
			h.Network().ClosePeer(p) //nolint:errcheck // it is gone either way
		}
	}
}

// listen answers others; the function that it returns waits for the last answer.
func (g *Gate) listen(ctx context.Context, h host.Host) (stop func()) {
	slots := make(chan struct{}, maxHandled)
	var mu sync.Mutex
	var handlers sync.WaitGroup
	stopped := false
	h.SetStreamHandler(protocolID, func(s network.Stream) {
		mu.Lock()
		if stopped {
			mu.Unlock()
			s.Reset() //nolint:errcheck // nobody waits for it
			return
		}
		handlers.Add(1)
		mu.Unlock()
		defer handlers.Done()
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			s.Reset() //nolint:errcheck // it asks again
			return
		}
		if err := g.swap(ctx, s, false); err != nil {
			log.Debugw("no exchange of revocations", "peer", s.Conn().RemotePeer(), "err", err)
		}
	})
	return func() {
		h.RemoveStreamHandler(protocolID)
		mu.Lock()
		stopped = true
		mu.Unlock()
		handlers.Wait()
	}
}

// exchange gives a peer this node's list and takes the peer's.
func (g *Gate) exchange(ctx context.Context, h host.Host, p peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	s, err := h.NewStream(network.WithNoDial(ctx, "revocations"), p, protocolID)
	if err != nil {
		return err
	}
	return g.swap(ctx, s, true)
}

// swap sends one frame and reads one, in the order that the role gives, and ends the stream.
func (g *Gate) swap(ctx context.Context, s network.Stream, asker bool) (err error) {
	stop := context.AfterFunc(ctx, func() { s.Reset() }) //nolint:errcheck // it only unblocks
	defer stop()
	defer func() {
		if err != nil {
			s.Reset() //nolint:errcheck // the first error counts
		}
	}()
	if err := s.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		return err
	}
	_, mine := g.Revoked()
	if asker {
		if err := writeFrame(s, mine); err != nil {
			return err
		}
	}
	theirs, err := readFrame(s)
	if err != nil {
		return err
	}
	if !asker {
		if err := writeFrame(s, mine); err != nil {
			return err
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	if len(theirs) == 0 {
		return nil
	}
	if err := g.Take(theirs); err != nil && !errors.Is(err, ErrOld) {
		log.Warnw("a peer's revocations do not count", "peer", s.Conn().RemotePeer(), "err", err)
	}
	return nil
}

func writeFrame(w io.Writer, data []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxList {
		return nil, fmt.Errorf("%w: %d bytes", ErrList, n)
	}
	data := make([]byte, n)
	_, err := io.ReadFull(r, data)
	return data, err
}
