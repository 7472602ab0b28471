package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

const mib = 1 << 20

// maxCopies is how many times the registry may send an image: once, and a little for rounding.
const maxCopies = 1.01

// twoZones are four nodes in two zones with a seed in each.
var twoZones = []nodeSpec{{"east", true}, {"east", false}, {"west", true}, {"west", false}}

// The main job: dockerd, crane and skopeo pull one image through four nodes at once, and the registry sends it once.
func TestImageThroughMesh(t *testing.T) {
	long(t)
	need(t, "skopeo")
	m := newMesh(t, twoZones...)
	d := startDocker(t, m.nodes[1].mirror())
	img := m.registry.pushImage(t, "library/big", 1, 64*mib, 40*mib, 24*mib, 8*mib, 1*mib)
	pull := func() {
		t.Helper()
		start := time.Now()
		atOnce(t,
			func() error { return cranePull(t, m.nodes[0].mirror(), img) },
			func() error { return d.pull(img) },
			func() error { return skopeoPull(t, m.nodes[2].mirror(), img) },
			func() error { return cranePull(t, m.nodes[3].mirror(), img) },
		)
		t.Logf("four pulls took %v", time.Since(start).Round(time.Millisecond))
	}
	pull()
	m.checkCopies(t, img.size, maxCopies)
	in := m.bytesIn(t)
	peers := in.Zone + in.OtherZone
	t.Logf("from peers: %.0f %% of %d bytes", 100*float64(peers)/float64(in.network()), in.network())
	if float64(peers) <= 0.5*float64(in.network()) {
		t.Errorf("%d of %d bytes came from peers, want more than half", peers, in.network())
	}
	m.logZones(t, img.size)

	// A second pull costs nothing on the network.
	sent := m.registry.proxy.counts(t).BlobBytes
	must(t, d.remove(img))
	pull()
	if more := m.registry.proxy.counts(t).BlobBytes - sent; more != 0 {
		t.Errorf("the second pull took %d bytes of blobs from the registry", more)
	}
	if more := m.bytesIn(t).minus(in).network(); more != 0 {
		t.Errorf("the second pull took %d bytes over the network", more)
	}
	for _, n := range m.nodes {
		if err := n.terminate(t, time.Minute); err != nil {
			t.Errorf("%s: exit after SIGTERM: %v", n.name, err)
		}
	}
}

// checkCopies compares what the registry sent so far with the size of the content.
func (m *mesh) checkCopies(t testing.TB, size int64, limit float64) {
	t.Helper()
	c := m.registry.proxy.counts(t)
	copies := float64(c.BlobBytes) / float64(size)
	t.Logf("origin copies %.4f (%d bytes in %d requests, content %d)", copies, c.BlobBytes, c.BlobRequests, size)
	if copies > limit {
		t.Errorf("the registry sent %.3f copies, want at most %.2f", copies, limit)
	}
	if copies < 1 {
		t.Errorf("the registry sent %.3f copies: the count misses something", copies)
	}
}

// logZones shows how many copies crossed into each zone.
func (m *mesh) logZones(t testing.TB, size int64) {
	t.Helper()
	zones := map[string]int64{}
	for _, n := range m.nodes {
		if n.running() {
			in := n.status(t)
			zones[n.zone] += in.BytesIn.OtherZone + in.BytesIn.Origin
			t.Logf("%s %s seed=%v: in %+v, duplicate %d, origin requests %d", n.name, n.zone, n.seed, in.BytesIn, in.DuplicateBytes, in.OriginRequests)
		}
	}
	for zone, n := range zones {
		t.Logf("copies into %s: %.3f", zone, float64(n)/float64(size))
	}
}

// A node and then a seed die in the middle of the pull; the others finish as if nothing had happened.
func TestDeathsMidPull(t *testing.T) {
	long(t)
	m := newMesh(t, twoZones...)
	img := m.registry.pushImage(t, "library/big", 2, 64*mib, 40*mib, 24*mib, 8*mib)
	m.registry.proxy.behave(t, behaviour{Rate: 25 * mib}) // about 5 s
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	doomed, doom := context.WithCancel(ctx)
	defer doom()
	for _, n := range []*node{m.nodes[0], m.nodes[3]} {
		go func() { _ = httpPull(doomed, n.mirror(), img) }()
	}
	atOnce(t,
		func() error { return httpPull(ctx, m.nodes[1].mirror(), img) },
		func() error { return httpPull(ctx, m.nodes[2].mirror(), img) },
		func() error {
			if err := m.waitSent(ctx, t, img.size*3/10); err != nil {
				return err
			}
			m.nodes[3].kill() // not a seed
			if err := m.waitSent(ctx, t, img.size*6/10); err != nil {
				return err
			}
			m.nodes[0].kill() // a seed
			return nil
		},
	)
	// What only the dead seed held has to be sent again: at most what it had read and not yet given on.
	m.checkCopies(t, img.size, 1.25)
	m.logZones(t, img.size)
}

