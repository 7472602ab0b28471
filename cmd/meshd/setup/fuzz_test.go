package setup

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

const fuzzURL = "http://127.0.0.1:65001"

// What is put into daemon.json is there, once, everything else means what it meant, and all of it goes again.
func FuzzDaemonJSON(f *testing.F) {
	for _, s := range []string{
		"", "{}", "{\n}\n", `{"a":1}`, `{"registry-mirrors":[]}`, `{"registry-mirrors":["x"],"b":{"registry-mirrors":1}}`,
		`{"registry-mirrors":[1, "http://127.0.0.1:65001/"]}`, `{"registry-mirrors":null}`, "[]", "// x\n{}", `{"a":1,"a":2}`, `{"registry\u002dmirrors":["x"]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, old []byte) {
		new, err := putMirror("f", bytes.Clone(old), fuzzURL)
		if err != nil {
			return
		}
		before, after := map[string]any{}, map[string]any{}
		if len(bytes.TrimSpace(old)) > 0 {
			if err := json.Unmarshal(old, &before); err != nil {
				t.Fatalf("%q does not parse and was accepted", old)
			}
		}
		if err := json.Unmarshal(new, &after); err != nil {
			t.Fatalf("%q became %q: %v", old, new, err)
		}
		list, _ := after[mirrorsKey].([]any)
		if len(list) == 0 || bytes.Equal(old, new) == (len(list) > len(listOf(before))) {
			t.Fatalf("%q became %q", old, new)
		}
		again, err := putMirror("f", bytes.Clone(new), fuzzURL)
		if err != nil || !bytes.Equal(again, new) {
			t.Fatalf("a second time, %q became %q, %v", new, again, err)
		}
		delete(before, mirrorsKey)
		delete(after, mirrorsKey)
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("%q became %q: something else has changed", old, new)
		}
		if _, err := takeMirror("f", bytes.Clone(new), fuzzURL); err != nil {
			t.Fatalf("%q cannot be undone: %v", new, err)
		}
	})
}

func listOf(doc map[string]any) []any {
	list, _ := doc[mirrorsKey].([]any)
	return list
}

// What is put into config.toml and hosts.toml changes one value and goes again, up to a line break at the end.
func FuzzTOML(f *testing.F) {
	for _, s := range []string{
		"", "version = 2", "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"\"\n", "version = 3\r\n[a]\r\n",
		"version = 2\n# begin: meshd setup\nx = 1\n# end: meshd setup; before: y = 1\n", "server = \"a\"\n[host.a]\n", "[host]\n\"http://127.0.0.1:65001\" = {}\n",
		"version = 2\na = '''\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n'''\n", "# begin: meshd setup\n", "[[host]]\n", "host.a.b = 1\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, old []byte) {
		for name, put := range map[string]func([]byte) ([]byte, error){
			"config.toml": func(b []byte) ([]byte, error) { return putConfigPath("f", b) },
			"hosts.toml":  func(b []byte) ([]byte, error) { return putHosts("f", b, fuzzURL) },
		} {
			new, err := put(bytes.Clone(old))
			if err != nil || bytes.Equal(new, old) {
				continue
			}
			if _, err := decodeTOML("f", new); err != nil {
				t.Fatalf("%s: %q became %q: %v", name, old, new, err)
			}
			again, err := put(bytes.Clone(new))
			if err != nil || !bytes.Equal(again, new) {
				t.Fatalf("%s: a second time, %q became %q, %v", name, new, again, err)
			}
			was, had := takeBlock(old)
			rest, _ := takeBlock(new)
			if !had && string(bytes.TrimSuffix(rest, []byte("\n"))) != string(bytes.TrimSuffix(was, []byte("\n"))) {
				t.Fatalf("%s: %q became %q, and that %q", name, was, new, rest)
			}
		}
	})
}
