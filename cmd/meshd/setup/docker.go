package setup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tailscale/hujson"
)

const mirrorsKey = "registry-mirrors"

// docker is the mirror as dockerd's daemon.json has it. Only docker.io images go there.
func docker(h host) ([]part, error) {
	path := h.path("etc/docker/daemon.json")
	return []part{{
		path: path, after: "systemctl reload docker",
		put:  func(old []byte) ([]byte, error) { return putMirror(path, old, h.url()) },
		take: func(old []byte) ([]byte, error) { return takeMirror(path, old, h.url()) },
	}}, nil
}

// putMirror makes url the first of the mirrors; every other byte stays.
func putMirror(path string, old []byte, url string) ([]byte, error) {
	if len(bytes.TrimSpace(old)) == 0 {
		return fmt.Appendf(nil, "{\n  %q: [%q]\n}\n", mirrorsKey, url), nil
	}
	v, root, err := parseJSON(path, old)
	if err != nil {
		return nil, err
	}
	i := member(root)
	if i < 0 {
		name := hujson.Value{Value: hujson.String(mirrorsKey)}
		if n := len(root.Members); n > 0 {
			name.BeforeExtra = root.Members[n-1].Name.BeforeExtra
		}
		root.Members = append(root.Members, hujson.ObjectMember{Name: name, Value: hujson.Value{
			BeforeExtra: hujson.Extra(" "),
			Value:       &hujson.Array{Elements: []hujson.Value{{Value: hujson.String(url)}}},
		}})
		return v.Pack(), nil
	}
	list, err := mirrors(path, root, i)
	if err != nil {
		return nil, err
	}
	if indexOf(list, url) >= 0 {
		return old, nil
	}
	first := hujson.Value{Value: hujson.String(url)}
	if len(list.Elements) > 0 {
		first.BeforeExtra = list.Elements[0].BeforeExtra
		if len(first.BeforeExtra) == 0 {
			list.Elements[0].BeforeExtra = hujson.Extra(" ")
		}
	}
	list.Elements = slices.Insert(list.Elements, 0, first)
	return v.Pack(), nil
}

// takeMirror takes url out of the mirrors, and the list if nothing else is in it.
func takeMirror(path string, old []byte, url string) ([]byte, error) {
	if len(bytes.TrimSpace(old)) == 0 {
		return old, nil
	}
	v, root, err := parseJSON(path, old)
	if err != nil {
		return nil, err
	}
	i := member(root)
	if i < 0 {
		return old, nil
	}
	list, err := mirrors(path, root, i)
	if err != nil {
		return nil, err
	}
	n := indexOf(list, url)
	switch {
	case n < 0:
		return old, nil
	case len(list.Elements) > 1:
		if n == 0 {
			list.Elements[1].BeforeExtra = list.Elements[0].BeforeExtra
		}
		list.Elements = slices.Delete(list.Elements, n, n+1)
	default:
		root.Members = slices.Delete(root.Members, i, i+1)
	}
	if len(root.Members) == 0 {
		return nil, nil
	}
	return v.Pack(), nil
}

// parseJSON reads daemon.json as docker does, and as what keeps its spaces.
func parseJSON(path string, data []byte) (hujson.Value, *hujson.Object, error) {
	if err := json.Unmarshal(data, &map[string]any{}); err != nil {
		line := 1
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line += bytes.Count(data[:syntax.Offset], []byte("\n"))
		}
		return hujson.Value{}, nil, fmt.Errorf("%s:%d: %w: %w", path, line, err, errByHand)
	}
	v, err := hujson.Parse(data)
	if err != nil {
		return v, nil, fmt.Errorf("%s: %w: %w", path, err, errByHand)
	}
	root, ok := v.Value.(*hujson.Object)
	if !ok {
		return v, nil, fmt.Errorf("%s: not an object: %w", path, errByHand)
	}
	return v, root, nil
}

// member is the place of the mirrors in the object, -1 if there are none.
func member(root *hujson.Object) int {
	return slices.IndexFunc(root.Members, func(m hujson.ObjectMember) bool {
		name, ok := m.Name.Value.(hujson.Literal)
		return ok && name.String() == mirrorsKey
	})
}

func mirrors(path string, root *hujson.Object, i int) (*hujson.Array, error) {
	list, ok := root.Members[i].Value.Value.(*hujson.Array)
	if !ok {
		return nil, fmt.Errorf("%s: %s is not a list: %w", path, mirrorsKey, errByHand)
	}
	return list, nil
}

// indexOf finds url with or without a slash at its end.
func indexOf(list *hujson.Array, url string) int {
	return slices.IndexFunc(list.Elements, func(v hujson.Value) bool {
		l, ok := v.Value.(hujson.Literal)
		return ok && l.Kind() == '"' && (l.String() == url || l.String() == url+"/")
	})
}
