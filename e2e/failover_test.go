package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
)

// A registry with a mirror and two addresses: the mirror serves; when it hangs the first address does, before the client is
// told that the registry does not answer; when that is dead too, the second.
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
		img := r.pushImage(t, fmt.Sprint("library/failover-", seed), seed, mib) // a tag that nobody knows an older manifest of
		before := from.counts(t).BlobBytes
		must(t, httpPull(t.Context(), node.mirror(), img))
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
