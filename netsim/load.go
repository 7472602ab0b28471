package netsim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds what is read of a scenario file.
const maxFile = 1 << 20

func read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("load scenario: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("load scenario: %w", err)
	}
	if len(text) > maxFile {
		return nil, &Error{File: file, Problem: fmt.Sprintf("is larger than %d bytes", maxFile)}
	}
	return text, nil
}

// Parse reads a scenario from text; file is its name in errors. What is wrong with it comes as an *Error that names line
// and field. A scenario with sweeps is the first of its runs; Expand gives all.
func Parse(file string, text []byte) (*Scenario, error) {
	root, err := parseYAML(file, text)
	if err != nil {
		return nil, err
	}
	return build(file, root)
}

// Expand reads the runs of a scenario file: one for each combination of the values that it sweeps over, named by
// them, or just the one.
func Expand(file string) ([]*Scenario, error) {
	text, err := read(file)
	if err != nil {
		return nil, err
	}
	return expand(file, text)
}

func expand(file string, text []byte) ([]*Scenario, error) {
	first, err := Parse(file, text)
	if err != nil {
		return nil, err
	}
	runs := []*Scenario{}
	for _, set := range combinations(first.Sweep) {
		root, err := parseYAML(file, text)
		if err != nil {
			return nil, err
		}
		var names []string
		for i, v := range set {
			sw := first.Sweep[i]
			if err := first.assign(root, fmt.Sprintf("sweep[%d]", i), sw.Field, sw.Values, v); err != nil {
				return nil, err
			}
			for k, w := range sw.With {
				if err := first.assign(root, fmt.Sprintf("sweep[%d].with[%d]", i, k), w.Field, w.Values, v); err != nil {
					return nil, err
				}
			}
			names = append(names, sw.Field+"="+sw.Values[v])
		}
		s, err := build(file, root)
		if err != nil {
			return nil, err
		}
		s.Name = strings.Join(append([]string{s.Name}, names...), " ")
		runs = append(runs, s)
	}
	return runs, nil
}

// combinations returns one value of each sweep, by its number, in all ways; a single empty one without sweeps.
func combinations(sweeps []Sweep) [][]int {
	sets := [][]int{nil}
	for _, s := range sweeps {
		var next [][]int
		for _, set := range sets {
			for v := range s.Values {
				next = append(next, append(slices.Clone(set), v))
			}
		}
		sets = next
	}
	return sets
}

func parseYAML(file string, text []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, &Error{File: file, Problem: "is empty"}
	} else if err != nil {
		return nil, &Error{File: file, Problem: strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	if len(doc.Content) != 1 {
		return nil, &Error{File: file, Problem: "is empty"}
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, &Error{File: file, Problem: "holds more than one document"}
	}
	return doc.Content[0], nil
}

func build(file string, root *yaml.Node) (*Scenario, error) {
	s := defaults()
	d := decoder{file: file, lines: map[string]int{}}
	if err := d.decode(root, reflect.ValueOf(&s).Elem(), ""); err != nil {
		return nil, err
	}
	s.file, s.lines = file, d.lines
	if err := s.complete(); err != nil {
		return nil, err
	}
	return &s, nil
}

// assign sets a swept field to one of its values. What is wrong with either then has the line of the sweep.
func (s *Scenario) assign(root *yaml.Node, at, field string, values []string, v int) error {
	if err := assign(root, field, values[v], s.lines[fmt.Sprintf("%s.values[%d]", at, v)]); err != nil {
		return s.problem(at+".field", "%v", err)
	}
	return nil
}

// assign sets a field, given by its path, to a scalar in a parsed document; mappings on the way are made.
func assign(n *yaml.Node, field, value string, line int) error {
	for part := range strings.SplitSeq(field, ".") {
		name, index, indexed := strings.Cut(strings.TrimSuffix(part, "]"), "[")
		if n.Kind != yaml.MappingNode {
			return fmt.Errorf("%q is not in a mapping", part)
		}
		n = child(n, name, line)
		if !indexed {
			continue
		}
		i, err := strconv.Atoi(index)
		if err != nil || n.Kind != yaml.SequenceNode || i < 0 || i >= len(n.Content) {
			return fmt.Errorf("there is no %q", part)
		}
		n = n.Content[i]
	}
	*n = yaml.Node{Kind: yaml.ScalarNode, Value: value, Line: line}
	return nil
}

func child(n *yaml.Node, name string, line int) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	c := &yaml.Node{Kind: yaml.MappingNode, Line: line}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name, Line: line}, c)
	return c
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// given reports whether a field is in the file.
func (s *Scenario) given(field string) bool {
	_, ok := s.lines[field]
	return ok
}

