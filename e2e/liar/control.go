package main

import (
	"bufio"
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
	"github.com/opencontainers/go-digest"
)

const controlProtocol = exchange.Protocol

func (l *liar) card() []byte {
	b, err := wire.AppendCard(nil, wire.Card{Zone: l.zone, Seed: l.seed, DataPort: dataPort})
	if err != nil {
		panic(err)
	}
	return b
}

// listen reads what a node says on a control stream and answers with lies.
func (l *liar) listen(s network.Stream) {
	defer s.Reset() //nolint:errcheck
	r := bufio.NewReader(s)
	if _, err := wire.ReadFrame(r, nil); err != nil {
		return
	}
	if _, err := s.Write(l.card()); err != nil {
		return
	}
	for {
		frame, err := wire.ReadFrame(r, nil)
		if err != nil {
			return
		}
		m, err := wire.DecodeMessage(frame)
		if err != nil {
			return
		}
		for _, answer := range l.answer(m) {
			l.send(s.Conn().RemotePeer(), answer)
		}
	}
}

// answer is what a liar says to a message.
func (l *liar) answer(m swarm.Message) []swarm.Message {
	switch m := m.(type) {
	case swarm.Hello:
		if m.Reply {
			return nil
		}
		return []swarm.Message{l.allOf(m.Digest, true)}
	case swarm.Want:
		return []swarm.Message{l.allOf(m.Digest, false)}
	case swarm.Join:
		return []swarm.Message{
			swarm.Members{Digest: m.Digest, Peers: []swarm.MemberRef{{ID: swarm.PeerID(l.host.ID()), Zone: l.zone}}},
			l.allOf(m.Digest, false),
		}
	case swarm.Claim:
		if m.State != swarm.ClaimWant {
			return nil
		}
		v := swarm.Verdict{Digest: m.Digest, Scope: m.Scope}
		for _, u := range m.Units { // I have them: ask me
			if len(v.Denied) < wire.MaxDenials {
				v.Denied = append(v.Denied, swarm.Denial{Units: u, Holder: swarm.PeerID(l.host.ID()), Done: true})
			}
		}
		return []swarm.Message{v}
	}
	return nil
}

// allOf says that all of a blob is here.
func (l *liar) allOf(d digest.Digest, reply bool) swarm.Message {
	size := l.size(d)
	if l.lie([]string{absurdLengths}) != "" && l.turn.Load()%3 == 0 {
		size = swarm.MaxBlobSize
	}
	h := swarm.Hello{Digest: d, Size: size, Reply: reply}
	if size >= 0 {
		h.Have = swarm.FullBitmap(swarm.LayoutOf(size).Pieces())
	}
	return h
}

// send sends a message on the liar's own stream to a peer.
func (l *liar) send(to peer.ID, m swarm.Message) {
	frame, err := wire.AppendMessage(nil, m)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for range 2 {
		s := l.out[to]
		if s == nil {
			if s, err = l.open(to); err != nil {
				return
			}
			l.out[to] = s
		}
		_ = s.SetWriteDeadline(time.Now().Add(2 * time.Second))
		if _, err := s.Write(frame); err == nil {
			return
		}
		s.Reset() //nolint:errcheck
		delete(l.out, to)
	}
}

// open opens a control stream and exchanges cards.
func (l *liar) open(to peer.ID) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s, err := l.host.NewStream(ctx, to, controlProtocol)
	if err != nil {
		return nil, err
	}
	if _, err := s.Write(l.card()); err != nil {
		s.Reset() //nolint:errcheck
		return nil, err
	}
	return s, nil
}
