package swarm_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// BenchmarkStep measures one piece's life in a blob of 10,000 pieces among 200 neighbours that have all of it: a Have
// from a neighbour, and the piece that answers a request with the choice of the next.
func BenchmarkStep(b *testing.B) {
	const peers, size = 200, 10_000 * swarm.MaxPieceSize
	d := digest.FromString("big")
	pieces := swarm.LayoutOf(size).Pieces()
	cfg := swarm.DefaultConfig()
	cfg.Self, cfg.Zone, cfg.Neighbours = "me", "a", peers
	var core *swarm.Core
	var now swarm.Time
	var out []swarm.Action
	var asked []swarm.RequestPiece
	step := func(ev swarm.Event) {
		now += 1000
		out = core.Step(now, ev, out[:0])
		for _, a := range out {
			if r, ok := a.(swarm.RequestPiece); ok {
				asked = append(asked, r)
			}
		}
	}
	start := func() {
		core, asked = swarm.New(cfg, 1), asked[:0]
		for i := range peers {
			step(swarm.Member{ID: swarm.PeerID(fmt.Sprint("p", i)), Zone: "a"})
		}
		step(swarm.Wanted{Digest: d, Size: size, Class: swarm.Background})
		step(swarm.Held{Digest: d, Size: size, Have: swarm.NewBitmap(pieces)})
		for i := range peers {
			step(swarm.Received{From: swarm.PeerID(fmt.Sprint("p", i)), Msg: swarm.Hello{Digest: d, Size: size, Have: swarm.FullBitmap(pieces)}})
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if len(asked) == 0 {
			b.StopTimer()
			start()
			b.StartTimer()
		}
		r := asked[0]
		asked = asked[1:]
		step(swarm.PieceArrived{Digest: d, Piece: r.Piece, From: r.To, Took: 10 * time.Millisecond})
		i++
		step(swarm.Received{From: swarm.PeerID(fmt.Sprint("p", i%peers)), Msg: swarm.Have{Digest: d, Pieces: []swarm.Units{{First: uint32(i % pieces), Count: 1}}}})
	}
}
