package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/exchange/wire"
)

// floods are what a kind does of its own accord, besides answering.
var floods = map[string]func(*liar, context.Context){
	endless:       (*liar).floodControl,
	absurdLengths: (*liar).floodLengths,
	garbage:       (*liar).floodGarbage,
	gossipFlood:   (*liar).floodGossip,
	dhtFlood:      (*liar).floodRecords,
}

func junk(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// everybody calls f with each peer in turn, without end.
func (l *liar) everybody(pause time.Duration, f func(peer.ID)) {
	for {
		for _, id := range l.host.Network().Peers() {
			f(id)
		}
		time.Sleep(pause)
	}
}

// floodControl says the same true-looking thing as fast as it is read.
func (l *liar) floodControl(context.Context) {
	l.everybody(time.Millisecond, func(id peer.ID) {
		for _, d := range l.digests() {
			pieces := uint32(max(1, swarm.LayoutOf(l.size(d)).Pieces()))
			for range 100 {
				l.send(id, swarm.Have{Digest: d, Pieces: []swarm.Units{{First: 0, Count: pieces}}})
			}
		}
		for range 100 { // and of blobs that do not exist
			l.send(id, swarm.Join{Digest: digest.FromBytes(junk(8)), Want: true})
			l.send(id, swarm.Claim{Digest: digest.FromBytes(junk(8)), Scope: swarm.ScopeOrigin, State: swarm.ClaimWant, Units: []swarm.Units{{First: 0, Count: 1 << 16}}})
		}
	})
}

// floodLengths says what is at the edge of what frames can say, and beyond.
func (l *liar) floodLengths(ctx context.Context) {
	frames := [][]byte{
		binary.AppendUvarint(nil, 1<<62),         // a frame of 4 EiB
		binary.AppendUvarint(nil, wire.MaxFrame), // one of 256 KiB that does not come
	}
	l.everybody(50*time.Millisecond, func(id peer.ID) {
		l.send(id, swarm.Hello{Digest: digest.FromBytes(junk(8)), Size: swarm.MaxBlobSize, Want: true, Have: swarm.FullBitmap(swarm.LayoutOf(swarm.MaxBlobSize).Pieces())})
		for _, f := range frames {
			l.raw(ctx, id, controlProtocol, append(l.card(), f...))
		}
		l.raw(ctx, id, helloProtocol, binary.AppendUvarint(nil, 1<<62))
		l.raw(ctx, id, helloProtocol, binary.AppendUvarint(nil, 64<<10))
		l.raw(ctx, id, kadProtocol, binary.AppendUvarint(nil, 1<<40))
	})
}

// Protocols beside the control streams.
const (
	helloProtocol protocol.ID = "/meshd/hello/3"
	kadProtocol   protocol.ID = "/meshd/kad/1.0.0"
	pubsubMesh    protocol.ID = "/meshsub/1.2.0"
)

// floodGarbage writes noise to every protocol and every port.
func (l *liar) floodGarbage(ctx context.Context) {
	l.everybody(20*time.Millisecond, func(id peer.ID) {
		l.raw(ctx, id, controlProtocol, append(l.card(), junk(4<<10)...))
		for _, p := range []protocol.ID{controlProtocol, helloProtocol, kadProtocol, pubsubMesh} {
			l.raw(ctx, id, p, junk(4<<10))
		}
		for _, a := range l.host.Peerstore().Addrs(id) {
			ip, err := a.ValueForProtocol(4) // ip4
			if err != nil {
				continue
			}
			for _, port := range []string{"65003", "65004"} {
				if c, err := net.DialTimeout("tcp", net.JoinHostPort(ip, port), time.Second); err == nil {
					_, _ = c.Write(junk(1 << 10))
					_ = c.Close()
				}
			}
		}
	})
}

// raw writes bytes on a stream of its own, which it leaves open for a second, as if more came.
func (l *liar) raw(ctx context.Context, to peer.ID, p protocol.ID, b []byte) {
	open, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := l.host.NewStream(open, to, p)
	if err != nil {
		return
	}
	_ = s.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = s.Write(b)
	time.AfterFunc(time.Second, func() { _ = s.Reset() })
}

// floodGossip announces blobs that do not exist, as fast as the network takes it.
func (l *liar) floodGossip(context.Context) {
	for {
		for range 1000 {
			l.gossip.Announce(digest.FromBytes(junk(8)), true)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// floodRecords puts itself under keys without end at every peer.
func (l *liar) floodRecords(ctx context.Context) {
	id := []byte(l.host.ID())
	addr := l.host.Addrs()[0].Bytes()
	for {
		for _, to := range l.host.Network().Peers() {
			s, err := l.host.NewStream(ctx, to, kadProtocol)
			if err != nil {
				continue
			}
			_ = s.SetWriteDeadline(time.Now().Add(time.Second))
			for range 500 {
				if _, err := s.Write(addProvider(append([]byte{0x12, 0x20}, junk(32)...), id, addr)); err != nil {
					break
				}
			}
			_ = s.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// addProvider encodes kad-dht's ADD_PROVIDER for a key (a multihash), with its length before it.
func addProvider(key, id, addr []byte) []byte {
	field := func(b []byte, n byte, data []byte) []byte {
		b = append(b, n<<3|2)
		return append(binary.AppendUvarint(b, uint64(len(data))), data...)
	}
	who := field(field(nil, 1, id), 2, addr)
	m := field(field([]byte{1 << 3, 2}, 2, key), 9, who)
	return append(binary.AppendUvarint(nil, uint64(len(m))), m...)
}
