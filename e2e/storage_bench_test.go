package e2e

import (
	"testing"

	"github.com/meshd-project/meshd/e2e/table"
)

// BenchmarkSeedStorage pulls a blob of MESHD_STORAGE_MIB (256) through a seed whose bucket is in a real S3 server: cold, with an empty
// disk, so that every byte comes from the bucket, and warm. The reference is a node that has nothing but its disk and the registry.
func BenchmarkSeedStorage(b *testing.B) {
	need(b, "curl", "docker-registry")
	size := setting("MESHD_STORAGE_MIB", 256) * mib
	n := newNetwork(b)
	g := startGateway(b, n)
	r := startRegistry(b, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: b.TempDir(), extra: []string{"--seed-storage", g.url()}}
	m.start(b, nodeSpec{"bucket", true})
	bucket, disk := m.nodes[0], standalone(b, r, r.addr, n, 9)
	x := r.pushBlob(b, "library/stored", 5, int64(size))
	x.data = nil
	url := func(n *node) string { return "http://" + n.mirror() + "/v2/" + x.repo + "/blobs/" + x.hash.String() }
	curl(b, url(bucket))
	bucket.waitWritten(b)
	var cold, warm, origin, local []float64
	for b.Loop() {
		bucket.forget(b)
		sent := r.proxy.counts(b).BlobBytes
		cold = append(cold, curl(b, url(bucket)))
		if sent = r.proxy.counts(b).BlobBytes - sent; sent != 0 {
			b.Fatalf("the registry sent %d bytes", sent)
		}
		warm = append(warm, curl(b, url(bucket)))
		disk.forget(b)
		origin = append(origin, curl(b, url(disk)))
		local = append(local, curl(b, url(disk)))
	}
	b.ReportMetric(0, "ns/op")
	mbs := func(seconds []float64) float64 { return float64(size) / 1e6 / table.Median(seconds) }
	b.ReportMetric(mbs(cold), "cold-MB/s")
	b.ReportMetric(mbs(warm), "warm-MB/s")
	b.ReportMetric(mbs(origin), "registry-MB/s")
	b.ReportMetric(mbs(local), "disk-MB/s")
	table.Add(table.Row{
		What: "seed with a bucket, pull with a cold disk", Unit: "MB/s", Ours: mbs(cold), Reference: mbs(origin), ReferenceName: "the registry",
	})
	table.Add(table.Row{
		What: "seed with a bucket, warm pull", Unit: "MB/s", Ours: mbs(warm), Reference: mbs(local), ReferenceName: "local disk", Goal: table.Goal{AtLeast: 0.8},
	})
}
