package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// While the registry is away, and after a restart without it, what was pulled still pulls, by tag and by digest, with the
// age of what the tag named; other things fail in time.
func TestPullsWhileRegistryIsAway(t *testing.T) {
	m := newMesh(t, nodeSpec{"east", true})
	n := m.nodes[0]
	img := m.registry.pushImage(t, "library/kept", 1, 2*mib, 100_000)
	other := m.registry.pushImage(t, "library/other", 2, 1000)
	must(t, cranePull(t, n.mirror(), img))
	m.registry.proxy.kill()
	check := func() {
		t.Helper()
		must(t, cranePull(t, n.mirror(), img))
		status, header, _, err := getRaw(n.mirror(), "/v2/library/kept/manifests/latest")
		must(t, err)
		if status != http.StatusOK || header.Get("Age") == "" || !strings.HasPrefix(header.Get("Warning"), "110 ") {
			t.Errorf("%d %v", status, header)
		}
		if err := httpPull(context.Background(), n.mirror(), other); err == nil {
			t.Error("an image that was never pulled came from nowhere")
		}
		if !strings.Contains(n.output(), "the tag's last manifest serves") {
			t.Error("the log does not say so")
		}
	}
	check()
	must(t, n.terminate(t, time.Minute))
	n.start(t)
	check()
	n.kill()
	m.extra = []string{"--stale", "0s"}
	n.start(t)
	if err := httpPull(context.Background(), n.mirror(), img); err == nil {
		t.Error("--stale 0s served it")
	}
}

// A cold Range costs the pieces that cover it, wherever it lies, and a client that resumes pays for what it lacks.
func TestColdRangesCostTheirPieces(t *testing.T) {
	m := newMesh(t, nodeSpec{"east", true})
	b := m.registry.pushBlob(t, "library/lazy", 3, 32*mib)
	size, path := int64(len(b.data)), "/v2/library/lazy/blobs/"+b.hash.String()
	const piece = mib / 2
	var want int64
	for _, row := range []struct{ from, to, costs int64 }{ // to is inclusive
		{size - 51, size - 1, piece},
		{20 * mib, 20*mib + 9, piece},
		{20*mib + 100, 20*mib + 200, 0},
		{5*mib - 1, 5 * mib, 2 * piece},
		{24 * mib, size - 1, 8*mib - piece},
	} {
		start := time.Now()
		status, _, body, err := getRaw(m.nodes[0].mirror(), path, fmt.Sprintf("Range: bytes=%d-%d", row.from, row.to))
		must(t, err)
		if status != http.StatusPartialContent || body != string(b.data[row.from:row.to+1]) {
			t.Errorf("bytes %d to %d: %d with %d bytes", row.from, row.to, status, len(body))
		}
		want += row.costs
		sent := m.registry.proxy.counts(t).BlobBytes
		t.Logf("bytes %d to %d after %v; the registry has sent %d", row.from, row.to, time.Since(start).Round(time.Millisecond), sent)
		if sent != want {
			t.Errorf("bytes %d to %d: the registry has sent %d bytes in all, want %d", row.from, row.to, sent, want)
		}
	}
	_, err := httpGet(context.Background(), "http://"+m.nodes[0].mirror()+path, b.hash)
	must(t, err)
	m.checkCopies(t, size, 1)
}
