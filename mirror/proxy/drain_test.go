package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A pull that runs ends whole, new tunnels are refused, and Shutdown waits.
func TestShutdownDrains(t *testing.T) {
	started, goOn := make(chan struct{}), make(chan struct{})
	w := newWorld(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "first ")
		_ = http.NewResponseController(w).Flush()
		close(started)
		<-goOn
		fmt.Fprint(w, "last")
	}, nil, nil)
	c := w.client(t, nil)
	body := make(chan string, 1)
	go func() {
		resp, err := c.Get("https://harbor.example/v2/a/manifests/latest")
		if err != nil {
			body <- err.Error()
			return
		}
		defer resp.Body.Close()
		all, err := io.ReadAll(resp.Body)
		body <- fmt.Sprint(string(all), err)
	}()
	<-started
	down := make(chan error, 1)
	go func() { down <- w.proxy.Shutdown(t.Context()) }()
	for w.proxy.tunnels.accepts() {
		time.Sleep(time.Millisecond)
	}
	if _, _, status := w.connect(t, "example.com:443", ""); !strings.Contains(status, "503 meshd: the node is stopping") {
		t.Errorf("a new tunnel: %q", status)
	}
	select {
	case err := <-down:
		t.Fatalf("Shutdown did not wait: %v", err)
	default:
	}
	close(goOn)
	if got := <-body; got != "first last<nil>" {
		t.Errorf("the client got %q", got)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

func (t *tunnels) accepts() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.draining
}

// When the time for draining is over, tunnels and intercepted connections are cut.
func TestShutdownCutsWhatIsLeft(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWorld(t, Config{LastTimeout: time.Hour}, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, nil, dialTo(l.Addr(), nil))
	tunnel, _, _ := w.connect(t, "example.com:443", "")
	mesh, _, _ := w.connect(t, "harbor.example:443", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = w.proxy.Shutdown(ctx)
	for name, conn := range map[string]net.Conn{"tunnel": tunnel, "intercepted": mesh} {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: still open", name)
		}
	}
}

// halves makes a net.Pipe's end look as if it had halves that never close.
type halves struct{ net.Conn }

func (halves) CloseWrite() error { return nil }

func TestPipeEndsWhenNothingPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, near := net.Pipe()
		server, far := net.Pipe()
		p := newPipe(halves{near}, halves{far}, time.Minute)
		ended := make(chan struct{})
		go func() {
			p.run()
			close(ended)
		}()
		start := time.Now()
		for range 5 { // what passes keeps it open, in one direction too
			time.Sleep(50 * time.Second)
			if _, err := client.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := server.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		<-ended
		if got := time.Since(start); got != 250*time.Second+time.Minute {
			t.Errorf("the pipe ended after %v", got)
		}
		if _, err := client.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the client's end: %v", err)
		}
	})
}

func TestPipeEndsSoonerWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near := net.Pipe()
		_, far := net.Pipe()
		p := newPipe(halves{near}, halves{far}, time.Hour)
		ts := newTunnels(1)
		leave, err := ts.enter()
		if err != nil {
			t.Fatal(err)
		}
		forget := ts.add(p)
		go func() {
			p.run()
			forget()
			leave()
		}()
		start := time.Now()
		ts.drain(2 * time.Second)
		ts.wait(t.Context())
		if got := time.Since(start); got != 2*time.Second {
			t.Errorf("drained after %v, want 2 s", got)
		}
	})
}
