package table

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	var b strings.Builder
	Print(&b)
	if b.Len() > 0 {
		t.Errorf("an empty table: %q", b.String())
	}
	Add(Row{What: "speed", Unit: "MB/s", Ours: 1, Reference: 1000, ReferenceName: "nginx"})
	Add(Row{What: "speed", Unit: "MB/s", Ours: 950, Reference: 1000, ReferenceName: "nginx", Goal: Goal{AtLeast: 0.9}})
	Add(Row{What: "CPU", Unit: "s/GB", Ours: 2, Reference: 1.6, ReferenceName: "nginx", Goal: Goal{AtMost: 1.1}})
	Add(Row{What: "memory", Unit: "MiB", Ours: 120, Goal: Goal{AtMost: 150}})
	Print(&b)
	lines := strings.Split(b.String(), "\n")
	if len(lines) != 6 {
		t.Fatalf("%q", b.String())
	}
	for i, parts := range [][]string{
		{"what", "ratio"},
		{"|---"},
		{"speed", "950 MB/s", "1000 MB/s, nginx", "0.95", "at least 0.9, met"},
		{"CPU", "1.25", "at most 1.1, missed"},
		{"memory", "120 MiB", "at most 150, met"},
	} {
		for _, p := range parts {
			if !strings.Contains(lines[i], p) {
				t.Errorf("line %q has no %q", lines[i], p)
			}
		}
	}
}

func TestMedian(t *testing.T) {
	for _, row := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{4, 2}, 3}, {[]float64{9, 1, 5}, 5}} {
		if got := Median(row.in); got != row.want {
			t.Errorf("median of %v is %v", row.in, got)
		}
	}
}
