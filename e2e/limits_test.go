package e2e

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"
)

// setLimits changes rates of a node by the command line and returns those in effect.
func (n *node) setLimits(t testing.TB, args ...string) map[string]string {
	t.Helper()
	args = append([]string{"limits", "--json", "--admin-addr", n.admin(), "--data-dir", n.dir}, args...)
	out, err := command(meshdBinary(t), args...)
	must(t, err)
	var now map[string]string
	must(t, json.Unmarshal([]byte(out), &now))
	return now
}

// watchRate fails if, while f runs, a count of bytes of a node grows by more than a rate and a twentieth in about a second. It
// returns by how much it grew in all.
func (n *node) watchRate(t testing.TB, rate float64, count func(nodeStatus) int64, f func() error) int64 {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	first := count(n.status(t))
	for {
		begun := time.Now() // the count is taken after this and before the end: the time is too long rather than too short
		before := count(n.status(t))
		select {
		case err := <-done:
			must(t, err)
			return count(n.status(t)) - first
		case <-tick.C:
		}
		moved := float64(count(n.status(t)) - before)
		if took := time.Since(begun).Seconds(); moved > 1.05*rate*took {
			t.Errorf("%.0f bytes in %.3f s, %.3f of the rate", moved, took, moved/rate/took)
		} else {
			t.Logf("%.3f of %.0f bytes/s", moved/rate/took, rate)
		}
	}
}

// Rates hold for all streams of a node together, and change while bytes flow: from the registry to a seed by several pulls
// at once, and from the seed to another node, where the seed's downloads and its messages count as well.
func TestLimitsOfTheHost(t *testing.T) {
	long(t)
	m := newMesh(t, nodeSpec{"east", true}, nodeSpec{"east", false})
	seed, other := m.nodes[0], m.nodes[1]
	img := m.registry.pushImage(t, "library/limited", 90, 8*mib, 9*mib, 10*mib)
	pull := func(n *node) func() error {
		return func() error {
			var wg sync.WaitGroup
			errs := make(chan error, len(img.blobs()))
			for _, x := range img.blobs() {
				wg.Go(func() {
					_, err := httpGet(context.Background(), "http://"+n.mirror()+"/v2/"+img.repo+"/blobs/"+x.Digest.String(), x.Digest)
					errs <- err
				})
			}
			wg.Wait()
			close(errs)
			for err := range errs {
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	if now := seed.setLimits(t); now["download"] != "0" || now["upload"] != "0" || now["origin"] != "0" {
		t.Errorf("limits at the start: %v", now)
	}
	if now := seed.setLimits(t, "--origin", "10MB/s", "--upload", "8MB"); now["origin"] != "10000000/s" || now["upload"] != "8000000/s" {
		t.Errorf("limits now: %v", now)
	}
	const size = 27 * mib
	got := seed.watchRate(t, 10e6, func(s nodeStatus) int64 { return s.BytesIn.Origin }, pull(seed))
	if got < size {
		t.Errorf("%d bytes came from the registry", got)
	}
	got = seed.watchRate(t, 8e6, func(s nodeStatus) int64 { return s.BytesOut.Zone }, func() error {
		changed := make(chan struct{})
		go func() { defer close(changed); other.setLimits(t, "--download", "100MB") }()
		defer func() { <-changed }()
		return pull(other)()
	})
	if got < size {
		t.Errorf("%d bytes went to the other node", got)
	}
}
