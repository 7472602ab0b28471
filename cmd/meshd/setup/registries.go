package setup

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

const (
	registriesConf = "etc/containers/registries.conf"
	registriesDir  = "etc/containers/registries.conf.d"
	registriesOwn  = "meshd.conf"
)

// registries is the mirror as podman, buildah, skopeo and CRI-O have it: one for each registry, in a file of setup's
// own; after is the command that has the client read it. Registries that another file speaks of are left to that file: podman would take ours instead of it.
func registries(h host, names []string, after string, notes io.Writer) ([]part, error) {
	own := h.path(filepath.Join(registriesDir, registriesOwn))
	taken, err := spokenOf(h, own)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, name := range names {
		if file := taken[name]; file != "" {
			fmt.Fprintf(notes, "note: %s already says how %s is reached: it is left to that\n", file, name)
			continue
		}
		lines = append(lines, "[[registry]]", fmt.Sprintf("location = %q", name),
			"[[registry.mirror]]", fmt.Sprintf("location = %q", h.addr+"/"+name), "insecure = true")
	}
	return []part{{
		path: own, after: after,
		put:  func(old []byte) ([]byte, error) { return putRegistries(own, old, lines) },
		take: withoutBlock,
	}}, nil
}

func putRegistries(path string, old []byte, lines []string) ([]byte, error) {
	data, _ := takeBlock(old)
	if _, err := decodeTOML(path, data); err != nil {
		return nil, err
	}
	if len(lines) == 0 {
		return withoutBlock(old)
	}
	out := insert(data, len(data), len(data), block("", lines, ""))
	_, err := decodeTOML(path, out)
	return out, err
}

// spokenOf maps the registries in all other files to the file that names them.
func spokenOf(h host, own string) (map[string]string, error) {
	files, err := filepath.Glob(h.path(filepath.Join(registriesDir, "*.conf")))
	if err != nil {
		return nil, err
	}
	taken := map[string]string{}
	for _, file := range append([]string{h.path(registriesConf)}, files...) {
		if err := speaksOf(file, file == own, taken); err != nil {
			return nil, err
		}
	}
	return taken, nil
}

// speaksOf adds the registries of one file; of setup's own those outside of its block.
func speaksOf(file string, own bool, taken map[string]string) error {
	data, err := read(file)
	if err != nil {
		return err
	}
	if own {
		data, _ = takeBlock(data)
	}
	doc, err := decodeTOML(file, data)
	if err != nil {
		return err
	}
	list, _ := doc["registry"].([]any)
	for _, v := range list {
		table, _ := v.(map[string]any)
		for _, key := range []string{"prefix", "location"} {
			if name, ok := table[key].(string); ok {
				taken[strings.ToLower(name)] = file
				break
			}
		}
	}
	return nil
}
