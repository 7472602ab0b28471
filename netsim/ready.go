package netsim

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// ready holds the scenarios that come with the package.
//
//go:embed scenarios/*.yaml
var ready embed.FS

// Ready returns the names of the ready-made scenarios in order.
func Ready() []string {
	files, err := ready.ReadDir("scenarios")
	if err != nil {
		panic(err) // they are compiled in
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	return names
}

// Find is Expand for the name of a ready-made scenario or a file. A file with such a name is meant if it is given as
// a path: "./table-20".
func Find(name string) ([]*Scenario, error) {
	text, err := ready.ReadFile("scenarios/" + name + ".yaml")
	if err == nil {
		return expand(name+".yaml", text)
	}
	runs, err := Expand(name)
	if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(name, "/.") {
		return nil, fmt.Errorf("%q is neither a file nor a ready-made scenario: %w", name, fs.ErrNotExist)
	}
	return runs, err
}
