package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// BenchmarkPreheat preheats 1 GiB onto 20 nodes in 4 zones, a seed in each: seconds until every node has it, copies that the registry
// sent, and the most copies that crossed into a zone.
func BenchmarkPreheat(b *testing.B) {
	var specs []nodeSpec
	for i := range 20 {
		specs = append(specs, nodeSpec{zone: fmt.Sprint("zone-", i/5), seed: i%5 == 0})
	}
	m := newMesh(b, specs...)
	for i := 0; b.Loop(); i++ {
		img := m.registry.pushImage(b, fmt.Sprint("library/big", i), int64(300+i), 256*mib, 256*mib, 192*mib, 128*mib, 128*mib, 64*mib)
		before, zones := m.registry.proxy.counts(b).BlobBytes, m.intoZones(b)
		start := time.Now()
		j := m.nodes[1].preheat(b, img.repo, "--scope", "all")
		took := time.Since(start)
		if j.State != "succeeded" || j.Bytes != 20*img.size {
			b.Fatalf("%s: %s", j.State, j.Reason)
		}
		worst := 0.0
		for zone, n := range m.intoZones(b) {
			worst = max(worst, float64(n-zones[zone])/float64(img.size))
		}
		b.ReportMetric(took.Seconds(), "s")
		b.ReportMetric(float64(m.registry.proxy.counts(b).BlobBytes-before)/float64(img.size), "origin-copies")
		b.ReportMetric(worst, "zone-copies")
	}
}

// BenchmarkPushToSeeds pushes 256 MiB to a registry that tells the seeds of it: seconds from the end of the push until each of two seeds
// has all of it.
func BenchmarkPushToSeeds(b *testing.B) {
	n := newNetwork(b)
	r := startRegistry(b, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: b.TempDir()}
	pushed := r.guard(b, n, tells(n.host(2)))
	m.extra = []string{"--registry", "hub.example=" + pushed.url() + ",url=http://" + pushed.addr}
	m.answerHarbor(b)
	m.start(b, twoZones...)
	for i := 0; b.Loop(); i++ {
		img, info := newImage(b, fmt.Sprint("prod/app", i), int64(400+i), 128*mib, 64*mib, 64*mib)
		ref, err := name.NewTag(fmt.Sprintf("%s/%s:v1", pushed.addr, info.repo), name.Insecure)
		must(b, err)
		must(b, remote.Write(ref, img))
		start := time.Now()
		for _, s := range []*node{m.nodes[0], m.nodes[2]} {
			s.waitFor(b, "the image that was pushed", 5*time.Minute, func() error {
				if missing := s.lacks(b, info); len(missing) > 0 {
					return fmt.Errorf("it lacks %v", missing)
				}
				return nil
			})
		}
		b.ReportMetric(time.Since(start).Seconds(), "s")
	}
}

// intoZones adds up what crossed into each zone, from the registry or another zone.
func (m *mesh) intoZones(t testing.TB) map[string]int64 {
	t.Helper()
	zones := map[string]int64{}
	for _, n := range m.nodes {
		in := n.status(t).BytesIn
		zones[n.zone] += in.OtherZone + in.Origin
	}
	return zones
}
