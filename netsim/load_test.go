package netsim

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const good = `name: x
zones:
  - {name: a, hosts: 2}
layers:
  - {size: 1MiB}
`

const two = `name: x
zones:
  - {name: a, hosts: 2}
  - {name: b, hosts: 2}
layers:
  - {size: 1MiB}
`

func TestParseErrorsNameLineAndField(t *testing.T) {
	for _, tc := range []struct {
		name, text  string
		line        int
		field, says string
	}{
		{"empty", "", 0, "", "is empty"},
		{"only a comment", "# nothing\n", 0, "", "is empty"},
		{"not YAML", "name: [\n", 0, "", "line"},
		{"a list", "- 1\n", 1, "", "must be a mapping"},
		{"two documents", good + "---\nname: y\n", 0, "", "more than one document"},
		{"no name", "zones:\n  - {name: a, hosts: 1}\nlayers:\n  - {size: 1}\n", 0, "name", "is missing"},
		{"no zones", "name: x\nlayers:\n  - {size: 1}\n", 0, "zones", "there is none"},
		{"no layers", "name: x\nzones:\n  - {name: a, hosts: 1}\n", 0, "layers", "nothing to pull"},
		{"unknown field", good + "sped: 1\n", 6, "sped", "unknown field; known are about"},
		{"unknown nested field", "name: x\nzones:\n  - name: a\n    host: 3\n", 4, "zones[0].host", "must be a mapping"},
		{"unknown field in a list", "name: x\nzones:\n  - name: a\n    hots: 3\n", 4, "zones[0].hots", "unknown field"},
		{"given twice", "name: x\nname: y\n", 2, "name", "given twice"},
		{"rate without a unit", good + "origin:\n  egress: 500\n", 7, "origin.egress", "is not a rate"},
		{"negative rate", good + "origin:\n  egress: -5MB/s\n", 7, "origin.egress", "at least 0"},
		{"negative number", "name: x\nzones:\n  - name: a\n    hosts: -3\n", 4, "zones[0].hosts", "is negative"},
		{"word for a number", "name: x\nzones:\n  - name: a\n    hosts: many\n", 4, "zones[0].hosts", "not a whole number"},
		{"bad duration", good + "limit: 3\n", 6, "limit", "missing unit"},
		{"more than all", good + "warm:\n  - share: 130%\n", 7, "warm[0].share", "more than the whole"},
		{"list for a value", good + "seed: [1]\n", 6, "seed", "must be a single value"},
		{"value for a list", good + "faults: 3\n", 6, "faults", "must be a list"},
		{"same zone twice", "name: x\nzones:\n  - {name: a, hosts: 2}\n  - {name: a, hosts: 2}\nlayers: [{size: 1}]\n", 4, "zones[1].name", "two zones"},
		{"empty zone", "name: x\nzones:\n  - {name: a}\n  - {name: b, hosts: 1}\nlayers: [{size: 1}]\n", 3, "zones[0]", "neither hosts nor seeds"},
		{"unknown origin zone", good + "origin:\n  rtt: 1ms\n  zone: b\n", 8, "origin.zone", `no zone "b"`},
		{"unknown zone of a pair", good + "wan:\n  pairs:\n    - {a: a, b: z}\n", 8, "wan.pairs[0].b", "no other zone"},
		{"unknown arrival", good + "arrivals:\n  - {kind: soon}\n", 7, "arrivals[0].kind", "none of at_once"},
		{"poisson without a rate", good + "arrivals:\n  - {kind: poisson}\n", 7, "arrivals[0].rate", "more than 0"},
		{"rolling without a span", good + "arrivals:\n  - {kind: rolling}\n", 7, "arrivals[0].over", "more than 0"},
		{"two that take the rest", good + "arrivals:\n  - {kind: at_once}\n  - {kind: at_once}\n", 8, "arrivals[1].share", "only one"},
		{"fault of nothing", good + "faults:\n  - {at: 1s}\n", 7, "faults[0]", "has 0"},
		{"fault of two things", good + "faults:\n  - {at: 1s, kill: 5%, slow: 5%}\n", 7, "faults[0]", "has 2"},
		{"cut for good", good + "faults:\n  - {at: 1s, cut: a}\n", 7, "faults[0].for", "can never finish"},
		{"unknown lie", good + "liars:\n  - {share: 5%, how: badly}\n", 7, "liars[0].how", "none of corrupt"},
		{"unknown policy field", good + "swarm:\n  outstandin: 3\n", 7, "swarm.outstandin", "unknown field; known are"},
		{"bad policy value", good + "swarm:\n  discover: soon\n", 7, "swarm.discover", "invalid duration"},
		{"identity in the policy", good + "swarm: {self: x}\n", 6, "swarm.self", "unknown field"},
		{"sweep without values", good + "sweep:\n  - {field: seed}\n", 7, "sweep[0].values", "there is none"},
		{"sweep of too many runs", good + "sweep:\n  - {field: seed, values: [" + strings.Repeat("1, ", 100) + "1]}\n  - {field: limit, values: [" + strings.Repeat("1s, ", 100) + "1s]}\n", 7, "sweep", "at most"},
		{"sweep with too few to go along", good + "sweep:\n  - {field: seed, values: [1, 2], with: [{field: limit, values: [1s]}]}\n", 7, "sweep[0].with[0].values", "1 values to go with 2"},
		{"sweep with nothing to go along", good + "sweep:\n  - {field: seed, values: [1], with: [{values: [1s]}]}\n", 7, "sweep[0].with[0].field", "is missing"},
		{"unknown goal", good + "goals: {last: 1.05}\n", 6, "goals.last", "unknown field; known are complete"},
		{"goal below the bound", good + "goals:\n  last_over_bound: 0.9\n", 7, "goals.last_over_bound", "no system beats the bound"},
		{"goal of nothing", good + "goals:\n  duplicates: 0%\n", 7, "goals.duplicates", "leave it out"},
		{"negative goal", good + "goals:\n  origin_copies: -1\n", 7, "goals.origin_copies", "is negative"},
		{"endless goal", good + "goals:\n  origin_copies: .inf\n", 7, "goals.origin_copies", "not a number of at most"},
		{"goal that is no number", good + "goals:\n  zone_copies: .nan\n", 7, "goals.zone_copies", "not a number of at most"},
		{"goal in words", good + "goals:\n  complete: perhaps\n", 7, "goals.complete", "not true or false"},
		{"goal without a unit", good + "goals:\n  last_over_bound_plus: 1\n", 7, "goals.last_over_bound_plus", "missing unit"},
		{"dead origin", good + "origin: {down: true}\n", 6, "origin.down", "cannot be reached"},
		{"dry origin", good + "origin:\n  egress: 0/s\n", 7, "origin.egress", "sends nothing"},
		{"closed zones", two + "wan: {in: 0/s}\n", 7, "wan.in", "nothing comes into zone \"b\""},
		{"closed zone", strings.Replace(two, "b, ", "b, in: 0/s, ", 1), 4, "zones[1].in", "nothing comes into"},
		{"closed zone of the origin", strings.Replace(two, "a, ", "a, out: 0/s, ", 1), 3, "zones[0].out", "nothing leaves"},
		{"hosts that take nothing in", good + "host: {down: 0/s}\n", 6, "host.down", "nothing comes in at the hosts"},
		{"hosts of a zone that take nothing in", strings.Replace(two, "b, ", "b, host: {down: 0/s}, ", 1), 4, "zones[1].host.down", "nothing comes in at the hosts"},
		{"seeds that take nothing in", strings.Replace(two, "b, ", "b, seeds: 1, ", 1) + "seed_host: {down: 0/s}\n", 7, "seed_host.down", "nothing comes in at the seeds"},
		{"class without a rate", good + "classes:\n  - share: 5%\n    host: {up: 0/s}\n", 8, "classes[0].host.up", "leave it out"},
		{"pair without a rate", two + "wan:\n  pairs:\n    - {a: a, b: b, rate: 0/s}\n", 9, "wan.pairs[0].rate", "leave it out"},
		{"fault by nothing", good + "faults:\n  - {at: 1s, slow: 5%, factor: 0}\n", 7, "faults[0].factor", "more than 0"},
		{"fault by no number", good + "faults:\n  - {at: 1s, slow: 5%, factor: .nan}\n", 7, "faults[0].factor", "not a number of at most"},
		{"nobody pulls", "name: x\nzones:\n  - {name: a, seeds: 2}\nlayers: [{size: 1}]\n", 3, "zones", "nobody pulls"},
		{"too many hosts", "name: x\nzones:\n  - {name: a, hosts: 300000}\nlayers: [{size: 1}]\n", 3, "zones", "at most"},
		{"too many zones", "name: x\nzones:\n  - {name: a, hosts: 1, count: 1001}\nlayers: [{size: 1}]\n", 3, "zones", "1001 zones, at most"},
		{"more hosts than a number holds", "name: x\nzones:\n  - {name: a, hosts: 9223372036854775807}\n", 3, "zones[0].hosts", "of at most 1000000000"},
		{"too many layers", "name: x\nzones:\n  - {name: a, hosts: 2}\nlayers: [{size: 1}, {size: 1, count: 10000}]\n", 4, "layers", "10001 layers, at most"},
		{"more pieces than memory", "name: x\nzones:\n  - {name: a, hosts: 100000}\nlayers: [{size: 100GB}]\n", 4, "layers", "pieces on 100000 nodes"},
		{"layers at a time", good + "pull: {parallel: 1000000}\n", 6, "pull.parallel", "from 1 to"},
		{"too fast", good + "host:\n  up: 1e300B/s\n", 7, "host.up", "more than a network carries"},
		{"too long", good + "delays:\n  dht: 2000000h\n", 7, "delays.dht", "is more than 1000h"},
		{"arrival after the end", good + "arrivals:\n  - {kind: at_once, at: 2h}\n", 7, "arrivals[0].at", "is not before the limit of 1h"},
		{"arrivals in eternity", good + "arrivals:\n  - {kind: poisson, rate: 1e-300}\n", 7, "arrivals[0].rate", "at least"},
		{"churn of all", good + "churn: {rate: 1e9, until: 1s}\n", 6, "churn.rate", "at most"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(tc.text))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want an *Error", err)
			}
			if e.Line != tc.line || e.Field != tc.field || !strings.Contains(e.Problem, tc.says) {
				t.Errorf("got line %d, field %q: %s; want line %d, field %q: … %s …", e.Line, e.Field, e.Problem, tc.line, tc.field, tc.says)
			}
		})
	}
}

