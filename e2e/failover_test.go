package e2e

import (
	"path/filepath"
	"testing"
	"time"
)

// A registry with a mirror and two addresses: the mirror serves; when it hangs the first address does; when that is
// dead too, the second.
func TestRegistryFailsOver(t *testing.T) {
	n := newNetwork(t)
	r := startRegistry(t, n)
	second := r.proxy
	first := startProxy(t, n.host(202)+":5000", "http://"+r.addr)
	mirror := startProxy(t, n.host(203)+":5000", "http://"+r.addr)
	m := &mesh{
		net: n, registry: r, dir: t.TempDir(), alone: true,
		origin: "http://" + first.addr + ",url=http://" + second.addr + ",mirror=http://" + mirror.addr,
	}
	node := &node{mesh: m, host: n.host(1), zone: "one", dir: filepath.Join(m.dir, "node-1")}
	node.start(t)

	pull := func(seed int64, from *countingProxy) {
		t.Helper()
		img := r.pushImage(t, "library/failover", seed, mib)
		before := from.counts(t).BlobBytes
		start := time.Now()
		must(t, httpPull(t.Context(), node.mirror(), img))
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("the pull took %v", took)
		}
		if got := from.counts(t).BlobBytes - before; got != img.size {
			t.Errorf("%s sent %d bytes, the image has %d", from.addr, got, img.size)
		}
	}
	pull(1, mirror)
	mirror.behave(t, behaviour{Hang: true})
	pull(2, first)
	first.kill()
	pull(3, second)
}
