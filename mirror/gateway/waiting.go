package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"
)

// WaitHeader is sent by clients that want to be told what happens while no byte of a file comes, and has that in each
// interim response (102).
const WaitHeader = "Meshd-Waiting"

// waitEvery is the time between two interim responses.
const waitEvery = time.Second

// Here stands for this node where a reader is named.
const Here = "here"

// Waiting is what a node knows of a file of which no byte goes out yet.
type Waiting struct {
	Read    int64  `json:"read"`              // bytes of it that this node has got so far
	Reader  string `json:"reader,omitempty"`  // who reads a file without a length to its end first: Here, or a peer's id
	Address string `json:"address,omitempty"` // of that peer, for people
}

// maxWaiting bounds what is told at once, in bytes.
const maxWaiting = 1 << 10

// ParseWaiting reads the value of a WaitHeader; false if it is none, or has what a terminal should not show.
func ParseWaiting(value string) (Waiting, bool) {
	var w Waiting
	if len(value) > maxWaiting || json.Unmarshal([]byte(value), &w) != nil || w.Read < 0 {
		return Waiting{}, false
	}
	odd := strings.ContainsFunc(w.Reader+w.Address, func(r rune) bool { return r <= ' ' || r > '~' })
	return w, !odd
}

// tell has a client that asked for it told what is known of a file, once a second, until stop is called, which comes before the
// answer. stop may be called again.
func (h *Handler) tell(w http.ResponseWriter, r *http.Request, f File) (stop func()) {
	if r.Header.Get(WaitHeader) == "" || !r.ProtoAtLeast(1, 1) {
		return func() {}
	}
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(waitEvery)
		defer tick.Stop()
		control := http.NewResponseController(w)
		for {
			select {
			case <-quit:
				_ = control.SetWriteDeadline(time.Time{})
				return
			case <-r.Context().Done():
				return
			case <-tick.C:
			}
			text, _ := json.Marshal(f.Waiting()) // numbers and strings always marshal
			w.Header().Set(WaitHeader, string(text))
			_ = control.SetWriteDeadline(time.Now().Add(h.cfg.WriteTimeout))
			w.WriteHeader(http.StatusProcessing)
			w.Header().Del(WaitHeader)
		}
	})
	return sync.OnceFunc(func() {
		close(quit)
		done.Wait()
	})
}
