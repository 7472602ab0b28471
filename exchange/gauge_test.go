package exchange

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// pauses is a body of which bytes come after a wait, again and again.
type pauses struct {
	wait  time.Duration
	bytes int
}

func (p pauses) Read([]byte) (int, error) {
	time.Sleep(p.wait)
	return p.bytes, nil
}

// A body drips when for four seconds less than 64 KiB/s came of it, and not because this node read no more.
func TestGauge(t *testing.T) {
	for _, c := range []struct {
		name  string
		body  pauses
		idle  time.Duration // of this node, between reads
		drips bool
	}{
		{"16 KiB/s", pauses{62 * time.Millisecond, 1 << 10}, 0, true},
		{"nothing after the head", pauses{time.Hour, 0}, 0, true},
		{"half a second of nothing, again and again", pauses{500 * time.Millisecond, 64 << 10}, 0, false},
		{"a second of nothing, and much", pauses{time.Second, 512 << 10}, 0, false},
		{"100 KiB/s", pauses{10 * time.Millisecond, 1 << 10}, 0, false},
		{"this node reads seldom", pauses{time.Millisecond, 1 << 10}, 3 * time.Second, false},
		{"this node reads slowly", pauses{time.Millisecond, 1 << 10}, 300 * time.Millisecond, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var told []time.Duration
				g := newGauge(swarm.DefaultConfig(), func() { told = append(told, time.Since(began)) })
				body := &moving{c.body, newGrace(0, func() {}), g}
				for time.Since(began) < time.Minute {
					_, _ = body.Read(nil)
					time.Sleep(c.idle)
				}
				g.stop()
				synctest.Wait()
				switch {
				case c.drips && (len(told) != 1 || told[0] != 4*time.Second):
					t.Errorf("told at %v, want once after 4s", told)
				case !c.drips && len(told) > 0:
					t.Errorf("told at %v, want never", told)
				}
			})
		})
	}
}

// drops is a connection whose bytes go out at 16 KiB/s, after those of a handshake.
type drops struct {
	net.Conn
	free *int
}

func (c drops) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		k := min(len(p), 1<<10)
		if *c.free -= k; *c.free < 0 {
			time.Sleep(62 * time.Millisecond)
		}
		k, err = c.Conn.Write(p[:k])
		n, p = n+k, p[k:]
	}
	return n, err
}

// The only peer that has a blob sends it drop by drop. What it drips away is the least of what comes: the origin gives the rest,
// each byte once.
func TestDripperBesideTheOrigin(t *testing.T) {
	data, d := content(8<<20, 77)
	o := newOrigin(data)
	a := startNode(t, nodeConfig{zone: "a", origin: o, listen: func(l net.Listener) net.Listener {
		return &badListener{l, func(c net.Conn) net.Conn {
			free := 8 << 10
			return drops{c, &free}
		}}
	}})
	b := startNode(t, nodeConfig{zone: "a", origin: o, edit: func(c *Config) { c.Swarm.DripTime = 400 * time.Millisecond }})
	mesh(t, a, b)
	a.mustPull(want(d, -1), data)
	eventually(t, "complete", func() bool { _, ok := a.Stat(d); return ok })
	before := o.sent.Load()
	b.mustPull(want(d, int64(len(data))), data)
	st := b.Status()
	again := o.sent.Load() - before
	t.Logf("%d bytes from the origin, %+v, %d for nothing; in quarantine: %v", again, st.BytesIn, st.DuplicateBytes, st.Quarantined)
	if again > int64(len(data)) || again < int64(len(data))-1<<20 {
		t.Errorf("the origin sent %d of %d bytes to the second node", again, len(data))
	}
	if st.DuplicateBytes > 256<<10 {
		t.Errorf("%d bytes came for nothing", st.DuplicateBytes)
	}
	if len(st.Quarantined) != 1 || !strings.Contains(st.Quarantined[0].Why, "drop by drop") {
		t.Errorf("in quarantine: %v", st.Quarantined)
	}
}
