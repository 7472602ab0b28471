package netsim

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Error says what is wrong with a scenario, and where.
type Error struct {
	File    string
	Line    int    // from 1; 0 if the field is not in the file
	Field   string // "zones[1].up"; empty for the file as a whole
	Problem string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Field != "" {
		b.WriteString(": " + e.Field)
	}
	return b.String() + ": " + e.Problem
}

// decoder fills a scenario from YAML. Unlike a plain unmarshal it refuses what it does not know, and remembers on which
// line each field stands, so that a check that fails later can name it too.
type decoder struct {
	file  string
	lines map[string]int
}

func (d *decoder) fail(n *yaml.Node, field, format string, args ...any) error {
	return &Error{File: d.file, Line: n.Line, Field: field, Problem: fmt.Sprintf(format, args...)}
}

// decode stores n in v, which is addressable.
func (d *decoder) decode(n *yaml.Node, v reflect.Value, field string) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if field != "" {
		d.lines[field] = n.Line
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if n.Kind != yaml.ScalarNode {
			return d.fail(n, field, "must be a single value")
		}
		if err := u.UnmarshalText([]byte(n.Value)); err != nil {
			return d.fail(n, field, "%v", err)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.decodeStruct(n, v, field)
	case reflect.Slice:
		return d.decodeList(n, v, field)
	case reflect.Map:
		return d.decodeMap(n, v, field)
	default:
		return d.decodeScalar(n, v, field)
	}
}

func (d *decoder) decodeStruct(n *yaml.Node, v reflect.Value, field string) error {
	if n.Kind != yaml.MappingNode {
		return d.fail(n, field, "must be a mapping")
	}
	names := fieldNames(v.Type())
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, sub := n.Content[i], join(field, n.Content[i].Value)
		at := slices.Index(names, key.Value)
		if at < 0 {
			return d.fail(key, sub, "unknown field; known are %s", known(names))
		}
		if seen[key.Value] {
			return d.fail(key, sub, "given twice")
		}
		seen[key.Value] = true
		if err := d.decode(n.Content[i+1], v.Field(at), sub); err != nil {
			return err
		}
	}
	return nil
}

// known lists the fields that may be given.
func known(names []string) string {
	names = slices.DeleteFunc(slices.Sorted(slices.Values(names)), func(n string) bool { return n == "-" })
	return strings.Join(names, ", ")
}

func (d *decoder) decodeList(n *yaml.Node, v reflect.Value, field string) error {
	if n.Kind != yaml.SequenceNode {
		return d.fail(n, field, "must be a list")
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		if err := d.decode(item, v.Index(i), fmt.Sprintf("%s[%d]", field, i)); err != nil {
			return err
		}
	}
	return nil
}

// decodeMap takes scalars by name; their meaning is checked later.
func (d *decoder) decodeMap(n *yaml.Node, v reflect.Value, field string) error {
	if n.Kind != yaml.MappingNode {
		return d.fail(n, field, "must be a mapping")
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if val.Kind != yaml.ScalarNode {
			return d.fail(val, join(field, key.Value), "must be a single value")
		}
		d.lines[join(field, key.Value)] = key.Line
		v.SetMapIndex(reflect.ValueOf(key.Value), reflect.ValueOf(val.Value))
	}
	return nil
}

func (d *decoder) decodeScalar(n *yaml.Node, v reflect.Value, field string) error {
	if n.Kind != yaml.ScalarNode {
		return d.fail(n, field, "must be a single value")
	}
	if err := n.Decode(v.Addr().Interface()); err != nil {
		return d.fail(n, field, "%q is not %s", n.Value, kindName(v.Kind()))
	}
	switch {
	case v.Kind() == reflect.Int && v.Int() < 0, v.Kind() == reflect.Float64 && v.Float() < 0:
		return d.fail(n, field, "is negative")
	case v.Kind() == reflect.Int && v.Int() > maxNumber, v.Kind() == reflect.Float64 && !(v.Float() <= maxNumber):
		return d.fail(n, field, "is not a number of at most %d", maxNumber)
	}
	return nil
}

// maxNumber bounds what a scenario counts, so that sums and products stay numbers.
const maxNumber = 1_000_000_000

func kindName(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Uint64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	}
	return "text"
}

// fieldNames returns the YAML names of a struct's fields in order: the tag, or the Go name in snake case.
func fieldNames(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		f := t.Field(i)
		if names[i] = f.Tag.Get("yaml"); names[i] == "" {
			names[i] = snake(f.Name)
		}
		if !f.IsExported() {
			names[i] = "-"
		}
	}
	return names
}

// snake turns a Go name into snake case: WANOut is wan_out.
func snake(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		upper := 'A' <= c && c <= 'Z'
		if upper && i > 0 && (!isUpper(name[i-1]) || i+1 < len(name) && !isUpper(name[i+1])) {
			b.WriteByte('_')
		}
		if upper {
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return b.String()
}

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}
