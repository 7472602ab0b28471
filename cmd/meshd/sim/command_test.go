package sim

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Ctrl-C ends a run within moments; the runs that ended before are printed, what was recorded is on disk.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name+".yaml")
		if err := os.WriteFile(file, []byte("name: "+name+"\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	quick := write("quick", "zones: [{name: a, hosts: 2}]\nlayers: [{size: 1MiB}]\n")
	long := write("long", "zones: [{name: a, hosts: 100, seeds: 1}]\nlayers: [{size: 20GB}]\n")
	record := filepath.Join(dir, "record.jsonl")
	recorded := func() bool { data, _ := os.ReadFile(record); return bytes.HasSuffix(data, []byte("}\n")) }
	for _, tc := range []struct {
		name    string
		run     func(ctx context.Context, std Streams) error
		printed string
	}{
		{"run", (&runCommand{Files: []string{quick, long}, System: "meshd"}).Run, "quick"},
		{"recorded run", (&runCommand{Files: []string{long}, System: "meshd", Record: record}).Run, ""},
		{"rival", (&runCommand{Files: []string{quick, long}, System: "tree"}).Run, "quick"},
		{"baseline", (&baselineCommand{Files: []string{quick, long}}).Run, "random-swarm"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, progress bytes.Buffer
			var began time.Time
			var err error
			for patience := time.Second; patience <= time.Minute; patience *= 4 { // on a busy machine the quick one takes a while too
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				out.Reset()
				progress.Reset()
				began = time.Now().Add(patience)
				err = tc.run(ctx, Streams{Out: &out, Err: &progress})
				cancel()
				if strings.Contains(out.String(), tc.printed) && (tc.printed != "" || recorded()) {
					break
				}
			}
			if err == nil || !strings.Contains(err.Error(), "long: interrupted") && !strings.Contains(err.Error(), "long, tree: interrupted") {
				t.Errorf("error = %v", err)
			}
			if took := time.Since(began); took > time.Minute {
				t.Errorf("it took %v", took)
			}
			if !strings.Contains(out.String(), tc.printed) || strings.Contains(out.String(), "long") || progress.Len() > 0 {
				t.Errorf("printed %q and %q", &out, &progress)
			}
		})
	}
	if !recorded() {
		t.Error("nothing, or half a line, is recorded")
	}
}

func TestFileName(t *testing.T) {
	for name, want := range map[string]string{
		"zones-3x50":                     "zones-3x50",
		"table-20 layers[0].size=1.28GB": "table-20-layers0.size-1.28GB",
		"../../etc/passwd":               "-..-etc-passwd",
		"..":                             "scenario",
	} {
		if got := fileName(name); got != want {
			t.Errorf("%q is in %q, want %q", name, got, want)
		}
	}
}
