package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// Whatever a configuration file says: it is taken or refused with the file's name, its keys are flags and mean what flags
// mean.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{
		"", "# nothing\n", "zone: a\n", "zone: a\nzone: b\n", "zone: [a]\n", "seed: true\ncache-size: 1.5GiB\n", "---\nzone: a\n---\nzone: b\n",
		"bootstrap: [mdns, 'dns:x', \"file:a,b\"]\n", "bootstrap: &b [mdns]\np2p-addr: *b\n", "zone: *a\n", "a: &a [*a]\n", "<<: {zone: a}\n",
		"registry:\n  - name: h.example\n    url: https://h.example\n    insecure: true\n", "registry: h=https://u:secret@h\n", "zone: !!binary YQ==\n",
		"proxy-rule: [{host: a, action: mesh}, {regexp: ',', action: direct}]\n", "config: x\n", "help: true\n", "zone: null\n", "? [a]\n: b\n", "zone: |\n  a\n  b\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "meshd.yaml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := parse(t, "--config", path)
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Fatalf("%q is refused without the file's name: %v", data, err)
			}
			return
		}
		c, err := parseConfig(path, data)
		if err != nil {
			t.Fatalf("%q is taken and does not parse: %v", data, err)
		}
		if v, ok := c.values["zone"]; ok && v.Kind == yaml.ScalarNode && os.Getenv("MESHD_ZONE") == "" && got.Zone != v.Value {
			t.Fatalf("%q: zone %q is %q", data, v.Value, got.Zone)
		}
	})
}
