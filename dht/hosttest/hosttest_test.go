package hosttest

import (
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// ids starts hosts, has the first ping the last, and returns the ids of all.
func ids(t *testing.T) (out []peer.ID) {
	t.Helper()
	hosts, stop := New(t, 3, 100, 10*time.Millisecond)
	for _, h := range hosts {
		out = append(out, h.ID())
	}
	from, to := hosts[0], hosts[2]
	if err := from.Connect(t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()}); err != nil {
		t.Fatal(err)
	}
	if r := <-ping.Ping(t.Context(), from, to.ID()); r.Error != nil || r.RTT < 20*time.Millisecond || r.RTT > 25*time.Millisecond {
		t.Errorf("a ping took %v (%v), want 20 ms and the time that the links take", r.RTT, r.Error)
	}
	for _, h := range hosts {
		h.Close()
	}
	stop()
	return out
}

func TestHostsOfATestAreTheSameEachTime(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	var again [2][]peer.ID
	for i := range again {
		synctest.Test(t, func(t *testing.T) { again[i] = ids(t) })
	}
	if !slices.Equal(again[0], again[1]) {
		t.Errorf("%v, then %v", again[0], again[1])
	}
	if slices.Sort(again[0]); len(slices.Compact(again[0])) != 3 {
		t.Errorf("hosts share ids: %v", again[0])
	}
	if now := runtime.GOMAXPROCS(0); now != procs {
		t.Errorf("%d processors afterwards, there were %d", now, procs)
	}
}
