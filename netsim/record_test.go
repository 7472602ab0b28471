package netsim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

const recordScenario = `zones: [{name: a, hosts: 20, seeds: 2}, {name: "b \"q\"", hosts: 20}]
layers: [{size: 24MiB}, {size: 2MiB, count: 2}]
network: {loss: 0.5%}
faults: [{at: 200ms, kill: 5%}]
liars: [{share: 5%, how: corrupt}]
`

func record(t *testing.T, opts Options) string {
	t.Helper()
	var b bytes.Buffer
	opts.Record = &b
	run(t, recordScenario, opts)
	return b.String()
}

// The record is the same for any number of workers, and every line is a JSON object with a time, a node and a name.
func TestRecord(t *testing.T) {
	one := record(t, Options{Workers: 1})
	if record(t, Options{Workers: 4}) != one {
		t.Error("four workers record something else than one")
	}
	seen := map[string]int{}
	for text := range strings.Lines(one) {
		var line struct {
			T             *float64
			Node          string
			Event, Action string
			Msg           string
			Peer          string
			Piece         *int64
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if line.T == nil || line.Node == "" || (line.Event == "") == (line.Action == "") || strings.Contains(line.Event+line.Action+line.Msg, ".") {
			t.Fatalf("line %q", text)
		}
		name := line.Event + line.Action
		if name == "RequestPiece" && (line.Piece == nil || line.Peer == "") {
			t.Fatalf("line %q", text)
		}
		seen[name]++
	}
	for _, name := range []string{
		"Member", "MemberLost", "Received", "Wanted", "Reading", "ReadClosed", "Held", "ProvidersFound", "PieceRequested",
		"PieceServed", "PieceArrived", "PieceFailed", "OriginSized", "OriginPiece", "OriginDone", "Verified", "Send",
		"FindProviders", "Announce", "OpenBlob", "RequestPiece", "ServePiece", "FetchOrigin", "Verify", "Quarantine",
	} {
		if seen[name] == 0 {
			t.Errorf("no %s was recorded", name)
		}
	}
}

func TestRecordOfSomeNodes(t *testing.T) {
	nodes := map[string]bool{}
	for text := range strings.Lines(record(t, Options{RecordNodes: []string{"a-seed-2", `b "q"-7`}})) {
		var line struct{ Node string }
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		nodes[line.Node] = true
	}
	if len(nodes) != 2 || !nodes["a-seed-2"] || !nodes[`b "q"-7`] {
		t.Errorf("recorded: %v", nodes)
	}
}

func TestRecordOfNobody(t *testing.T) {
	opts := Options{Record: new(bytes.Buffer), RecordNodes: []string{"a-1", "c-1"}}
	if _, err := parse(t, recordScenario).Run(context.Background(), opts); !errors.Is(err, ErrNoNode) || !strings.Contains(err.Error(), "c-1") {
		t.Errorf("error = %v", err)
	}
}

type fullDisk struct{ left int }

var errFull = errors.New("disk full")

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.left -= len(p); d.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// A record that cannot be written ends the run, in the middle or at the end.
func TestRecordOnFullDisk(t *testing.T) {
	for _, room := range []int{0, 100 << 10, len(record(t, Options{})) - 1} {
		if _, err := parse(t, recordScenario).Run(context.Background(), Options{Record: &fullDisk{room}}); !errors.Is(err, errFull) {
			t.Errorf("room for %d bytes: error = %v", room, err)
		}
	}
}
