package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// hub is a registry with two mirrors and two addresses; each answers as it is told and notes what it was asked.
type hub struct {
	client *Client

	mu     sync.Mutex
	status map[string]int // by host; 0: it takes the request and never answers
	asked  []string
}

func newHub(t *testing.T, f *fabric) *hub {
	h := &hub{status: map[string]int{}}
	for i, host := range []string{"m1.test", "m2.test", "a.test", "b.test"} {
		h.status[host] = http.StatusOK
		f.serve("https://"+host, fmt.Sprintf("10.0.0.%d", i+1), func(w http.ResponseWriter, r *http.Request) {
			h.mu.Lock()
			status := h.status[host]
			h.asked = append(h.asked, strings.TrimSpace(host+" "+r.Header.Get("Authorization")))
			h.mu.Unlock()
			if status == 0 {
				<-r.Context().Done()
				return
			}
			w.WriteHeader(status)
			fmt.Fprintf(w, "%s of %s", r.URL.Path, host)
		})
	}
	h.client = f.client(Config{Registries: map[string]Registry{"hub.test": {
		URL: "https://a.test", URLs: []string{"https://b.test/sub"}, Mirrors: []string{"https://m1.test", "https://m2.test/cache/"},
	}}})
	return h
}

// ask makes one request and returns what was said and who was asked.
func (h *hub) ask(ctx context.Context, method, authorization string) (string, []string) {
	var body io.Reader
	if method != http.MethodGet {
		body = strings.NewReader("{}")
	}
	resp, err := h.client.Do(ctx, Request{Ref: Ref{Registry: "hub.test", Repository: "x"}, Method: method, Path: "manifests/v1", Authorization: authorization, Body: body})
	said := ""
	if err != nil {
		said = err.Error()
	} else {
		data, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		said = string(data)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	asked := h.asked
	h.asked = nil
	return said, asked
}

func TestFailOver(t *testing.T) {
	for _, row := range []struct {
		name   string
		status map[string]int
		method string
		said   string
		asked  []string
	}{
		{"a mirror has it", nil, "GET", "/v2/x/manifests/v1 of m1.test", []string{"m1.test"}},
		{"a mirror does not have it", map[string]int{"m1.test": 404}, "GET", "/cache/v2/x/manifests/v1 of m2.test", []string{"m1.test", "m2.test"}},
		{"mirrors refuse, the registry gets the credentials", map[string]int{"m1.test": 401, "m2.test": 403}, "GET", "/v2/x/manifests/v1 of a.test", []string{"m1.test", "m2.test", "a.test Basic eDp5"}},
		{"the registry's no counts", map[string]int{"m1.test": 404, "m2.test": 404, "a.test": 404}, "GET", "origin hub.test: GET https://a.test/v2/x/manifests/v1: 404", []string{"m1.test", "m2.test", "a.test Basic eDp5"}},
		{"an address is broken", map[string]int{"m1.test": 503, "m2.test": 500, "a.test": 502}, "GET", "/sub/v2/x/manifests/v1 of b.test", []string{"m1.test", "m2.test", "a.test Basic eDp5", "b.test Basic eDp5"}},
		{"a push goes to the registry alone", nil, "PUT", "/v2/x/manifests/v1 of a.test", []string{"a.test Basic eDp5"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHub(t, newFabric(t))
			for host, status := range row.status {
				h.status[host] = status
			}
			said, asked := h.ask(t.Context(), row.method, "Basic eDp5")
			if !strings.Contains(said, row.said) || !reflect.DeepEqual(asked, row.asked) {
				t.Errorf("%q from %q,\nwant %q from %q", said, asked, row.said, row.asked)
			}
		})
	}
}

// Who gave no answer costs its time once, is left out or asked last for half a minute, and then has another chance.
func TestFailOverRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, newFabric(t))
		h.status["m1.test"], h.status["m2.test"], h.status["a.test"] = 0, 404, 0
		start := time.Now()
		said, asked := h.ask(t.Context(), "GET", "")
		if want := []string{"m1.test", "m2.test", "a.test", "b.test"}; !reflect.DeepEqual(asked, want) || !strings.Contains(said, "of b.test") {
			t.Errorf("%q from %q", said, asked)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("two addresses that hang cost %v, want 5 s each", took)
		}
		if said, asked := h.ask(t.Context(), "GET", ""); !reflect.DeepEqual(asked, []string{"m2.test", "b.test"}) {
			t.Errorf("at once after: %q from %q", said, asked)
		}
		h.status["m1.test"] = http.StatusOK
		time.Sleep(downTime)
		if said, asked := h.ask(t.Context(), "GET", ""); !reflect.DeepEqual(asked, []string{"m1.test"}) {
			t.Errorf("half a minute after: %q from %q", said, asked)
		}
	})
}

// The caller's end is nobody's fault.
func TestFailOverEndsWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, newFabric(t))
		h.status["m1.test"] = 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, asked := h.ask(ctx, "GET", ""); !reflect.DeepEqual(asked, []string{"m1.test"}) {
			t.Errorf("asked %q", asked)
		}
		if h.client.listed["hub.test"].addresses[0].down(time.Now()) {
			t.Error("the mirror counts as down")
		}
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Error("the context has not ended")
		}
	})
}
