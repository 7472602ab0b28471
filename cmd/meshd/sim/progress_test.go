package sim

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshd-project/meshd/netsim"
)

func TestBarShowsUpLateAndSeldom(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	b := &bar{w: &out, now: func() time.Time { return now }}
	b.begin("quick")
	now = now.Add(barAfter - 1)
	b.show(netsim.Progress{Pieces: 9, Total: 10})
	b.end()
	if out.Len() > 0 {
		t.Errorf("a run of less than a second shows %q", &out)
	}

	b.begin("3 of 14: " + strings.Repeat("long ", 20))
	for range 1000 { // of 10 ms
		now = now.Add(10 * time.Millisecond)
		b.show(netsim.Progress{Virtual: 1500 * time.Millisecond, Pieces: 25, Total: 100, Open: 7})
	}
	drawn := strings.Split(out.String(), "\r\x1b[K")[1:]
	if len(drawn) < 40 || len(drawn) > 50 {
		t.Errorf("drawn %d times in 10 s", len(drawn))
	}
	const want = "3 of 14: long long long long long long … [#######                       ]  25 %  1.5 s simulated, 7 hosts to go"
	if drawn[0] != want {
		t.Errorf("drawn %q, want %q", drawn[0], want)
	}
	out.Reset()
	b.end()
	if out.String() != "\r\x1b[K" {
		t.Errorf("the end leaves %q", &out)
	}
}

func TestNoBarOffATerminal(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/err")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	now := time.Unix(0, 0)
	b := newBar(file, func() time.Time { return now })
	b.begin("x")
	now = now.Add(time.Hour)
	b.show(netsim.Progress{})
	b.end()
	if info, err := file.Stat(); err != nil || info.Size() > 0 {
		t.Errorf("wrote %d bytes, error %v", info.Size(), err)
	}
}
