package exchange

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"
)

// inbound is the control stream that a peer opened to us. A peer has one; a second one waits for the end of the
// first, so that messages stay in order.
type inbound struct {
	stream network.Stream
	done   chan struct{} // closed when its reader has ended
}

// A peer may send so many messages a second, more in a burst; who sends more is read more slowly. A piece of the largest
// size at 1 GB/s is told in 120 messages. Long lists count as several.
const (
	maxMessages  = 2000
	messageBurst = 4000
)

// weight is what a message counts for.
func weight(m swarm.Message, frame int) int {
	n := frame >> 10
	var units []swarm.Units
	switch m := m.(type) {
	case swarm.Claim:
		units = m.Units
	case swarm.Have:
		units = m.Pieces
	case swarm.Verdict:
		units = m.Granted
	}
	for _, u := range units {
		n += int(min(u.Count, 1<<20)) >> 8
	}
	return min(1+n, messageBurst)
}

// takeover is how long a second stream of a peer waits for the first to end by itself.
const takeover = 2 * time.Second

// listenStreams accepts control streams until the returned function is called.
func (x *Exchange) listenStreams(ctx context.Context) (stop func()) {
	slots := make(chan struct{}, x.cfg.MaxStreams)
	x.host.SetStreamHandler(Protocol, func(st network.Stream) {
		select {
		case slots <- struct{}{}:
		default:
			log.Warnw("too many control streams", "peer", st.Conn().RemotePeer())
			_ = st.Reset()
			return
		}
		if !x.spawn(func() { defer func() { <-slots }(); x.accept(ctx, st) }) {
			<-slots
			_ = st.Reset()
		}
	})
	n := x.notifiee()
	x.host.Network().Notify(n)
	return func() {
		x.host.RemoveStreamHandler(Protocol)
		x.host.Network().StopNotify(n)
	}
}

// accept reads one inbound stream to its end.
func (x *Exchange) accept(ctx context.Context, st network.Stream) {
	id := st.Conn().RemotePeer()
	in := &inbound{stream: st, done: make(chan struct{})}
	defer close(in.done)
	x.replace(id, in)
	defer context.AfterFunc(ctx, func() { _ = st.Reset() })()
	err := x.receive(ctx, id, st)
	x.mu.Lock()
	if r := x.remotes[id]; r != nil && r.in == in {
		r.in = nil
		x.dropIdle(r)
	}
	x.mu.Unlock()
	if err == nil || ctx.Err() != nil {
		_ = st.Close()
		return
	}
	_ = st.Reset()
	log.Debugw("control stream of peer broke", "peer", id, "err", err)
	x.lost(id)
}

// replace makes in the stream of a peer and waits for the one before it to end.
func (x *Exchange) replace(id peer.ID, in *inbound) {
	x.mu.Lock()
	r := x.remoteLocked(id)
	old := r.in
	r.in = in
	x.mu.Unlock()
	if old == nil {
		return
	}
	select {
	case <-old.done:
	case <-time.After(takeover):
		_ = old.stream.Reset()
		<-old.done
	}
}

// receive exchanges cards and hands the peer's messages to the core. A clean end between two frames is no error.
func (x *Exchange) receive(ctx context.Context, id peer.ID, st network.Stream) error {
	_ = st.SetReadDeadline(time.Now().Add(cardTimeout))
	r := bufio.NewReaderSize(st, 4<<10)
	card, err := readCard(r)
	if err != nil {
		return err
	}
	own, err := wire.AppendCard(nil, x.ownCard())
	if err != nil {
		return err
	}
	if err := write(st, own); err != nil {
		return fmt.Errorf("write card: %w", err)
	}
	x.learn(id, card)
	_ = st.SetReadDeadline(time.Time{}) // a peer may be silent; a dead one loses its connection
	limit := rate.NewLimiter(maxMessages, messageBurst)
	var buf []byte
	for {
		frame, err := wire.ReadFrame(r, buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if cap(frame) <= 4<<10 {
			buf = frame // keep a small one; a large bitmap is rare
		}
		m, err := wire.DecodeMessage(frame)
		if err != nil {
			return err
		}
		if err := limit.WaitN(ctx, weight(m, len(frame))); err != nil {
			return err
		}
		x.introduceBlob(m)
		x.noteRefusal(m, id)
		x.post(swarm.Received{From: swarm.PeerID(id), Msg: m})
	}
}

// introduceBlob tells the core of a blob on disk before a message that may be the first about it.
func (x *Exchange) introduceBlob(m swarm.Message) {
	switch m := m.(type) {
	case swarm.Hello:
		x.offer(m.Digest)
	case swarm.Join:
		x.offer(m.Digest)
	case swarm.Claim:
		x.offer(m.Digest)
	case swarm.Want:
		x.offer(m.Digest)
	}
}

// offer tells the core that a blob is on disk, if it is. The core may have forgotten it since it was told last.
func (x *Exchange) offer(d digest.Digest) {
	if s := x.session(d); s != nil {
		s.offer(x)
		return
	}
	info, err := x.store.Stat(d)
	if err != nil || !info.Complete {
		return
	}
	l := swarm.LayoutOf(info.Size)
	if info.PieceSize == l.PieceSize {
		x.post(swarm.Held{Digest: d, Size: info.Size, Have: swarm.FullBitmap(l.Pieces())})
	}
}

// noteRefusal remembers why a seed could not fetch a blob, to tell local readers should nobody else have it.
func (x *Exchange) noteRefusal(m swarm.Message, from peer.ID) {
	refuse, ok := m.(swarm.Refuse)
	if !ok {
		return
	}
	if s := x.session(refuse.Digest); s != nil {
		s.mu.Lock()
		s.refused = &RefusedError{Digest: refuse.Digest, Seed: from, Kind: refuse.Kind}
		s.mu.Unlock()
	}
}
