package demo

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/meshd-project/meshd/netsim/testbed"
)

// What has to hold for the exit code 0. The zones have some room because two nodes of a zone may start to import the same
// piece before they hear of each other; the origin has none beyond rounding.
const (
	maxOriginCopies = 1.01
	maxZoneCopies   = 1.10
)

// report is what the demo found out.
type report struct {
	img     *testbed.Image
	results []result
	origin  int64 // bytes of blobs that the registry sent, by its own count
}

func newReport(img *testbed.Image, results []result, origin int64) *report {
	return &report{img: img, results: results, origin: origin}
}

// originCopies is how many times the registry sent the image.
func (r *report) originCopies() float64 { return float64(r.origin) / float64(r.img.Size) }

// zoneCopies is how many times the image came into the zone, from the origin or another zone.
func (r *report) zoneCopies(zone string) float64 {
	var in int64
	for _, x := range r.results {
		if x.node.zone == zone {
			in += x.in.OtherZone + x.in.Origin
		}
	}
	return float64(in) / float64(r.img.Size)
}

// peerShare is the share of all bytes taken in that came from peers.
func (r *report) peerShare() float64 {
	var peers, all int64
	for _, x := range r.results {
		peers += x.in.Zone + x.in.OtherZone
		all += x.in.Zone + x.in.OtherZone + x.in.Origin
	}
	if all == 0 {
		return 0
	}
	return float64(peers) / float64(all)
}

func (r *report) zones() []string {
	var zones []string
	for _, x := range r.results {
		if !slices.Contains(zones, x.node.zone) {
			zones = append(zones, x.node.zone)
		}
	}
	return zones
}

// write prints the table, which fits into 80 columns, and, as the last line, the sums.
func (r *report) write(w io.Writer) {
	fmt.Fprintln(w, "MiB that each node took in, by where from:")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\t\t\tfirst\t\town\tother\t\t\t")
	fmt.Fprintln(t, "node\tzone\ttime\tbyte\tdisk\tzone\tzone\torigin\tverified\t")
	for _, x := range r.results {
		name := x.node.Name
		if x.node.seed {
			name += " (seed)"
		}
		verified := "yes"
		if x.err != nil {
			verified = "NO"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", name, x.node.zone, seconds(x.took), seconds(x.firstByte),
			mebi(x.in.Disk), mebi(x.in.Zone), mebi(x.in.OtherZone), mebi(x.in.Origin), verified)
	}
	t.Flush()
	copies := make([]string, 0, len(r.results))
	for _, z := range r.zones() {
		copies = append(copies, fmt.Sprintf("%s %.2f", z, r.zoneCopies(z)))
	}
	fmt.Fprintf(w, "image %s MiB: origin copies %.3f, copies into each zone: %s, from peers %.0f %%\n",
		mebi(r.img.Size), r.originCopies(), strings.Join(copies, " "), 100*r.peerShare())
}

// verdict says what did not hold.
func (r *report) verdict() error {
	var failed []string
	for _, x := range r.results {
		if x.err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", x.node.Name, x.err))
		}
	}
	if c := r.originCopies(); c > maxOriginCopies {
		failed = append(failed, fmt.Sprintf("the registry sent %.3f copies, want at most %.2f", c, maxOriginCopies))
	}
	for _, z := range r.zones() {
		if c := r.zoneCopies(z); c > maxZoneCopies {
			failed = append(failed, fmt.Sprintf("%s took in %.2f copies, want at most %.2f", z, c, maxZoneCopies))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("the demo did not hold:\n  %s", strings.Join(failed, "\n  "))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func mebi(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }
