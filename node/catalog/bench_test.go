package catalog

import (
	"fmt"
	"runtime"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// BenchmarkList lists 100,000 blobs on a real disk: 8000 images of ten layers, in indexes of two platforms, of which half have
// a tag. live-MB is what the list holds at its end.
func BenchmarkList(b *testing.B) {
	d := newDisk(b)
	const indexes, layers = 4000, 10
	var names Names
	names.Blobs = true
	for i := range indexes {
		var entries []v1.Descriptor
		for p, arch := range []string{"amd64", "arm64"} {
			var all []v1.Descriptor
			for l := range layers {
				all = append(all, d.blob(fmt.Sprint(i, p, l, "layer")))
			}
			config := d.blob(fmt.Sprintf(`{"os":"linux","architecture":%q,"n":%d}`, arch, i))
			entries = append(entries, on(d.image(config, all...), "linux", arch, ""))
		}
		index := d.index(entries...)
		if i%2 == 0 {
			names.Roots = append(names.Roots, Root{Name: fmt.Sprintf("%s/team/app:%d", registry, i), Source: "pull", Digest: index.Digest})
		}
	}
	b.ReportAllocs()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var c *Catalog
	for b.Loop() {
		c = d.list(names)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "live-MB")
	if len(c.Images) != indexes || c.Unnamed.Blobs != 0 || c.Partial {
		b.Fatalf("%d images, %+v", len(c.Images), c.Unnamed)
	}
	b.ReportMetric(float64(len(d.List())), "blobs")
}
