package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "rewrite the config table of README.md")

// runFlags are the flags of `meshd run`, as --help shows them.
func runFlags(t *testing.T) []*kong.Flag {
	t.Helper()
	var cmds commands
	var out bytes.Buffer
	parser, err := newParser(&cmds, streams{out: &out, err: &out}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	var flags []*kong.Flag
	for _, cmd := range parser.Model.Children {
		for _, f := range cmd.Flags {
			if cmd.Name == "run" && f.Name != "help" {
				flags = append(flags, f)
			}
		}
	}
	return flags
}

const (
	tableBegin = "<!-- config table: make generate -->\n"
	tableEnd   = "<!-- end of config table -->\n"
)

// The README's table of flags is what --help says.
func TestReadmeConfigTable(t *testing.T) {
	const readme = "../../README.md"
	data, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), tableBegin)
	if !ok {
		t.Fatal("README.md has no config table")
	}
	old, foot, ok := strings.Cut(rest, tableEnd)
	if !ok {
		t.Fatal("README.md: the config table has no end")
	}
	table := "\n| flag | variable | what |\n|---|---|---|\n"
	for _, f := range runFlags(t) {
		name := "--" + f.Name
		if !f.IsBool() {
			name += " " + f.PlaceHolder
		}
		table += fmt.Sprintf("| `%s` | `%s` | %s |\n", name, f.Envs[0], f.Help)
	}
	table += "\n"
	if old == table {
		return
	}
	if !*update {
		t.Fatal("the config table of README.md is not what --help says: run `make generate`")
	}
	if err := os.WriteFile(readme, []byte(head+tableBegin+table+tableEnd+foot), 0o644); err != nil {
		t.Fatal(err)
	}
}
