package lab

import (
	"errors"
	"strings"
	"testing"

	"github.com/meshd-project/meshd/netsim"
)

// What the lab cannot do is refused with its line and field.
func TestCheckRefuses(t *testing.T) {
	const zones = "zones: [{name: a, hosts: 4, seeds: 1}]\n" // line 3
	for _, row := range []struct{ text, field string }{
		{"zones: [{name: a, hosts: 400}]\n", "zones"},
		{"zones: [{name: a, hosts: 4, rtt: 5ms}]\n", "zones[0].rtt"},
		{"zones: [{name: a, hosts: 4}, {name: b, hosts: 1, out: 0B/s}]\n", "zones[1].out"},
		{"zones: [{name: a, hosts: 4, host: {up: 1kB/s}}]\n", "zones[0].host.up"},
		{zones + "pull: {unsized: true}\n", "pull.unsized"},
		{zones + "origin: {no_range: true}\n", "origin.no_range"},
		{zones + "origin: {per_connection: 1MB/s}\n", "origin.per_connection"},
		{zones + "network: {loss: 1%}\n", "network.loss"},
		{zones + "liars: [{share: 10%, how: corrupt}]\n", "liars"},
		{zones + "warm: [{share: 10%}]\n", "warm"},
		{zones + "churn: {rate: 1, until: 5s}\n", "churn"},
		{zones + "swarm: {outstanding: 4}\n", "swarm"},
		{zones + "faults: [{at: 1s, kill: 10%}, {at: 1s, origin: true, for: 1s}]\n", "faults[1].origin"},
	} {
		t.Run(row.field, func(t *testing.T) {
			err := Check(load(t, row.text))
			var bad *netsim.Error
			if !errors.As(err, &bad) {
				t.Fatalf("error = %v", err)
			}
			line := 2 + strings.Count(row.text, "\n")
			if bad.Field != row.field || bad.Line != line || bad.File != "x.yaml" {
				t.Errorf("error = %v, want field %s in line %d", err, row.field, line)
			}
		})
	}
	if err := Check(load(t, zones+"warm: [{share: 10%}]\norigin: {down: true}\n")); err == nil {
		t.Error("a registry that is down is taken")
	}
}

// The scenarios that are made for the lab can be run in it, and their goals are some.
func TestReadyScenarios(t *testing.T) {
	n := 0
	for _, name := range Ready() {
		runs, err := netsim.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range runs {
			if err := Check(s); err != nil || !s.Goals.Given() {
				t.Errorf("%s: %v, goals %+v", s.Name, err, s.Goals)
			}
			n++
		}
	}
	if n < 6 {
		t.Errorf("%d scenarios for the lab, want at least 6", n)
	}
}
