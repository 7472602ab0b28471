package swarm_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/swarm"
)

// heir is a seed beside two others. One is arbiter of the blob's only stripe and dies, the other brings the stripe in.
type heir struct {
	core *swarm.Core
	d    digest.Digest
	now  swarm.Time
	acts []swarm.Action
}

// newHeir returns a seed that wants a blob and was denied its stripe, a second ago but for a hundredth, by the arbiter; nil
// if the digest makes another seed the arbiter.
func newHeir(t *testing.T, blob int) *heir {
	t.Helper()
	cfg := swarm.DefaultConfig()
	cfg.Self, cfg.Zone, cfg.Seed = "heir", "a", true
	h := &heir{core: swarm.New(cfg, 1), d: digest.FromString(fmt.Sprint("blob ", blob)), now: swarm.Time(time.Second)}
	for _, id := range []swarm.PeerID{"heir", "arbiter", "holder"} {
		h.step(swarm.Member{ID: id, Zone: string(id[:1]), Seed: true})
	}
	const size = 16 * mib
	h.step(swarm.Wanted{Digest: h.d, Size: size, Origin: swarm.OriginRef{Registry: "registry.example", Repository: "app"}, Class: swarm.Foreground})
	h.step(swarm.Reading{Digest: h.d, Reader: 1, End: -1})
	h.step(swarm.Held{Digest: h.d, Size: size, Have: swarm.NewBitmap(swarm.LayoutOf(size).Pieces())})
	h.step(swarm.ProvidersFound{Digest: h.d, Done: true})
	if !h.pass(cfg.Discover+100*time.Millisecond, func(a swarm.Action) bool {
		s, _ := a.(swarm.Send)
		cl, ok := s.Msg.(swarm.Claim)
		return ok && s.To == "arbiter" && cl.Scope == swarm.ScopeOrigin && cl.State == swarm.ClaimWant
	}) {
		return nil
	}
	stripe := swarm.Units{First: 0, Count: 1}
	h.step(swarm.Received{From: "arbiter", Msg: swarm.Verdict{Digest: h.d, Scope: swarm.ScopeOrigin, Denied: []swarm.Denial{{Units: stripe, Holder: "holder"}}}})
	if h.pass(cfg.ClaimRetry-10*time.Millisecond, fetches) {
		t.Fatal("what was denied is fetched")
	}
	h.step(swarm.MemberLost{ID: "arbiter"})
	return h
}

func fetches(a swarm.Action) bool { _, ok := a.(swarm.FetchOrigin); return ok }

func (h *heir) step(ev swarm.Event) {
	h.acts = append(h.acts, h.core.Step(h.now, ev, nil)...)
}

// pass lets time go on until one of the actions since the last call is the one looked for, and reports whether it came.
func (h *heir) pass(d time.Duration, sought func(swarm.Action) bool) bool {
	for end := h.now.Add(d); ; h.step(swarm.Tick{}) {
		for _, a := range h.acts {
			if sought(a) {
				h.acts = nil
				return true
			}
		}
		h.acts = nil
		if h.now >= end {
			return false
		}
		h.now = h.now.Add(5 * time.Millisecond)
	}
}

// An arbiter of the origin dies. Who is next in rank, and was about to ask for a stripe again, first hears from the one
// that brings it in; a stripe of which nobody says so is brought in after Config.Handover.
func TestAnArbiterDiesAndItsGrantsDoNot(t *testing.T) {
	const told = 30 * time.Millisecond // a round trip between zones
	handover := swarm.DefaultConfig().Handover
	heirs := 0
	for blob := range 24 { // of other ranks each time
		h := newHeir(t, blob)
		if h == nil {
			continue
		}
		lost := h.now
		if !h.pass(handover+100*time.Millisecond, fetches) {
			continue // the holder is next in rank
		}
		heirs++
		if waited := h.now.Sub(lost); waited < handover {
			t.Errorf("blob %d: the origin is asked %v after the loss of the arbiter, before %v", blob, waited, handover)
		}
		h = newHeir(t, blob)
		early := h.pass(told, fetches)
		h.step(swarm.Received{From: "holder", Msg: swarm.Claim{Digest: h.d, Scope: swarm.ScopeOrigin, State: swarm.ClaimHeld, Units: []swarm.Units{{First: 0, Count: 1}}}})
		if early || h.pass(time.Second, fetches) {
			t.Errorf("blob %d: a stripe that another brings in is read again", blob)
		}
	}
	if heirs == 0 {
		t.Fatal("the heir is never next in rank")
	}
}
