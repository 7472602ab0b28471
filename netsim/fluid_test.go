package netsim

import (
	"testing"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// A request to the registry, or for a piece, that was on its way when a node died begins no transfer: a dead host has no
// connection into which anybody could send.
func TestNothingFlowsFromOrToTheDead(t *testing.T) {
	const size, late = 1 << 20, 50 * time.Millisecond
	for _, tt := range []struct {
		name     string
		src, dst int32
		kill     int32
		served   bool
	}{
		{"nobody died", 0, 1, 2, true},
		{"the sender died", 0, 1, 0, false},
		{"the receiver died", 0, 1, 1, false},
		{"the registry's client lives", atOrigin, 1, 2, true},
		{"the registry's client died", atOrigin, 1, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := parse(t, "zones: [{name: a, hosts: 3}]\nlayers: [{size: 64MiB}]")
			top := newTopology(s)
			f := newFluid(top, swarm.Time(top.window()))
			f.cmds.put(command{at: swarm.Time(late), key: 1, flow: flow{src: tt.src, dst: tt.dst, part: size, size: size, cap: 1e12}})
			f.kill(tt.kill)
			ended := false
			for w := int64(0); f.now < swarm.Time(time.Second); w++ {
				f.run(w)
			}
			for _, ev := range f.out {
				ended = ended || ev.kind == evServed || ev.kind == evOriginEnd
			}
			if ended != tt.served {
				t.Errorf("the transfer ended: %t, want %t", ended, tt.served)
			}
			if got := f.load.wasted; got != 0 {
				t.Errorf("%d bytes wasted", got)
			}
		})
	}
}