// waitSent waits until the registry has sent so many bytes.
func (m *mesh) waitSent(ctx context.Context, t testing.TB, bytes int64) error {
	for m.registry.proxy.counts(t).BlobBytes < bytes {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the registry has not sent %d bytes: %w", bytes, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// Eight cold nodes want one blob within 100 ms: the registry sends it once, with seeds and without.
func TestFlashCrowd(t *testing.T) {
	long(t)
	for _, row := range []struct {
		name  string
		seeds int
	}{{"one seed per zone", 1}, {"no seed", 0}} {
		t.Run(row.name, func(t *testing.T) {
			var specs []nodeSpec
			for i := range 8 {
				specs = append(specs, nodeSpec{zone: []string{"east", "west"}[i%2], seed: i/2 < row.seeds})
			}
			m := newMesh(t, specs...)
			b := m.registry.pushBlob(t, "library/crowd", 3, 64*mib)
			pulls := make([]func() error, 0, len(m.nodes))
			start := time.Now()
			for _, n := range m.nodes {
				pulls = append(pulls, func() error {
					ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
					defer cancel()
					_, err := httpGet(ctx, "http://"+n.mirror()+"/v2/"+b.repo+"/blobs/"+b.hash.String(), b.hash)
					return err
				})
			}
			atOnce(t, pulls...)
			t.Logf("eight pulls took %v", time.Since(start).Round(time.Millisecond))
			m.checkCopies(t, int64(len(b.data)), maxCopies)
			m.logZones(t, int64(len(b.data)))
		})
	}
}

// SIGKILL in the middle of a pull: the node comes back, finds the mesh again, trusts nothing wrong, and fetches only the rest.
func TestKillAndRestart(t *testing.T) {
	long(t)
	m := newMesh(t, twoZones[:2]...)
	b := m.registry.pushBlob(t, "library/restart", 4, 64*mib)
	m.registry.proxy.behave(t, behaviour{Rate: 20 * mib})
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	url := func(n *node) string { return "http://" + n.mirror() + "/v2/" + b.repo + "/blobs/" + b.hash.String() }
	n := m.nodes[1]
	go func() { _, _ = httpGet(ctx, url(n), b.hash) }()
	must(t, m.waitSent(ctx, t, 32*mib))
	n.kill()
	must(t, os.Remove(m.bootstrap())) // the way back in is what the node remembers
	n.start(t)
	m.waitJoined(t)
	_, err := httpGet(ctx, url(n), b.hash)
	must(t, err)
	m.checkCopies(t, int64(len(b.data)), maxCopies)
}

// SIGTERM lets a running answer end before the node does.
func TestDrain(t *testing.T) {
	long(t)
	m := newMesh(t, nodeSpec{"east", true})
	b := m.registry.pushBlob(t, "library/drain", 5, 16*mib)
	m.registry.proxy.behave(t, behaviour{Rate: 8 * mib}) // about 2 s
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	n := m.nodes[0]
	pulled := make(chan error, 1)
	go func() {
		_, err := httpGet(ctx, "http://"+n.mirror()+"/v2/"+b.repo+"/blobs/"+b.hash.String(), b.hash)
		pulled <- err
	}()
	must(t, m.waitSent(ctx, t, 4*mib))
	if err := n.terminate(t, time.Minute); err != nil {
		t.Errorf("exit after SIGTERM: %v", err)
	}
	if err := <-pulled; err != nil {
		t.Errorf("the pull that ran when SIGTERM came: %v", err)
	}
}

// A second signal kills a node that drains.
func TestSecondSignalKills(t *testing.T) {
	long(t)
	m := newMesh(t, nodeSpec{"east", true})
	b := m.registry.pushBlob(t, "library/slow", 6, 16*mib)
	m.registry.proxy.behave(t, behaviour{Rate: 1 * mib})
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	n := m.nodes[0]
	go func() {
		_, _ = httpGet(ctx, "http://"+n.mirror()+"/v2/"+b.repo+"/blobs/"+b.hash.String(), b.hash)
	}()
	must(t, m.waitSent(ctx, t, 1*mib))
	must(t, n.cmd.Process.Signal(syscall.SIGTERM))
	n.waitFor(t, "draining", time.Minute, func() error {
		if n.ready() == nil {
			return errors.New("it is ready")
		}
		return nil
	})
	for tries := 0; n.running(); tries++ { // one that comes with the first counts as one with it
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-n.ended:
		case <-time.After(100 * time.Millisecond):
		}
		if tries == 600 {
			t.Fatal("the second signal did not end the node")
		}
	}
	var exit *exec.ExitError
	if !errors.As(n.err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM { // a node that has drained ends by itself
		t.Errorf("the second signal did not kill the node, it ended by itself: %v", n.err)
	}
}
