package exchange

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
)

// Protocol is the id of the control streams.
const Protocol protocol.ID = "/meshd/swarm/1"

// Bounds of a control stream.
const (
	maxQueued   = 2 << 20 // bytes of frames that wait for a slow peer
	dialTimeout = 5 * time.Second
	cardTimeout = 5 * time.Second
)

var (
	errQueueFull = errors.New("control queue is full")
	errMoving    = errors.New("another connection takes the stream over")
)

// outbox is the outbound control stream to a peer: a bounded queue and the goroutine that writes it. It ends when
// the stream fails or has been idle; the next message makes a new one. When there is a new connection to the peer, the stream
// moves there between two messages: the one that it is on may be about to go, as when the mesh key changes.
type outbox struct {
	x    *Exchange
	id   peer.ID
	done chan struct{} // closed when it has ended
	wake chan struct{} // something is queued, or it is to end

	mu     sync.Mutex
	queue  []byte // frames
	closed bool   // takes no more
	moving bool   // to another connection
	err    error  // why it is to be reset
}

// send queues a message to a peer. It never waits: what cannot be queued or delivered is told to the core as a
// lost member.
func (x *Exchange) send(ctx context.Context, to peer.ID, m swarm.Message) {
	frame, err := wire.AppendMessage(nil, m)
	if err != nil {
		log.Errorw("message not sent", "peer", to, "err", err)
		return
	}
	for range 2 { // an outbox may close for idleness between look-up and use
		x.mu.Lock()
		var o *outbox
		if !x.stopped {
			o = x.outboxLocked(ctx, x.remoteLocked(to))
		}
		x.mu.Unlock()
		if o == nil {
			return
		}
		if o.put(frame) {
			return
		}
	}
	x.pending = append(x.pending, swarm.MemberLost{ID: swarm.PeerID(to)})
}

// outboxLocked returns the outbox of a peer, starting it if there is none. The caller holds x.mu. nil after
// stopping has begun.
func (x *Exchange) outboxLocked(ctx context.Context, r *remote) *outbox {
	if r.out == nil {
		o := &outbox{x: x, id: r.id, done: make(chan struct{}), wake: make(chan struct{}, 1)}
		if !x.spawnLocked(func() { o.run(ctx) }) {
			return nil
		}
		r.out = o
	}
	return r.out
}

// put queues a frame. It reports false if the outbox has closed. A full queue resets the stream.
func (o *outbox) put(frame []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	if len(o.queue)+len(frame) > maxQueued {
		o.closed, o.err = true, errQueueFull
		o.poke()
		return true
	}
	o.queue = append(o.queue, frame...)
	o.poke()
	return true
}

func (o *outbox) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// abort has the stream reset.
func (o *outbox) abort() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.closed, o.err = true, errCancelled
		o.poke()
	}
}

// move has the stream closed, when what is queued is written, and opened again on the best connection.
func (o *outbox) move() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.moving = true
	o.poke()
}

// run owns the stream from its dial to its end.
func (o *outbox) run(ctx context.Context) {
	err := o.serve(ctx)
	x := o.x
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	x.mu.Lock()
	if r := x.remotes[o.id]; r != nil && r.out == o {
		r.out = nil
		x.dropIdle(r)
	}
	x.mu.Unlock()
	close(o.done)
	if err != nil && ctx.Err() == nil {
		log.Debugw("control stream broke", "peer", o.id, "err", err)
		x.lost(o.id)
	}
}

func (o *outbox) serve(ctx context.Context) error {
	for {
		if err := o.serveStream(ctx); !errors.Is(err, errMoving) {
			return err
		}
	}
}

// serveStream opens a stream and writes what is queued, until it breaks, is idle, or moves (errMoving).
func (o *outbox) serveStream(ctx context.Context) error {
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	st, err := o.x.host.NewStream(dial, o.id, Protocol)
	cancel()
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	card, err := wire.AppendCard(nil, o.x.ownCard())
	if err == nil {
		err = write(st, card)
	}
	if err != nil {
		_ = st.Reset()
		return err
	}
	gone := make(chan error, 1)
	var reading sync.WaitGroup
	reading.Go(func() { gone <- o.watch(st) })
	err = o.pump(ctx, st, gone)
	if err != nil && !errors.Is(err, errMoving) {
		_ = st.Reset()
	} else {
		_ = st.Close()
		_ = st.SetReadDeadline(time.Now()) // the watcher waits for a peer that has nothing to say
	}
	reading.Wait()
	return err
}

// watch reads the peer's card and then waits for the end of its side, which only a reset brings before ours.
func (o *outbox) watch(st network.Stream) error {
	_ = st.SetReadDeadline(time.Now().Add(cardTimeout))
	card, err := readCard(bufio.NewReaderSize(st, 256))
	if err != nil {
		return err
	}
	o.x.learn(o.id, card)
	_ = st.SetReadDeadline(time.Time{})
	if _, err := st.Read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("peer ended the stream: %w", err)
	}
	return errors.New("peer closed the stream")
}

// pump writes what is queued until the stream is idle, which is no error.
func (o *outbox) pump(ctx context.Context, st network.Stream, gone <-chan error) error {
	idle := time.NewTimer(o.x.cfg.IdleTimeout)
	defer idle.Stop()
	for {
		select {
		case <-o.wake:
		case err := <-gone:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-idle.C:
			if o.closeIdle() {
				return nil
			}
			idle.Reset(o.x.cfg.IdleTimeout)
		}
		batch, err := o.take()
		if err != nil && !errors.Is(err, errMoving) {
			return err
		}
		if len(batch) > 0 {
			_ = st.SetWriteDeadline(time.Now().Add(o.x.cfg.ProgressTimeout))
			if _, err := st.Write(batch); err != nil {
				return fmt.Errorf("write: %w", err)
			}
			idle.Reset(o.x.cfg.IdleTimeout)
		}
		if err != nil {
			return err
		}
	}
}

// take empties the queue. With errMoving, what it returns is the last of this stream.
func (o *outbox) take() ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, err := o.queue, o.err
	o.queue = nil
	if o.moving && err == nil {
		o.moving, err = false, errMoving
	}
	return b, err
}

// closeIdle closes the outbox if nothing is queued.
func (o *outbox) closeIdle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = len(o.queue) == 0
	return o.closed
}

func write(st network.Stream, b []byte) error {
	_ = st.SetWriteDeadline(time.Now().Add(cardTimeout))
	_, err := st.Write(b)
	return err
}

func (x *Exchange) ownCard() wire.Card {
	return wire.Card{Zone: x.cfg.Zone, Seed: x.cfg.Seed, Relay: x.cfg.Relay, DataPort: x.cfg.DataPort}
}

func readCard(r *bufio.Reader) (wire.Card, error) {
	frame, err := wire.ReadFrame(r, nil)
	if err != nil {
		return wire.Card{}, fmt.Errorf("read card: %w", err)
	}
	return wire.DecodeCard(frame)
}
