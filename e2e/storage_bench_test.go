package e2e

import (
	"fmt"
	"io"
	"testing"
	"time"

	objects "gocloud.dev/blob"
	_ "gocloud.dev/blob/s3blob"

	"github.com/meshd-project/meshd/e2e/table"
)

// BenchmarkSeedStorage pulls a blob of MESHD_STORAGE_MIB (256) through a seed whose bucket is in a real S3 server: cold, with an empty
// disk, so that every byte comes from the bucket, and warm. The reference is a node that has nothing but its disk and the registry.
// Both are alone: one that has a mesh to find holds its first pull back for up to 3 s after its start (node/settle.go), and each is
// started anew before it is cold. Processor time is for a GB, of the servers and of the nodes apart.
func BenchmarkSeedStorage(b *testing.B) {
	need(b, "curl", "docker-registry")
	size := setting("MESHD_STORAGE_MIB", 256) * mib
	n := newNetwork(b)
	g := startGateway(b, n)
	r := startRegistry(b, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: b.TempDir(), extra: []string{"--seed-storage", g.url()}, alone: true}
	m.start(b, nodeSpec{"bucket", true})
	bucket, disk := m.nodes[0], standalone(b, r, r.addr, n, 9)
	x := r.pushBlob(b, "library/stored", 5, int64(size))
	x.data = nil
	url := func(n *node) string { return "http://" + n.mirror() + "/v2/" + x.repo + "/blobs/" + x.hash.String() }
	curl(b, url(bucket))
	bucket.waitFor(b, "the blob in the bucket", time.Minute, func() error {
		if s := bucket.storage(b); s.BlobsOut == 0 || s.Pending > 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	var straight, cold, warm, origin, local []float64
	var coldServer, coldNode, originServer, originNode []float64
	for b.Loop() {
		straight = append(straight, g.read(b, "blobs/sha256/"+x.hash.Hex, int64(size)))
		bucket.forget(b)
		sent, server, own := r.proxy.counts(b).BlobBytes, g.cpuSeconds(b), bucket.cpuSeconds(b)
		cold = append(cold, curl(b, url(bucket)))
		coldServer, coldNode = append(coldServer, g.cpuSeconds(b)-server), append(coldNode, bucket.cpuSeconds(b)-own)
		if sent = r.proxy.counts(b).BlobBytes - sent; sent != 0 {
			b.Fatalf("the registry sent %d bytes", sent)
		}
		warm = append(warm, curl(b, url(bucket)))
		disk.forget(b)
		server, own = r.cpuSeconds(b), disk.cpuSeconds(b)
		origin = append(origin, curl(b, url(disk)))
		originServer, originNode = append(originServer, r.cpuSeconds(b)-server), append(originNode, disk.cpuSeconds(b)-own)
		local = append(local, curl(b, url(disk)))
	}
	perGB := func(seconds []float64) float64 { return table.Median(seconds) / (float64(size) / 1e9) }
	b.Logf("CPU s/GB: versitygw %.2f, seed %.2f; docker-registry %.2f, node %.2f",
		perGB(coldServer), perGB(coldNode), perGB(originServer), perGB(originNode))
	b.ReportMetric(0, "ns/op")
	mbs := func(seconds []float64) float64 { return float64(size) / 1e6 / table.Median(seconds) }
	b.ReportMetric(mbs(straight), "straight-MB/s")
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

// read reads an object of a size straight out of the bucket and returns the seconds that it took.
func (g *gateway) read(b *testing.B, key string, size int64) float64 {
	b.Helper()
	bucket, err := objects.OpenBucket(b.Context(), g.url())
	must(b, err)
	defer bucket.Close()
	began := time.Now()
	r, err := bucket.NewReader(b.Context(), key, nil)
	must(b, err)
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	must(b, err)
	if n != size {
		b.Fatalf("%d bytes of %d", n, size)
	}
	return time.Since(began).Seconds()
}
