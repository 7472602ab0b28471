package netsim

import (
	"math"
	"testing"
)

func TestBound(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		secs       float64
		by         string
	}{
		{"a host's own link", "zones: [{name: a, hosts: 20, seeds: 2}]", 5.12, "host"},
		{"the origin", "zones: [{name: a, hosts: 20}]\norigin: {egress: 100MB/s}", 12.8, "origin"},
		{
			"uplinks", "zones: [{name: a, hosts: 50}, {name: b, hosts: 50}, {name: c, hosts: 50, seeds: 2}]\nhost: {up: 200MB/s, down: 300MB/s}\nseed_host: {up: 200MB/s}\norigin: {egress: 500MB/s}",
			150 * 1.28e9 / (152*200e6 + 500e6), "swarm",
		},
		{"a pipe", "zones: [{name: a, hosts: 50}, {name: b, hosts: 50}]\nwan: {in: 150MB/s}", 1.28e9 / 150e6, "pipe into b"},
		{"pipes out of zones", "zones: [{name: a, hosts: 5}, {name: z, count: 6, hosts: 5}]\nwan: {out: 100MB/s}", 6 * 1.28e9 / 700e6, "pipes out"},
		{"slow hosts do not count", "zones: [{name: a, hosts: 20}]\nclasses: [{share: 5%, host: {down: 1MB/s, up: 1MB/s}, slow: true}]", 5.12, "host"},
		{"others do", "zones: [{name: a, hosts: 20}]\nclasses: [{share: 5%, host: {down: 1MB/s}}]", 1280, "host"},
		{"all is there", "zones: [{name: a, hosts: 20}]\nwarm: [{share: 100%}]", 0, "nothing to move"},
		{"somebody has all", "zones: [{name: a, hosts: 20}]\norigin: {egress: 1MB/s}\nwarm: [{share: 10%}]", 5.12, "host"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Parse("x.yaml", []byte("name: x\nlayers: [{size: 1.28GB}]\n"+tc.text+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			w, err := newWorld(s)
			if err != nil {
				t.Fatal(err)
			}
			b := bound(w.t, w.layers, w)
			if math.Abs(b.Time.Seconds()-tc.secs) > 1e-6 || b.By != tc.by {
				t.Errorf("bound %v by %s, want %.6fs by %s", b.Time, b.By, tc.secs, tc.by)
			}
		})
	}
}
