package swarm_test

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// A session that is given up while the store still makes room for it leaves nothing behind: the next one has the blob opened
// again. It once waited for the answer to a question that had been dropped.
func TestGivenUpWhileOpening(t *testing.T) {
	cfg := swarm.DefaultConfig()
	cfg.Self, cfg.Zone, cfg.Seed = "me", "a", true
	core := swarm.New(cfg, 1)
	d := digest.FromString("slow disk")
	opened, gaveUp := 0, 0
	step := func(now time.Duration, ev swarm.Event) {
		for _, a := range core.Step(swarm.Time(now), ev, nil) {
			switch a.(type) {
			case swarm.OpenBlob:
				opened++
			case swarm.GiveUp:
				gaveUp++
			}
		}
	}
	want := swarm.Wanted{Digest: d, Size: 8 << 20, Origin: swarm.OriginRef{Registry: "r", Repository: "x"}, Class: swarm.Foreground}
	step(0, want)
	for at := time.Second; at <= cfg.Linger+time.Second; at += time.Second { // nobody reads
		step(at, swarm.Tick{})
	}
	if opened != 1 || gaveUp != 1 {
		t.Fatalf("opened %d times and given up %d times, want once each", opened, gaveUp)
	}
	step(cfg.Linger+2*time.Second, want)
	if opened != 2 {
		t.Error("the next session does not have the blob opened")
	}
}
