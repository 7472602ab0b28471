package exchange

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/pace"
	"golang.org/x/time/rate"
)

// slowConn reads no faster than its limit: it is a node whose way in is narrow.
type slowConn struct {
	net.Conn
	limit *rate.Limiter
}

func (c slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), 16<<10)])
	_ = c.limit.WaitN(context.Background(), n)
	return n, err
}

type slowTransport struct {
	Transport
	limit *rate.Limiter
}

func (t slowTransport) DialContext(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := t.Transport.DialContext(ctx, addr)
	return slowConn{conn, t.limit}, err
}

// A zone of six pulls what another zone holds while one of its importers is slow or dies: the others take over within
// seconds, and the zone still brings in each byte about once.
func TestImporterIsTakenOver(t *testing.T) {
	for _, row := range []struct {
		name   string
		edit   func(*Config) // of the first node of the zone
		dies   bool
		copies float64 // into the zone, at most
		within time.Duration
	}{
		{name: "all well", copies: 1.02, within: 60 * time.Second},
		{name: "slow", copies: 1.25, within: 60 * time.Second, edit: func(c *Config) {
			c.Transport = slowTransport{c.Transport, rate.NewLimiter(100<<10, 16<<10)}
		}},
		{name: "gone", copies: 1.25, within: 60 * time.Second, dies: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			if testing.Short() && row.edit != nil {
				t.Skip("ten seconds of waiting")
			}
			data, d := content(24<<20, 50)
			o := newOrigin(data)
			holder := startNode(t, nodeConfig{zone: "a", seed: true, origin: o, edit: func(c *Config) { c.Limits = pace.NewLimits(0, 24<<20, 0) }})
			all := []*node{holder}
			for i := range 6 {
				c := nodeConfig{zone: "b", origin: newOrigin()}
				if i == 0 {
					c.edit = row.edit
				}
				all = append(all, startNode(t, c))
			}
			mesh(t, all...)
			holder.mustPull(want(d, -1), data)
			victim, zone := all[1], all[2:]
			began := time.Now()
			victimDone := make(chan struct{})
			go func() { defer close(victimDone); _, _ = victim.pull(want(d, int64(len(data)))) }()
			if row.dies {
				go func() {
					for victim.Status().BytesIn.OtherZone < 1<<20 && time.Since(began) < row.within {
						time.Sleep(5 * time.Millisecond)
					}
					victim.stop()
				}()
			}
			pullAll(zone, want(d, int64(len(data))), data)
			took := time.Since(began)
			in := victim.Status().BytesIn.OtherZone
			share := fmt.Sprintf("%.3f", float64(in)/float64(len(data)))
			for _, n := range zone {
				in += n.Status().BytesIn.OtherZone
			}
			imported := float64(in) / float64(len(data))
			t.Logf("%v, %.3f copies came into the zone, %s of them to the victim", took, imported, share)
			if took > row.within {
				t.Errorf("it took %v, want at most %v", took, row.within)
			}
			if imported > row.copies && !underRace {
				t.Errorf("%.3f copies came into the zone, want at most %.2f", imported, row.copies)
			}
			if o.sent.Load() != int64(len(data)) {
				t.Errorf("origin sent %s copies", copies(o, data))
			}
			victim.stop()
			<-victimDone
		})
	}
}