func TestParseUnits(t *testing.T) {
	s, err := Parse("f.yaml", []byte(`name: x
seed: 7
zones:
  - {name: a, hosts: 2, host: {up: 1Gbit/s}, rtt: 1ms}
  - {name: z, count: 2, hosts: 3, seeds: 1, in: 10MB/s}
layers: [{size: 1.28GB}, {size: 64MiB, count: 3}]
origin: {egress: 4Mbit/s, no_range: true}
warm: [{share: 5%, part: 0.25}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Zones[0].Host; got.Up != 125e6 || got.Down != 250e6 {
		t.Errorf("links of zone a = %+v", got)
	}
	if len(s.Zones) != 3 || s.Zones[1].Name != "z1" || s.Zones[2].Name != "z2" || s.Zones[2].In != 10e6 || s.Zones[2].Out != 1.25e9 {
		t.Errorf("zones = %+v", s.Zones)
	}
	if s.Layers[0].Size != 1.28e9 || s.Layers[1].Size != 64<<20 || s.Layers[1].Count != 3 {
		t.Errorf("layers = %+v", s.Layers)
	}
	if s.Origin.Egress != 5e5 || !s.Origin.NoRange || s.Origin.Zone != "a" {
		t.Errorf("origin = %+v", s.Origin)
	}
	if s.Warm[0].Share != 0.05 || s.Warm[0].Part != 0.25 {
		t.Errorf("warm = %+v", s.Warm)
	}
}

func TestExpandSweepsOverAnyField(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.yaml")
	text := good + "sweep:\n  - {field: \"zones[0].hosts\", values: [2, 4]}\n  - {field: swarm.outstanding, values: [6, 8, 10]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	runs, err := Expand(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(runs) != 6 {
		t.Fatalf("%d runs, want 6", len(runs))
	}
	last := runs[5]
	if last.Name != "x zones[0].hosts=4 swarm.outstanding=10" || last.Zones[0].Hosts != 4 || last.Swarm["outstanding"] != "10" {
		t.Errorf("last run is %q with %d hosts, outstanding %q", last.Name, last.Zones[0].Hosts, last.Swarm["outstanding"])
	}
}

// A field that goes along with a sweep changes in step with it and is not in the name.
func TestSweepTakesOthersAlong(t *testing.T) {
	runs, err := expand("s.yaml", []byte(good+"sweep:\n  - field: seed\n    values: [3, 4]\n    with: [{field: goals.origin_copies, values: [1.5, 2]}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(runs) != 2 || runs[0].Goals.OriginCopies != 1.5 || runs[1].Goals.OriginCopies != 2 || runs[1].Seed != 4 || runs[1].Name != "x seed=4" {
		t.Errorf("%d runs, the first %q with %+v", len(runs), runs[0].Name, runs[0].Goals)
	}
}

// A bad value of a sweep is found at the line where it stands.
func TestSweepOverBadValues(t *testing.T) {
	var e *Error
	_, err := expand("s.yaml", []byte(good+"sweep:\n  - field: origin.egress\n    values:\n      - 5MB/s\n      - fast\n"))
	if !errors.As(err, &e) || e.Line != 10 || e.Field != "origin.egress" {
		t.Errorf("error = %v", err)
	}
}

func TestFind(t *testing.T) {
	if runs, err := Find("table-20"); err != nil || len(runs) != 2 {
		t.Errorf("%d runs, error %v", len(runs), err)
	}
	if runs, err := Find("scenarios/table-20.yaml"); err != nil || len(runs) != 2 {
		t.Errorf("%d runs, error %v", len(runs), err)
	}
	for _, name := range []string{"table-21", "./table-20", "no/such.yaml", ""} {
		if _, err := Find(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: error = %v", name, err)
		}
	}
	if _, err := Find("/dev/zero"); err == nil {
		t.Error("an endless file is no error")
	}
}

func TestSweepOverNothingIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.yaml")
	if err := os.WriteFile(file, []byte(good+"sweep:\n  - {field: \"zones[3].hosts\", values: [2]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := Expand(file); !errors.As(err, &e) || e.Line != 7 || e.Field != "sweep[0].field" {
		t.Errorf("error = %v", err)
	}
}

func TestScenariosThatShipAreGood(t *testing.T) {
	files, err := filepath.Glob("scenarios/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, f := range files {
		runs, err := Expand(f)
		if err != nil {
			t.Error(err)
			continue
		}
		if name, _, _ := strings.Cut(runs[0].Name, " "); name+".yaml" != filepath.Base(f) {
			t.Errorf("%s is named %q", f, name)
		}
		if runs[0].About == "" {
			t.Errorf("%s says nothing about itself", f)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("scenarios/*.yaml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse("f.yaml", text)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("error without a place: %v", err)
		}
		if err == nil && len(s.Zones) == 0 {
			t.Error("no zones and no error")
		}
	})
}

// The fields that the README of the scenarios shows are good.
func TestReadmeExample(t *testing.T) {
	text, err := os.ReadFile("scenarios/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("no example")
	}
	if _, err := Parse("README.md", []byte(example)); err != nil {
		t.Error(err)
	}
}
