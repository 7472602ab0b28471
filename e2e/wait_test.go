package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// startStuckServer serves one file without a length, of which the second half comes once go on is closed.
func startStuckServer(t testing.TB, n network, on <-chan struct{}) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", n.host(210)+":8080")
	must(t, err)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"stuck"`)
		w.(http.Flusher).Flush()
		if r.Method != http.MethodGet {
			return
		}
		half := make([]byte, 64<<10)
		_, _ = w.Write(half)
		w.(http.Flusher).Flush()
		select {
		case <-on:
		case <-r.Context().Done():
		}
		_, _ = w.Write(half)
	})}
	go server.Serve(l) //nolint:errcheck // it is closed
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

// waitEvent is what `meshd get --json` says while no byte comes, and at its end.
type waitEvent struct {
	Event string
	Done  int64
	Node  struct {
		Read            int64
		Reader, Address string
	}
}

// events runs `meshd get --json` and passes on what it says.
func (n *node) events(ctx context.Context, t testing.TB, url string) <-chan waitEvent {
	t.Helper()
	cmd := n.get(ctx, t, "--json", "-o", filepath.Join(n.dir, "out"), url)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	events := make(chan waitEvent)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer cmd.Wait() //nolint:errcheck // the events say how it ended
		defer close(events)
		for dec := json.NewDecoder(out); ; {
			var e waitEvent
			if dec.Decode(&e) != nil {
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() { <-ended })
	return events
}

// Who waits for a file without a length is told who reads it, and how far that is if it is the own node; all get it when the
// server comes to its end.
func TestGetTellsWhoReads(t *testing.T) {
	n := newNetwork(t)
	on := make(chan struct{})
	addr := startStuckServer(t, n, on)
	m := &mesh{net: n, origin: "http://" + addr, dir: t.TempDir(), extra: []string{"--files-allow", addr}}
	m.start(t, nodeSpec{"east", false}, nodeSpec{"east", false})
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	t.Cleanup(cancel) // before the wait for the commands
	until := func(who string, events <-chan waitEvent, what func(waitEvent) bool) {
		t.Helper()
		last := "nothing"
		for e := range events {
			last = fmt.Sprintf("%+v", e)
			if what(e) {
				return
			}
		}
		t.Fatalf("%s ends after %s", who, last)
	}
	reader, other := m.nodes[0], m.nodes[1]
	first := reader.events(ctx, t, "http://"+addr+"/f")
	until("the reader", first, func(e waitEvent) bool { return e.Event == "wait" && e.Node.Reader == "here" && e.Node.Read == 64<<10 })
	second := other.events(ctx, t, "http://"+addr+"/f")
	id := reader.status(t).PeerID
	until("the other", second, func(e waitEvent) bool {
		return e.Event == "wait" && e.Node.Reader == id && e.Node.Address == reader.host
	})
	close(on)
	for who, events := range map[string]<-chan waitEvent{"the reader": first, "the other": second} {
		until(who, events, func(e waitEvent) bool { return e.Event == "done" && e.Done == 128<<10 })
		for range events { // to the end
		}
	}
}
