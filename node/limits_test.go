package node

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd-project/meshd/exchange/swarm"
)

func TestPutLimits(t *testing.T) {
	for _, row := range []struct {
		name, body string
		fails      string
		want       Limits
	}{
		{"all", `{"download":"1MB/s","upload":"2MB","origin":"3000000"}`, "", Limits{1e6, 2e6, 3e6}},
		{"one", `{"upload":"4KiB/s"}`, "", Limits{10e6, 4096, 30e6}},
		{"none any more", `{"download":"0"}`, "", Limits{0, 20e6, 30e6}},
		{"nothing", `{}`, "", Limits{10e6, 20e6, 30e6}},
		{"no rate", `{"download":"fast"}`, "is not a rate", Limits{10e6, 20e6, 30e6}},
		{"a number", `{"download":5}`, "body", Limits{10e6, 20e6, 30e6}},
		{"negative", `{"download":"-5"}`, "is not a rate", Limits{10e6, 20e6, 30e6}},
		{"unknown key", `{"down":"5"}`, "unknown field", Limits{10e6, 20e6, 30e6}},
		{"good and bad", `{"upload":"5","download":"x"}`, "is not a rate", Limits{10e6, 20e6, 30e6}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := Default()
			c.Exchange.DownloadLimit, c.Exchange.UploadLimit, c.Origin.Limit = 10e6, 20e6, 30e6
			n := &node{limits: newLimits(c)}
			r := httptest.NewRequest(http.MethodPut, "/v1/limits", strings.NewReader(row.body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			err := n.putLimits(w, r)
			switch {
			case row.fails == "":
				var told Limits
				if err != nil || json.Unmarshal(w.Body.Bytes(), &told) != nil || told != row.want {
					t.Errorf("told %s, %v", w.Body, err)
				}
			case err == nil || !strings.Contains(err.Error(), row.fails):
				t.Errorf("error %v, want %q", err, row.fails)
			}
			if got := n.showLimits(t.Context()); got != row.want {
				t.Errorf("limits are %+v, want %+v", got, row.want)
			}
		})
	}
}

// Control messages count: pieces make room for them.
func TestControlBytesAreCharged(t *testing.T) {
	for _, direction := range []string{"in", "out"} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimits(Config{Exchange: ExchangeConfig{DownloadLimit: 1e6, UploadLimit: 1e6}})
			c, paying, other := controlBytes{limits: l}, l.Download, l.Upload
			if direction == "out" {
				paying, other = other, paying
				c.LogSentMessage(500e3)
			} else {
				c.LogRecvMessage(500e3)
			}
			began := time.Now()
			if err := errors.Join(other.Wait(t.Context(), swarm.Foreground, 1000), paying.Wait(t.Context(), swarm.Foreground, 1000)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took < 450*time.Millisecond || took > 550*time.Millisecond {
				t.Errorf("%s: a piece waited %v for half a second's messages", direction, took)
			}
		})
	}
}
