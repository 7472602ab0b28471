package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// BenchmarkGet has hosts (MESHD_GET_HOSTS, default 8) get one file (MESHD_GET_MIB, default 256) at once from a server with a
// line of 40 MiB/s: through the mesh, and by curl without it. It reports copies that left the server and seconds.
func BenchmarkGet(b *testing.B) {
	need(b, "curl")
	hosts, size := setting("MESHD_GET_HOSTS", 8), setting("MESHD_GET_MIB", 256)*mib
	const line = 40 * mib
	for _, way := range []string{"meshd get", "curl"} {
		b.Run(way, func(b *testing.B) {
			var specs []nodeSpec
			for i := range hosts {
				specs = append(specs, nodeSpec{zone: "east", seed: i == 0})
			}
			m, s := filesMesh(b, size, specs...)
			s.line = rate.NewLimiter(line, mib)
			var took, worst []float64
			for b.Loop() {
				file := "/etag/file" + strconv.Itoa(len(took)) // one that nobody has yet
				var gets []func() error
				for i, n := range m.nodes {
					if way == "curl" {
						gets = append(gets, func() error {
							out := filepath.Join(n.dir, "curled")
							defer os.Remove(out)
							_, err := commandFor(clientTimeout+4*time.Duration(hosts*size/line)*time.Second, nil, "curl", "-sS", "-f", "-o", out, s.url("/etag/"+strconv.Itoa(i)))
							return err
						})
						continue
					}
					gets = append(gets, func() error { return n.mustGet(b, s, file) })
				}
				began := time.Now()
				copies := s.copies(func() { atOnce(b, gets...) })
				took, worst = append(took, time.Since(began).Seconds()), append(worst, copies)
			}
			b.ReportMetric(median(took), "s")
			b.ReportMetric(slices.Max(worst), "copies-at-most")
		})
	}
}

func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}
