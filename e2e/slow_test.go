package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// One of two providers sends right bytes at 16 KiB/s, or late or not at all. A pull through an honest node takes little longer
// than without it, and brings hardly anything twice.
func TestOneSlowProvider(t *testing.T) {
	long(t)
	const size = 24 * mib
	for _, kind := range []string{"slow-bytes", "late-bytes"} {
		t.Run(kind, func(t *testing.T) {
			m := &liarMesh{mesh: newMesh(t, nodeSpec{"east", false}, nodeSpec{"east", false}), blobs: t.TempDir(), seed: 7900, next: 100}
			good, asking := m.nodes[0], m.nodes[1]
			pull := func() (b blob, took time.Duration) {
				m.seed++
				b = m.registry.pushBlob(t, "library/truth", m.seed, size)
				must(t, good.pullBlob(b))
				must(t, os.WriteFile(filepath.Join(m.blobs, b.hash.Hex), b.data, 0o600))
				began := time.Now()
				must(t, asking.pullBlob(b))
				return b, time.Since(began)
			}
			_, alone := pull()
			liars := m.join(t, []nodeSpec{{"east", false}}, kind)
			for range liarRounds {
				before := asking.status(t)
				_, took := pull()
				after := asking.status(t)
				twice := after.DuplicateBytes - before.DuplicateBytes
				t.Logf("%v with the slow one, %v without; %d bytes came for nothing (%.2f %%), lies told: %d",
					took.Round(time.Millisecond), alone.Round(time.Millisecond), twice, 100*float64(twice)/size, lies(liars))
				if after.BytesIn.Origin > before.BytesIn.Origin {
					t.Error("the registry was asked for what others have")
				}
				if twice > 3*mib {
					t.Errorf("%d bytes came for nothing", twice)
				}
				if lies(liars) > 0 {
					return
				}
			}
			t.Errorf("nobody asked the slow one in %d pulls: nothing was tested", liarRounds)
		})
	}
}
