package topology

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

const (
	rttWindow   = 8 // rounds
	pingsARound = 3
	eagerRounds = 4                      // on a new connection, at once
	eagerWait   = 200 * time.Millisecond // between those
	pingTimeout = 5 * time.Second
)

// samples are the last rounds to a peer.
type samples struct {
	rounds [rttWindow]time.Duration // the least of each, 0 = none
	count  int                      // all there were
	last   time.Time                // when the last one ended
}

func (s *samples) add(round time.Duration, now time.Time) {
	s.rounds[s.count%rttWindow] = round
	s.count++
	s.last = now
}

// least is the least round of the window, 0 if there is none.
func (s *samples) least() time.Duration {
	var least time.Duration
	for _, d := range s.rounds {
		if d > 0 && (least == 0 || d < least) {
			least = d
		}
	}
	return least
}

// ping measures one round and notes its least RTT.
func (m *Map) ping(ctx context.Context, id peer.ID) {
	least := m.pingRound(ctx, id)
	m.update(id, func(e *entry) {
		e.pinging = false
		wait := m.cfg.PingInterval
		if least > 0 && e.connected {
			e.rtts.add(least, time.Now())
			if e.rtts.count < eagerRounds {
				wait = eagerWait
			}
			m.space.sample(id, e.member.Coord, e.rtts.least(), &e.strikes)
		}
		e.nextPing = time.Now().Add(time.Duration((0.75 + 0.5*rand.Float64()) * float64(wait)))
	})
}

func (m *Map) pingRound(ctx context.Context, id peer.ID) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	var least time.Duration
	n := 0
	for r := range ping.Ping(network.WithNoDial(ctx, "ping"), m.host, id) {
		if r.Error != nil {
			break
		}
		if least == 0 || r.RTT < least {
			least = r.RTT
		}
		if n++; n == pingsARound {
			break
		}
	}
	return least
}
