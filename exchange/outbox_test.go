package exchange

import (
	"bufio"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
)

// A control stream that moves to another connection loses no message, gives each once and in order, and ends cleanly each
// time: the peer is not lost.
func TestStreamMoves(t *testing.T) {
	const moves, each = 5, 200
	a := startNode(t, nodeConfig{})
	h := newHost(t)
	defer h.Close()
	var mu sync.Mutex
	var got []digest.Digest
	opened, ended := 0, 0
	h.SetStreamHandler(Protocol, func(st network.Stream) {
		mu.Lock()
		opened++
		mu.Unlock()
		n, err := drain(st, func(d digest.Digest) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, d)
		})
		if err != nil {
			return // reset at the end of the test
		}
		mu.Lock()
		defer mu.Unlock()
		ended++
		if n < each && ended <= moves {
			t.Errorf("stream %d ended after %d messages", ended, n)
		}
	})
	if err := a.host.Connect(t.Context(), peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	o := a.outboxLocked(t.Context(), a.remoteLocked(h.ID()))
	a.mu.Unlock()
	var want []digest.Digest
	for i := range moves + 1 {
		for j := range each {
			d := digest.FromString(fmt.Sprint(i, j))
			want = append(want, d)
			frame, err := wire.AppendMessage(nil, swarm.Bye{Digest: d})
			if err != nil {
				t.Fatal(err)
			}
			if !o.put(frame) {
				t.Fatal("the outbox has closed")
			}
		}
		if i < moves {
			o.move()
		}
		eventually(t, "the messages of this stream, and the next", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got) == len(want) && opened == min(i+2, moves+1) && ended == min(i+1, moves)
		})
	}
	if !slices.Equal(got, want) {
		t.Error("the messages came in another order")
	}
}

// drain answers a stream's card and reads its messages to its end.
func drain(st network.Stream, take func(digest.Digest)) (n int, err error) {
	defer st.Close()
	r := bufio.NewReader(st)
	if _, err := readCard(r); err != nil {
		return 0, err
	}
	card, err := wire.AppendCard(nil, wire.Card{})
	if err != nil {
		return 0, err
	}
	if _, err := st.Write(card); err != nil {
		return 0, err
	}
	for ; ; n++ {
		frame, err := wire.ReadFrame(r, nil)
		if err != nil {
			return n, nil
		}
		m, err := wire.DecodeMessage(frame)
		if err != nil {
			return n, err
		}
		take(m.(swarm.Bye).Digest)
	}
}
