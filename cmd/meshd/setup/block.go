package setup

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A block is what setup adds to a TOML file, between two comments, so that it is found again. If it took the place of a
// line, the last comment holds that line.
const (
	blockBegin = "# begin: meshd setup"
	blockEnd   = "# end: meshd setup"
	blockOver  = "; before: "
)

// decodeTOML reads a file as its client would. The error names file and line.
func decodeTOML(path string, data []byte) (map[string]any, error) {
	doc := map[string]any{}
	err := toml.Unmarshal(data, &doc)
	var at *toml.DecodeError
	if errors.As(err, &at) {
		line, _ := at.Position()
		return nil, fmt.Errorf("%s:%d: %w: %w", path, line, err, errByHand)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, err, errByHand)
	}
	return doc, nil
}

// lookup follows keys through tables; nil if one is missing.
func lookup(doc map[string]any, keys ...string) any {
	var v any = doc
	for _, k := range keys {
		table, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = table[k]
	}
	return v
}

// takeBlock cuts the block out, and puts the line back whose place it took. found is false if there is none.
func takeBlock(data []byte) (rest []byte, found bool) {
	lines := bytes.SplitAfter(data, []byte("\n"))
	begin := -1
	for i, l := range lines {
		l = bytes.TrimSpace(l)
		switch {
		case string(l) == blockBegin:
			begin = i
		case begin >= 0 && bytes.HasPrefix(l, []byte(blockEnd)):
			return cutLines(lines, begin, i), true
		}
	}
	return data, false
}

// cutLines leaves out the block from begin to end.
func cutLines(lines [][]byte, begin, end int) []byte {
	_, over, _ := bytes.Cut(lines[end], []byte(blockOver))
	rest := append(bytes.Join(lines[:begin], nil), over...)
	return append(rest, bytes.Join(lines[end+1:], nil)...)
}

// withoutBlock is take of a part that is a block: nil if only blanks are left.
func withoutBlock(data []byte) ([]byte, error) {
	rest, found := takeBlock(data)
	if found && len(bytes.TrimSpace(rest)) == 0 {
		return nil, nil
	}
	return rest, nil
}

// block makes a block of lines, indented like what it stands beside. over is the line that it takes the place of, with
// its line break.
func block(indent string, lines []string, over string) []byte {
	var b strings.Builder
	for _, l := range slices.Concat([]string{blockBegin}, lines) {
		b.WriteString(indent + l + "\n")
	}
	b.WriteString(indent + blockEnd)
	if over != "" {
		b.WriteString(blockOver + strings.TrimSuffix(over, "\n"))
	}
	b.WriteString("\n")
	return []byte(b.String())
}

// insert puts b into data at an offset, or in place of the bytes up to end. What stands before gets a line break if it
// has none.
func insert(data []byte, at, end int, b []byte) []byte {
	head := bytes.Clone(data[:at])
	if len(head) > 0 && head[len(head)-1] != '\n' {
		head = append(head, '\n')
	}
	return slices.Concat(head, b, data[end:])
}

// place is where an expression of a TOML file stands, in whole lines.
type place struct {
	start, end int // offsets of the first byte of its first line, and after its last line
	indent     string
}

// expressions walks through the tables and values of a TOML file; table is the header that a value stands under, key the
// header itself or the value's key below it.
func expressions(data []byte, visit func(kind unstable.Kind, table, key []string, at place)) error {
	p := unstable.Parser{}
	p.Reset(data)
	var table []string
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.KeyValue && e.Kind != unstable.Table && e.Kind != unstable.ArrayTable {
			continue
		}
		var key []string
		first := -1
		for it := e.Key(); it.Next(); {
			n := it.Node()
			key = append(key, string(n.Data))
			if first < 0 {
				first = int(n.Raw.Offset)
			}
		}
		if e.Kind != unstable.KeyValue {
			table = key
		}
		visit(e.Kind, table, key, lineOf(data, first))
	}
	return p.Error()
}

// lineOf is the line around an offset.
func lineOf(data []byte, at int) place {
	start := bytes.LastIndexByte(data[:at], '\n') + 1
	end := len(data)
	if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
		end = at + i + 1
	}
	line := data[start:end]
	return place{start: start, end: end, indent: string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])}
}

// same reports whether two documents differ in nothing but the value at keys, which is want in the second.
func same(before, after map[string]any, want any, keys ...string) bool {
	if !reflect.DeepEqual(lookup(after, keys...), want) {
		return false
	}
	return reflect.DeepEqual(without(before, keys), without(after, keys))
}

// without is a copy of doc less the value at keys; tables that are empty then are left out too.
func without(doc map[string]any, keys []string) map[string]any {
	out := map[string]any{}
	for k, v := range doc {
		if k != keys[0] {
			out[k] = v
			continue
		}
		if table, ok := v.(map[string]any); ok && len(keys) > 1 {
			if rest := without(table, keys[1:]); len(rest) > 0 {
				out[k] = rest
			}
		}
	}
	return out
}