// inherit gives a rate a default, unless the file says that it is 0.
func (s *Scenario) inherit(field string, v *Rate, d Rate) {
	if !s.given(field) {
		*v = d
	}
}

// complete fills in what depends on other fields and checks the whole.
func (s *Scenario) complete() error {
	if s.Name == "" {
		return s.problem("name", "is missing")
	}
	if len(s.Zones) == 0 {
		return s.problem("zones", "there is none")
	}
	if len(s.Layers) == 0 {
		return s.problem("layers", "there is none: nothing to pull")
	}
	for i := range s.Zones {
		z, at := &s.Zones[i], fmt.Sprintf("zones[%d].", i)
		setDefault(&z.Count, 1)
		s.inherit(at+"host.up", &z.Host.Up, s.Host.Up)
		s.inherit(at+"host.down", &z.Host.Down, s.Host.Down)
		s.inherit(at+"seed_host.up", &z.SeedHost.Up, s.SeedHost.Up)
		s.inherit(at+"seed_host.down", &z.SeedHost.Down, s.SeedHost.Down)
		s.inherit(at+"out", &z.Out, s.WAN.Out)
		s.inherit(at+"in", &z.In, s.WAN.In)
		if !s.given(at + "rtt") {
			z.RTT = Duration(500 * time.Microsecond)
		}
	}
	if err := s.checkNumbers(); err != nil {
		return err
	}
	s.spread()
	for i := range s.Layers {
		setDefault(&s.Layers[i].Count, 1)
	}
	if len(s.Arrivals) == 0 {
		s.Arrivals = []Arrival{{Kind: "at_once"}}
	}
	for i := range s.Warm {
		setDefault(&s.Warm[i].Part, 1)
	}
	for i := range s.Faults {
		if !s.given(fmt.Sprintf("faults[%d].factor", i)) {
			s.Faults[i].Factor = 0.1
		}
	}
	if s.Origin.Zone == firstZone {
		s.Origin.Zone = s.Zones[0].Name
	}
	return s.validate()
}

// spread turns a zone with a count into that many zones.
func (s *Scenario) spread() {
	var all []Zone
	lines := map[string]int{}
	for i, z := range s.Zones {
		for k := range z.Count {
			one := z
			one.Count = 1
			if z.Count > 1 {
				one.Name = z.Name + strconv.Itoa(k+1)
			}
			from, to := fmt.Sprintf("zones[%d]", i), fmt.Sprintf("zones[%d]", len(all))
			for field, line := range s.lines {
				if rest, ok := strings.CutPrefix(field, from); ok {
					lines[to+rest] = line
				}
			}
			all = append(all, one)
		}
	}
	for field, line := range lines {
		s.lines[field] = line
	}
	s.Zones = all
}

// problem makes an error about a field, with its line or that of the nearest field around it.
func (s *Scenario) problem(field, format string, args ...any) error {
	line := 0
	for f := field; line == 0 && f != ""; {
		line = s.lines[f]
		f = f[:max(strings.LastIndexAny(f, ".["), 0)]
	}
	return &Error{File: s.file, Line: line, Field: field, Problem: fmt.Sprintf(format, args...)}
}
