package lab

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/meshd-project/meshd/netsim"
)

// Simulator and lab agree within 15 % of time and 0.03 copies; what is further apart is named and marked.
func TestComparison(t *testing.T) {
	sim := netsim.Result{Scenario: "x", LastS: 10, OriginCopies: 1, ZoneCopies: 1}
	for _, row := range []struct {
		name string
		lab  netsim.Result
		want []string
	}{
		{"the same", sim, nil},
		{"just near enough", netsim.Result{LastS: 11.7, OriginCopies: 1.0299, ZoneCopies: 0.971}, nil},
		{"later", netsim.Result{LastS: 11.8, OriginCopies: 1, ZoneCopies: 1}, []string{"last s"}},
		{"earlier", netsim.Result{LastS: 8.6, OriginCopies: 1, ZoneCopies: 1}, []string{"last s"}},
		{"more copies", netsim.Result{LastS: 10, OriginCopies: 1.04, ZoneCopies: 0.96}, []string{"origin copies", "zone copies"}},
		{"a host failed", netsim.Result{LastS: 10, OriginCopies: 1, ZoneCopies: 1, Failed: 1}, []string{"failed"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := Pair{Simulated: &sim, Measured: &Result{Result: row.lab, CPUBusy: 0.5, IntoZoneWire: map[string]float64{"b": 1.07}}}
			if got := p.Apart(); !slices.Equal(got, row.want) {
				t.Errorf("apart: %q, want %q", got, row.want)
			}
			var out bytes.Buffer
			if err := WriteComparison(&out, p); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(out.String(), "!"); n != len(row.want) || !strings.Contains(out.String(), "1.070") {
				t.Errorf("%d marks in\n%s", n, &out)
			}
		})
	}
}
