package get

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/meshd-project/meshd/mirror/gateway"
)

// sleeper is a source of which nothing comes for a time.
type sleeper struct {
	takes time.Duration
	says  gateway.Waiting
	err   error
}

func (sleeper) String() string { return "the sleeper" }

func (s sleeper) Open(_ context.Context, f File, _ int64, _ string) (*Answer, error) {
	f.Waiting(s.says)
	time.Sleep(s.takes)
	return &Answer{Body: io.NopCloser(strings.NewReader("data")), Size: 4}, s.err
}

// Where there is no terminal, a wait of ten seconds is worth one line, and one that is shorter none.
func TestSilence(t *testing.T) {
	for _, row := range []struct {
		takes time.Duration
		want  string
	}{
		{9 * time.Second, ""},
		{15 * time.Second, "meshd: f: no byte after 10s: 10.0.0.7 reads all of it\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			j := &Job{Sources: []Source{sleeper{takes: row.takes, says: gateway.Waiting{Reader: "id", Address: "10.0.0.7"}}}, Out: io.Discard, See: NewProgress(&out, false, "f")}
			if err := j.Run(t.Context()); err != nil || out.String() != row.want {
				t.Errorf("%v: %q, %v", row.takes, &out, err)
			}
		})
	}
}

// Programs are told each second what the node says, until the file comes; a source that is not there takes with it what it said.
func TestWaitEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		j := &Job{Out: io.Discard, See: NewProgress(&out, true, "f"), Sources: []Source{
			sleeper{takes: 1500 * time.Millisecond, says: gateway.Waiting{Read: 9, Reader: gateway.Here}, err: ErrAbsent},
			sleeper{takes: time.Second},
		}}
		if err := j.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []string
		for dec := json.NewDecoder(&out); ; {
			var e Event
			if dec.Decode(&e) != nil {
				break
			}
			got = append(got, fmt.Sprintf("%s %.0fs %d %v", e.Event, e.Seconds, e.Size, e.Node))
		}
		if text := strings.Join(got, "; "); text != "wait 1s -1 &{9 here }; wait 2s -1 <nil>; start 2s 4 <nil>; done 2s 4 <nil>" {
			t.Error(text)
		}
	})
}

func TestWaitLine(t *testing.T) {
	for _, row := range []struct {
		name string
		node gateway.Waiting
		want string
	}{
		{"a.tar", gateway.Waiting{}, "a.tar: no byte after 1m15s: waiting for the node"},
		{"a.tar", gateway.Waiting{Read: 1 << 20}, "a.tar: no byte after 1m15s: 1.0 MiB are at the node"},
		{"a.tar", gateway.Waiting{Read: 3 << 19, Reader: gateway.Here}, "a.tar: no byte after 1m15s: this node reads all of it, 1.5 MiB so far"},
		{"a.tar", gateway.Waiting{Reader: "12D3KooW0123456789abcdef"}, "a.tar: no byte after 1m15s: peer …89abcdef reads all of it"},
		{strings.Repeat("ä", 300) + "b.tar", gateway.Waiting{Read: 1023 << 20, Reader: gateway.Here}, "this node reads all of it, 1023.0 MiB so far"},
	} {
		w := &Wait{For: 75*time.Second + 1, From: "the node", Node: row.node}
		for _, columns := range []int{200, 80, 20, 1, 0} {
			got := waitLine(row.name, w, columns)
			if n := utf8.RuneCountInString(got); n > max(columns-1, 0) || !utf8.ValidString(got) {
				t.Errorf("%d columns: %d in %q", columns, n, got)
			}
			if columns == 80 && !strings.HasSuffix(row.want, got[len(got)-10:]) {
				t.Errorf("%q has lost its end", got)
			}
			if columns == 200 && len(row.name) < 100 && got != row.want {
				t.Errorf("%q, want %q", got, row.want)
			}
			if columns == 80 && len(row.name) > 100 && (!strings.HasPrefix(got, "…") || !strings.HasSuffix(got, "b.tar: no byte after 1m15s: this node reads all of it, 1023.0 MiB so far")) {
				t.Errorf("%q", got)
			}
		}
	}
}
