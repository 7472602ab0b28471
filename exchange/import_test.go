package exchange

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/meshd-project/meshd/dht/hosttest"
	"github.com/meshd-project/meshd/exchange/pace"
)

// A zone of six pulls what another zone holds while one of its importers is slow or dies: the others take over within
// seconds, and the zone still brings in each byte about once.
func TestImporterIsTakenOver(t *testing.T) {
	for _, row := range []struct {
		name   string
		in     int // bytes per second that the first node of the zone receives, 0 for no bound
		dies   bool
		copies float64 // into the zone, at most
		within time.Duration
	}{
		{name: "all well", copies: 1.02, within: 2 * time.Second},
		{name: "slow", copies: 1.25, within: 20 * time.Second, in: 100 << 10},
		{name: "gone", copies: 1.25, within: 10 * time.Second, dies: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { takenOver(t, row.in, row.dies, row.copies, row.within) })
		})
	}
}

// simulated returns hosts on a simulated network, and one for their data ports; call it within a bubble, before the nodes
// are started.
func simulated(t *testing.T, n int) ([]host.Host, *hosttest.Ports) {
	t.Helper()
	hosts, quit := hosttest.New(t, n, 1000, time.Millisecond)
	t.Cleanup(func() {
		for _, h := range hosts {
			_ = h.Close()
		}
		quit()
	})
	return hosts, hosttest.NewPorts()
}

func takenOver(t *testing.T, in int, dies bool, most float64, within time.Duration) {
	data, d := content(24<<20, 50)
	o := newOrigin(data)
	hosts, ports := simulated(t, 7)
	var all []*node
	for i, h := range hosts {
		c := nodeConfig{zone: "b", origin: newOrigin(), host: h, port: ports.Listen(fmt.Sprint("node", i))}
		switch i {
		case 0:
			c.zone, c.seed, c.origin = "a", true, o
			c.edit = func(c *Config) { c.Limits = pace.NewLimits(0, 24<<20, 0) }
		case 1:
			if in > 0 {
				c.port.NarrowIn(in)
			}
		}
		all = append(all, startNode(t, c))
	}
	mesh(t, all...)
	holder, victim, zone := all[0], all[1], all[2:]
	holder.mustPull(want(d, -1), data)
	began := time.Now()
	victimDone := make(chan struct{})
	go func() { defer close(victimDone); _, _ = victim.pull(want(d, int64(len(data)))) }()
	if dies {
		go func() {
			for victim.Status().BytesIn.OtherZone < 1<<20 && time.Since(began) < within {
				time.Sleep(5 * time.Millisecond)
			}
			victim.stop()
		}()
	}
	pullAll(zone, want(d, int64(len(data))), data)
	took := time.Since(began)
	imported := float64(victim.Status().BytesIn.OtherZone) / float64(len(data))
	share := imported
	for _, n := range zone {
		imported += float64(n.Status().BytesIn.OtherZone) / float64(len(data))
	}
	t.Logf("%v, %.3f copies came into the zone, %.3f of them to the victim", took, imported, share)
	if took > within {
		t.Errorf("it took %v, want at most %v", took, within)
	}
	if imported > most {
		t.Errorf("%.3f copies came into the zone, want at most %.2f", imported, most)
	}
	if o.sent.Load() != int64(len(data)) {
		t.Errorf("origin sent %s copies", copies(o, data))
	}
	victim.stop()
	<-victimDone
}
