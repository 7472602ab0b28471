package setup

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// defaultCertsDir is where containerd looks for hosts.toml if nobody says otherwise.
const defaultCertsDir = "/etc/containerd/certs.d"

// criPlugins name, for each version of config.toml, the plugin that pulls images.
var criPlugins = map[int64]string{2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.images"}

// containerd is the mirror as hosts.toml of all registries has it, and config_path in config.toml that leads there.
func containerd(h host, config string) ([]part, error) {
	path := h.path(config)
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	data, _ = takeBlock(data)
	c, err := parseContainerd(path, data)
	if err != nil {
		return nil, err
	}
	if c.dir == "" {
		if c.dir, err = importedDir(h, c); err != nil {
			return nil, err
		}
	}
	dir := cmp.Or(c.dir, defaultCertsDir)
	hosts := h.path(filepath.Join(dir, "_default", "hosts.toml"))
	parts := []part{{
		path: hosts,
		put:  func(old []byte) ([]byte, error) { return putHosts(hosts, old, h.url()) },
		take: withoutBlock,
	}}
	if c.dir != "" || c.off {
		return parts, nil
	}
	return append(parts, part{
		path: path, after: "systemctl restart containerd", // hosts.toml is read for every pull, config.toml at the start
		put:  func(old []byte) ([]byte, error) { return putConfigPath(path, old) },
		take: withoutBlock,
	}), nil
}

// containerdConfig is what setup has to know of config.toml.
type containerdConfig struct {
	doc  map[string]any
	keys []string // of config_path
	dir  string   // where hosts.toml lies, "" if nobody has said
	off  bool     // Kubernetes' plugin is switched off: nothing reads config_path
}

// parseContainerd reads config.toml without setup's block; nil is a file that is not there.
func parseContainerd(path string, data []byte) (containerdConfig, error) {
	doc, err := decodeTOML(path, data)
	if err != nil {
		return containerdConfig{}, err
	}
	c := containerdConfig{doc: doc}
	disabled, _ := doc["disabled_plugins"].([]any)
	c.off = slices.ContainsFunc(disabled, func(v any) bool { return v == "cri" || v == criPlugins[2] || v == criPlugins[3] })
	version, _ := doc["version"].(int64)
	if len(doc) == 0 {
		version = 2
	}
	plugin, ok := criPlugins[version]
	switch {
	case !ok && c.off:
		return c, nil
	case !ok:
		return c, fmt.Errorf("%s: version %d of the file: want 2 or 3 (`containerd config migrate` prints one): %w", path, version, errByHand)
	}
	c.keys = []string{"plugins", plugin, "registry", "config_path"}
	dirs, _ := lookup(doc, c.keys...).(string)
	c.dir, _, _ = strings.Cut(dirs, ":")
	registry := c.keys[:3]
	if m, _ := lookup(doc, append(slices.Clone(registry), "mirrors")...).(map[string]any); len(m) > 0 && c.dir == "" {
		return c, fmt.Errorf("%s: it has %s.mirrors, which containerd refuses beside config_path: move them to %s/HOST/hosts.toml: %w",
			path, strings.Join(registry, "."), defaultCertsDir, errByHand)
	}
	configs, _ := lookup(doc, append(slices.Clone(registry), "configs")...).(map[string]any)
	for name, v := range configs {
		if t, _ := v.(map[string]any); t["tls"] != nil && c.dir == "" {
			return c, fmt.Errorf("%s: it has %s.configs.%q.tls, which containerd refuses beside config_path: move it to %s/%s/hosts.toml: %w",
				path, strings.Join(registry, "."), name, defaultCertsDir, name, errByHand)
		}
	}
	return c, nil
}

// importedDir is where a file that config.toml imports says that hosts.toml lies, "" if none does.
func importedDir(h host, c containerdConfig) (string, error) {
	imports, _ := c.doc["imports"].([]any)
	for _, v := range imports {
		pattern, _ := v.(string)
		files, err := filepath.Glob(h.path(pattern))
		if err != nil {
			continue // containerd finds nothing either
		}
		for _, file := range files {
			data, err := read(file)
			if err != nil {
				return "", err
			}
			doc, err := decodeTOML(file, data)
			if err != nil {
				return "", err
			}
			for _, plugin := range criPlugins {
				if dirs, _ := lookup(doc, "plugins", plugin, "registry", "config_path").(string); dirs != "" {
					dir, _, _ := strings.Cut(dirs, ":")
					return dir, nil
				}
			}
		}
	}
	return "", nil
}

// putConfigPath sets config_path to the default folder: in the table that is there, in place of an empty value, or in a
// table of its own at the end.
func putConfigPath(path string, old []byte) ([]byte, error) {
	data, _ := takeBlock(old)
	c, err := parseContainerd(path, data)
	if err != nil {
		return nil, err
	}
	line := fmt.Sprintf("config_path = %q", defaultCertsDir)
	table := c.keys[:3]
	at, over, found := place{start: len(data), end: len(data)}, "", false
	err = expressions(data, func(kind unstable.Kind, in, key []string, p place) {
		switch {
		case kind == unstable.Table && slices.Equal(key, table):
			at, found = place{start: p.end, end: p.end, indent: p.indent + "  "}, true
		case kind == unstable.KeyValue && slices.Equal(in, table) && slices.Equal(key, c.keys[3:]):
			at, over, found = p, string(data[p.start:p.end]), true
		}
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, err, errByHand)
	}
	lines := []string{line}
	if !found {
		lines = []string{fmt.Sprintf("[plugins.%q.registry]", c.keys[1]), "  " + line}
	}
	if len(c.doc) == 0 {
		lines = append([]string{"version = 2"}, lines...)
	}
	out := insert(data, at.start, at.end, block(at.indent, lines, over))
	after, err := decodeTOML(path, out)
	if len(c.doc) == 0 && err == nil {
		c.doc["version"] = int64(2)
	}
	if err != nil || !same(c.doc, after, defaultCertsDir, c.keys...) {
		return nil, fmt.Errorf("%s: no safe place for config_path: write %s into its table [plugins.%q.registry] by hand: %w", path, line, c.keys[1], errByHand)
	}
	return out, nil
}

// putHosts makes the mirror the first host.
func putHosts(path string, old []byte, url string) ([]byte, error) {
	data, _ := takeBlock(old)
	doc, err := decodeTOML(path, data)
	if err != nil {
		return nil, err
	}
	if lookup(doc, "host", url) != nil { // by hand, or by another program
		return old, nil
	}
	at := len(data)
	err = expressions(data, func(kind unstable.Kind, _, _ []string, p place) {
		if kind != unstable.KeyValue {
			at = min(at, p.start)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, err, errByHand)
	}
	out := insert(data, at, at, block("", []string{fmt.Sprintf("[host.%q]", url), `  capabilities = ["pull", "resolve"]`}, ""))
	after, err := decodeTOML(path, out)
	want := map[string]any{"capabilities": []any{"pull", "resolve"}}
	if err != nil || !same(doc, after, want, "host", url) {
		return nil, fmt.Errorf("%s: no safe place for [host.%q]: write it by hand: %w", path, url, errByHand)
	}
	return out, nil
}

// warnOthers warns of registries with a folder of their own, which _default does not reach.
func warnOthers(w io.Writer, hosts string) {
	others, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(hosts)), "*", "hosts.toml"))
	for _, o := range others {
		if o != hosts {
			fmt.Fprintf(w, "note: %s stands over _default: pulls from %s do not go through meshd\n", o, filepath.Base(filepath.Dir(o)))
		}
	}
}
