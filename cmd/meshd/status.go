package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/meshd-project/meshd/node"
)

// statusCommand is `meshd status`.
type statusCommand struct {
	adminFlags
	JSON bool `name:"json" help:"Print the node's answer as it is."`
}

// Run asks the node and prints.
func (s *statusCommand) Run(ctx context.Context, std streams) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	data, err := c.Get(ctx, "/v1/status")
	if err != nil {
		return fmt.Errorf("status of the node at %s: %w", s.AdminAddr, err)
	}
	if s.JSON {
		_, err := fmt.Fprintf(std.out, "%s\n", bytes.TrimSpace(data))
		return err
	}
	var st map[string]json.RawMessage
	if err := json.Unmarshal(data, &st); err != nil {
		return fmt.Errorf("status of the node at %s: %w", s.AdminAddr, err)
	}
	return writeStatus(std.out, st)
}

// sources are the keys of bytes_in and bytes_out, with the words for people. Bytes go out to peers only.
var sources = []struct {
	key, label string
	out        bool
}{
	{"disk", "disk", false}, {"zone", "own zone", true}, {"other_zone", "other zones", true}, {"origin", "registries", false},
}

// writeStatus prints what the fixed keys of /v1/status say (docs/operator.md lists them).
func writeStatus(w io.Writer, st map[string]json.RawMessage) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range []struct {
		key, label string
		maybe      bool // not shown if it is not there
	}{
		{key: "peer_id", label: "peer id"},
		{key: "zone", label: "zone"},
		{key: "zone_source", label: "zone from"},
		{key: "zone_next", label: "zone next", maybe: true},
		{key: "zone_problem", label: "zone problem", maybe: true},
		{key: "mesh_keys", label: "mesh keys", maybe: true},
		{key: "seed", label: "seed"},
		{key: "peers", label: "peers"},
		{key: "pulls", label: "blobs arriving"},
		{key: "origin_requests", label: "origin requests"},
		{key: "duplicate_bytes", label: "duplicate bytes"},
		{key: "quarantined", label: "quarantined"},
	} {
		if value, ok := st[row.key]; ok || !row.maybe {
			fmt.Fprintf(t, "%s\t%s\n", row.label, oneLine(row.key, value))
		}
	}
	for _, dir := range []struct{ key, label string }{{"bytes_in", "in from"}, {"bytes_out", "out to"}} {
		var bySource map[string]int64
		if err := json.Unmarshal(st[dir.key], &bySource); err != nil {
			return fmt.Errorf("%s: %w", dir.key, err)
		}
		for _, s := range sources {
			if n, ok := bySource[s.key]; ok && (s.out || dir.key == "bytes_in") {
				fmt.Fprintf(t, "%s %s\t%s\n", dir.label, s.label, sizeText(n))
			}
		}
	}
	var store struct{ Bytes, Blobs int64 }
	if err := json.Unmarshal(st["store"], &store); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	fmt.Fprintf(t, "on disk\t%s in %d blobs\n", sizeText(store.Bytes), store.Blobs)
	return t.Flush()
}

// oneLine shows a list by its length and the rest as it is.
func oneLine(key string, value json.RawMessage) string {
	var keys []node.MeshKey
	if key == "mesh_keys" && json.Unmarshal(value, &keys) == nil {
		var words []string
		for _, k := range keys {
			words = append(words, fmt.Sprintf("%s (%d connections)", k.ID, k.Connections))
		}
		return strings.Join(words, ", ")
	}
	var list []json.RawMessage
	if json.Unmarshal(value, &list) == nil {
		return fmt.Sprint(len(list))
	}
	var n int64
	if strings.HasSuffix(key, "_bytes") && json.Unmarshal(value, &n) == nil {
		return sizeText(n)
	}
	return strings.Trim(string(value), `"`)
}

func sizeText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
