package swarm_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// heap returns the bytes in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A member that claims whatever a frame can name, of digests that it makes up, costs the arbiter bounded memory, and
// others are granted theirs all the same.
func TestFloodOfClaims(t *testing.T) {
	cfg := swarm.DefaultConfig()
	cfg.Self, cfg.Zone = "me", "a"
	core := swarm.New(cfg, 1)
	for _, id := range []swarm.PeerID{"flood", "honest"} {
		core.Step(0, swarm.Member{ID: id, Zone: "a"}, nil)
	}
	claim := func(from swarm.PeerID, d digest.Digest, n uint32) (granted bool) {
		msg := swarm.Claim{Digest: d, Scope: swarm.ScopeOrigin, State: swarm.ClaimWant, Units: []swarm.Units{{Count: n}}}
		for _, a := range core.Step(swarm.Time(time.Second), swarm.Received{From: from, Msg: msg}, nil) {
			if s, ok := a.(swarm.Send); ok {
				v, ok := s.Msg.(swarm.Verdict)
				granted = ok && len(v.Granted) > 0
			}
		}
		return granted
	}
	before := heap()
	for i := range 500 {
		claim("flood", digest.FromString(fmt.Sprint(i)), 1<<20)
	}
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("500 claims of one peer take %d MiB", grown>>20)
	}
	for i := range 500 { // also of digests that the flood was at
		if !claim("honest", digest.FromString(fmt.Sprint(2*i+7)), 1) && 2*i+7 >= 4 {
			t.Fatalf("claim %d of an honest peer is not granted", i)
		}
	}
	for i := range 500 {
		core.Step(swarm.Time(20*time.Second), swarm.Received{From: "flood", Msg: swarm.Claim{
			Digest: digest.FromString(fmt.Sprint(i)), Scope: swarm.ScopeOrigin, State: swarm.ClaimRelease, Units: []swarm.Units{{Count: 1 << 20}},
		}}, nil)
	}
	if !claim("flood", digest.FromString("later"), 1) {
		t.Error("leases that have ended still count")
	}
}

// What a member claims and gives back, or lets end, takes no memory any more, long before its digest is forgotten.
func TestFloodOfClaimsThatEnd(t *testing.T) {
	const units = 1 << 14
	for name, row := range map[string]struct {
		each  time.Duration // a claim
		keeps uint32        // units that it does not give back
	}{
		"given back but one": {time.Millisecond, 1}, "left to end": {time.Second, units},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := swarm.DefaultConfig()
			cfg.Self, cfg.Zone = "me", "a"
			core := swarm.New(cfg, 1)
			core.Step(0, swarm.Member{ID: "flood", Zone: "a"}, nil)
			before := heap()
			for i := range 50 {
				now := swarm.Time(row.each) * swarm.Time(i+1)
				claim := swarm.Claim{Digest: digest.FromString(fmt.Sprint(i)), Scope: swarm.ScopeOrigin, State: swarm.ClaimWant, Units: []swarm.Units{{Count: units}}}
				core.Step(now, swarm.Received{From: "flood", Msg: claim}, nil)
				claim.State, claim.Units = swarm.ClaimRelease, []swarm.Units{{First: row.keeps, Count: units - row.keeps}}
				core.Step(now, swarm.Received{From: "flood", Msg: claim}, nil)
			}
			if grown := heap() - before; grown > 16<<20 {
				t.Errorf("50 claims take %d MiB", grown>>20)
			}
			runtime.KeepAlive(core)
		})
	}
}

// A seed begins only so many sessions for one peer, takes no room on disk before the origin has said that a blob
// exists, and others are served all the same.
func TestFloodOfWants(t *testing.T) {
	cfg := swarm.DefaultConfig()
	cfg.Self, cfg.Zone, cfg.Seed = "me", "a", true
	core := swarm.New(cfg, 1)
	for _, id := range []swarm.PeerID{"flood", "honest"} {
		core.Step(0, swarm.Member{ID: id, Zone: "a"}, nil)
	}
	want := func(from swarm.PeerID, i int) (began bool) {
		msg := swarm.Want{
			Digest: digest.FromString(fmt.Sprint(from, i)), Size: 64 * mib,
			Origin: swarm.OriginRef{Registry: "registry.example", Repository: "team/app"},
		}
		for _, a := range core.Step(swarm.Time(time.Second), swarm.Received{From: from, Msg: msg}, nil) {
			switch a.(type) {
			case swarm.FindProviders:
				began = true
			case swarm.OpenBlob:
				t.Fatal("room for a blob that nobody has seen")
			}
		}
		return began
	}
	began := 0
	for i := range 2000 {
		if want("flood", i) {
			began++
		}
	}
	if began == 0 || began > 16 {
		t.Errorf("%d sessions at once for one peer", began)
	}
	if !want("honest", 0) {
		t.Error("no session for an honest peer")
	}
}
