package demo

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/meshd-project/meshd/netsim/testbed"
)

func TestLayerSizes(t *testing.T) {
	for _, n := range []int{1, 2, 5, maxLayers} {
		var sum int64
		for _, s := range layerSizes(64<<20, n) {
			if s < 1 {
				t.Errorf("%d layers: one has %d bytes", n, s)
			}
			sum += s
		}
		if sum > 64<<20+maxLayers || sum < 64<<20-maxLayers {
			t.Errorf("%d layers: %d bytes in all", n, sum)
		}
	}
}

func TestVerdict(t *testing.T) {
	east, west := &meshNode{Process: &testbed.Process{Name: "a"}, zone: "east"}, &meshNode{Process: &testbed.Process{Name: "b"}, zone: "west"}
	good := []result{
		{node: east, took: time.Second, in: testbed.Source{Origin: 100}},
		{node: west, took: time.Second, in: testbed.Source{OtherZone: 100}},
	}
	failed := []result{good[0], {node: west, in: testbed.Source{OtherZone: 100}, err: errors.New("wrong digest")}}
	twice := []result{good[0], {node: west, in: testbed.Source{OtherZone: 100, Origin: 11}}}
	for _, row := range []struct {
		name    string
		results []result
		origin  int64
		want    string // in the error; "" for none
	}{
		{"all held", good, 100, ""},
		{"a wrong digest", failed, 100, "b: wrong digest"},
		{"the registry sent more", good, 102, "1.020 copies"},
		{"a zone took in more", twice, 100, "west took in 1.11 copies"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newReport(&testbed.Image{Size: 100}, row.results, row.origin)
			switch err := r.verdict(); {
			case row.want == "" && err != nil:
				t.Errorf("got %v", err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
				t.Errorf("got %v, want it to contain %q", err, row.want)
			}
			var out bytes.Buffer
			r.write(&out)
			if (row.want == "b: wrong digest") != strings.Contains(out.String(), "NO") {
				t.Errorf("the table:\n%s", &out)
			}
		})
	}
}

// Places to listen are all different.
func TestChoosePorts(t *testing.T) {
	places, err := choosePorts(8)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range places {
		for _, port := range []int{p.mirror, p.admin, p.p2p, p.tcp} {
			if seen[p.addr(port)] {
				t.Errorf("%s is there twice", p.addr(port))
			}
			seen[p.addr(port)] = true
		}
	}
}

// The table fits into a terminal of 80 columns, with two-digit nodes and a minute's pull.
func TestReportFits(t *testing.T) {
	img := &testbed.Image{Size: 999 << 20}
	n := &meshNode{Process: &testbed.Process{Name: "node-10"}, zone: "zone-1", seed: true}
	x := result{node: n, took: 99 * time.Second, firstByte: 2 * time.Second}
	x.in = testbed.Source{Zone: 800 << 20, OtherZone: 100 << 20, Origin: 99 << 20}
	var out bytes.Buffer
	newReport(img, []result{x}, img.Size).write(&out)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, line := range lines[:len(lines)-1] { // the last one may wrap
		if len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}
