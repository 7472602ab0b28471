package harbor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/seed/notify"
	"github.com/meshd-project/meshd/seed/preheat"
)

// jobs answers with what it is told, and notes requests.
type jobs struct {
	made   []preheat.Request
	job    preheat.Job
	err    error // of Create
	getErr error
	at     func() preheat.State // of the job at a poll; nil: job's own
}

func (j *jobs) Create(r preheat.Request) (preheat.Job, error) {
	j.made = append(j.made, r)
	return j.job, j.err
}

func (j *jobs) Get(_ context.Context, id preheat.ID) (preheat.Job, error) {
	if j.getErr != nil {
		return preheat.Job{}, j.getErr
	}
	if id != j.job.ID {
		return preheat.Job{}, preheat.ErrNotFound
	}
	out := j.job
	if j.at != nil {
		out.State = j.at()
	}
	return out, nil
}

func registry(host string) (string, bool) { return "harbor.example", host == "harbor.example:8443" }

func handler(t *testing.T, j *jobs, auth string) http.Handler {
	t.Helper()
	a, err := ParseAuth([]byte(auth))
	if err != nil {
		t.Fatal(err)
	}
	news := notify.New(notify.Config{Registry: registry}, j)
	return New(Config{Auth: a, DefaultRegistry: "docker.io", Registry: registry}, j, news)
}

func call(h http.Handler, method, path, body string, set ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(set); i += 2 {
		r.Header.Set(set[i], set[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

var created = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const (
	token = "Bearer eyJhbGciOiJSUzI1NiJ9.secret"
	sum   = digest.Digest("sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	jobID = 4503599627370495
)

// harborJob is what Harbor 2.12 and later posts, byte for byte in its field order.
func harborJob(scope string) string {
	return `{"type":"preheat","args":{"type":"image","url":"https://harbor.example:8443/v2/lib/nginx/manifests/1.27","tag":"","filtered_query_params":"","headers":{"Authorization":"` + token +
		`"},"scope":"` + scope + `","concurrent_count":0,"timeout":0},"scheduler_cluster_ids":[1,2]}`
}

func TestDragonfly(t *testing.T) {
	for scope, want := range map[string]preheat.Scope{"": "seeds", "single_seed_peer": "seed", "all_seed_peers": "seeds", "all_peers": "all"} {
		j := &jobs{job: preheat.Job{ID: jobID, State: preheat.Queued, Created: created, Updated: created}}
		w := call(handler(t, j, "none"), "POST", "/oapi/v1/jobs", harborJob(scope))
		if got := strings.TrimSpace(w.Body.String()); w.Code != 200 || got != `{"id":4503599627370495,"created_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:05Z","state":"PENDING","result":null}` {
			t.Errorf("%d %s", w.Code, got)
		}
		r := j.made[0]
		if r.Image.String() != "harbor.example/lib/nginx:1.27" || r.Scope != want || r.Authorization != token || r.Timeout < 1801*time.Second {
			t.Errorf("%+v", r)
		}
	}
}

// harborPoll is Harbor's loop: every 10 s for 1801 s, and any status but 2xx and any unknown state is the end.
func harborPoll(t *testing.T, h http.Handler, path string, state func(body []byte) string) (last string, polls int) {
	t.Helper()
	for range 180 {
		w := call(h, "GET", path, "", "Accept", "application/json")
		polls++
		if w.Code/100 != 2 {
			return fmt.Sprintf("%d %s", w.Code, w.Body), polls
		}
		if last = state(w.Body.Bytes()); last != "PENDING" && last != "WAITING" && last != "RUNNING" {
			return last, polls
		}
		time.Sleep(10 * time.Second)
	}
	return last, polls
}

func TestPolls(t *testing.T) {
	// The answers as Harbor's own types.
	type modern struct {
		ID      int64  `json:"id"`
		Created string `json:"created_at"`
		Updated string `json:"updated_at"`
		State   string `json:"state"`
		Result  *struct {
			JobStates []struct {
				Error   string
				Results []struct {
					ID      uint                                              `json:"scheduler_cluster_id"`
					Success []struct{ URL, Hostname, IP string }              `json:"success_tasks"`
					Failure []struct{ URL, Hostname, IP, Description string } `json:"failure_tasks"`
				}
			} `json:"job_states"`
		} `json:"result"`
	}
	type old struct {
		ID       string
		Status   string `json:"status"`
		Start    string `json:"startTime"`
		Finish   string `json:"finishTime"`
		ErrorMsg string `json:"errorMsg"`
	}
	for _, row := range []struct {
		end         preheat.State
		modern, old string
	}{{preheat.Succeeded, "SUCCESS", "SUCCESS"}, {preheat.Failed, "FAILURE", "FAILED"}, {preheat.Cancelled, "FAILURE", "FAILED"}} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			j := &jobs{job: preheat.Job{
				ID: jobID, Image: "harbor.example/lib/nginx:1.27", Created: created, Updated: created.Add(time.Minute), Layers: []preheat.Layer{{Digest: sum, Size: 7}},
				Nodes: []preheat.Node{{PeerID: "p1", Name: "192.0.2.4", State: preheat.Succeeded}, {PeerID: "p2", State: preheat.Failed, Layers: []preheat.NodeLayer{{Digest: sum, State: preheat.Failed, Reason: "no room"}}}},
			}}
			j.at = func() preheat.State {
				switch d := time.Since(start) % time.Hour; {
				case d < 20*time.Second:
					return preheat.Queued
				case d < 60*time.Second:
					return preheat.Running
				}
				return row.end
			}
			h := handler(t, j, "none")
			var m modern
			got, polls := harborPoll(t, h, fmt.Sprint("/oapi/v1/jobs/", jobID), func(b []byte) string {
				m = modern{}
				if err := json.Unmarshal(b, &m); err != nil {
					t.Fatal(err)
				}
				if _, err := time.Parse(time.RFC3339, m.Created); err != nil || m.ID != jobID {
					t.Fatalf("%s: %v", b, err)
				}
				return m.State
			})
			if got != row.modern || polls != 7 {
				t.Errorf("%s after %d polls", got, polls)
			}
			r := m.Result.JobStates[0].Results[0]
			if len(r.Success) != 1 || r.Success[0].IP != "192.0.2.4" || r.Success[0].URL != "https://harbor.example/v2/lib/nginx/blobs/"+sum.String() ||
				len(r.Failure) != 1 || r.Failure[0].Description != "no room" {
				t.Errorf("%+v", r)
			}
			start = time.Now()
			var o old
			got, _ = harborPoll(t, h, fmt.Sprint("/preheats/", jobID), func(b []byte) string {
				o = old{}
				if err := json.Unmarshal(b, &o); err != nil {
					t.Fatal(err)
				}
				if (o.Finish != "") != (o.Status == "SUCCESS" || o.Status == "FAILED") || o.Start == "" {
					t.Fatalf("%s", b)
				}
				return o.Status
			})
			if got != row.old || o.ID != fmt.Sprint(jobID) {
				t.Errorf("%s, %+v", got, o)
			}
		})
	}
}

// While the owner of a job restarts Harbor goes on polling; an id that is nobody's ends at once.
func TestOwnerAway(t *testing.T) {
	j := &jobs{getErr: preheat.ErrAway}
	h := handler(t, j, "none")
	for path, want := range map[string]string{"/oapi/v1/jobs/": `"state":"PENDING"`, "/preheats/": `"status":"RUNNING"`} {
		if w := call(h, "GET", path+fmt.Sprint(jobID), ""); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		for _, id := range []string{"0", "x", "-1", "99999999999999999999", "1048576"} {
			if w := call(h, "GET", path+id, ""); w.Code != 404 {
				t.Errorf("%s%s: %d", path, id, w.Code)
			}
		}
	}
}

func TestOldDragonfly(t *testing.T) {
	j := &jobs{job: preheat.Job{ID: jobID}}
	w := call(handler(t, j, "none"), "POST", "/preheats", `{"type":"image","url":"https://harbor.example:8443/v2/lib/nginx/manifests/1.27","headers":{"authorization":"`+token+
		`"},"image":"lib/nginx","tag":"1.27","digest":"`+sum.String()+`","extra_attrs":{}}`)
	if got := strings.TrimSpace(w.Body.String()); w.Code != 200 || got != `{"ID":"4503599627370495"}` {
		t.Errorf("%d %s", w.Code, got)
	}
	if r := j.made[0]; r.Image.Digest != sum || r.Image.Tag != "1.27" || r.Authorization != token {
		t.Errorf("%+v", r)
	}
}

func TestKraken(t *testing.T) {
	j := &jobs{job: preheat.Job{ID: jobID}}
	h := handler(t, j, "none")
	body := `{"Events":[{"Id":"x","TimeStamp":"2023-11-14T22:13:20Z","Action":"push","Target":{"MediaType":"application/vnd.docker.distribution.manifest.v2+json","Digest":"` + sum.String() +
		`","Repository":"lib/nginx","Url":"https://harbor.example:8443/v2/lib/nginx/manifests/1.27","Tag":"1.27"},"Request":null,"Actor":null}]}`
	if w := call(h, "POST", "/registry/notifications", body); w.Code != 200 || len(j.made) != 1 || j.made[0].Image.Tag != "1.27" || j.made[0].Authorization != "" {
		t.Errorf("%d %s, %+v", w.Code, w.Body, j.made)
	}
	// Harbor's administrator is told of a registry that is not allowed; docker distribution, which would repeat it for ever, is not.
	other := strings.ReplaceAll(body, "harbor.example:8443", "169.254.169.254")
	if w := call(h, "POST", "/registry/notifications", other); w.Code != 403 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := call(h, "POST", "/registry/notifications", strings.Replace(other, "Events", "events", 1)); w.Code != 200 || !strings.Contains(w.Body.String(), `"refused":1`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	j.err = preheat.ErrBusy
	if w := call(h, "POST", "/registry/notifications", strings.ReplaceAll(strings.ReplaceAll(body, "Events", "events"), "1.27", "2")); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAuthModes(t *testing.T) {
	const all = "# comment\n\nbasic harbor:Harbor12345\nbearer the-token-of-harbor\nheader X-Api-Key: key-of-harbor\n"
	basic := httptest.NewRequest("GET", "/", nil)
	basic.SetBasicAuth("harbor", "Harbor12345")
	for _, row := range []struct {
		name, file string
		header     []string
		ok         bool
	}{
		{"none", "none", nil, true},
		{"basic", all, []string{"Authorization", basic.Header.Get("Authorization")}, true},
		{"oauth", all, []string{"Authorization", "Bearer the-token-of-harbor"}, true},
		{"custom", all, []string{"x-api-key", "key-of-harbor"}, true},
		{"nothing", all, nil, false},
		{"wrong password", all, []string{"Authorization", "Basic aGFyYm9yOng="}, false},
		{"another token", all, []string{"Authorization", "Bearer the-token-of-harbo"}, false},
		{"empty token", all, []string{"Authorization", "Bearer "}, false},
		{"another header", all, []string{"X-Api-Kex", "key-of-harbor"}, false},
	} {
		h := handler(t, &jobs{job: preheat.Job{ID: jobID, Created: created}}, row.file)
		for _, route := range []struct{ method, path, body string }{
			{"GET", "/healthy", ""},
			{"GET", "/_ping", ""},
			{"GET", "/health", ""},
			{"POST", "/oapi/v1/jobs", harborJob("")},
			{"GET", fmt.Sprint("/oapi/v1/jobs/", jobID), ""},
			{"GET", fmt.Sprint("/preheats/", jobID), ""},
			{"POST", "/v1/notify", `{"image":"docker.io/x"}`},
			{"POST", "/registry/notifications", `{"events":[]}`},
			{"POST", "/harbor/webhook", `{"type":"X"}`},
			{"POST", "/preheats", `{"type":"image","url":"https://harbor.example:8443/v2/a/manifests/1"}`},
		} {
			if w := call(h, route.method, route.path, route.body, row.header...); (w.Code == 200) != row.ok || !row.ok && w.Code != 401 {
				t.Errorf("%s: %s %s: %d %s", row.name, route.method, route.path, w.Code, w.Body)
			}
		}
	}
	for _, file := range []string{"", "# nothing", "bearer short", "basic harbor", "basic :Harbor12345", "header X: y", "header a b: cccccccccc", "token xxxxxxxxxx", "bearer a\x01bbbbbbbbb"} {
		if _, err := ParseAuth([]byte(file)); err == nil || strings.Contains(err.Error(), "bbbbbb") {
			t.Errorf("%q: %v", file, err)
		}
	}
	if (Auth{}).allows(http.Header{}) {
		t.Error("no way in lets everybody in")
	}
}

// What makes no sense is refused, and nothing is begun.
func TestBadInput(t *testing.T) {
	j := &jobs{job: preheat.Job{ID: jobID}}
	h := handler(t, j, "none")
	job := func(url string) string {
		return `{"type":"preheat","args":{"type":"image","url":"` + url + `"}}`
	}
	for _, row := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/oapi/v1/jobs", "{", 400},
		{"POST", "/oapi/v1/jobs", "", 400},
		{"POST", "/oapi/v1/jobs", `{"type":"preheat","args":{"type":"file","url":"x"}}`, 400},
		{"POST", "/oapi/v1/jobs", `{"type":"sync_peers"}`, 400},
		{"POST", "/oapi/v1/jobs", strings.Replace(harborJob("x"), `"scope":"x"`, `"scope":"moon"`, 1), 400},
		{"POST", "/oapi/v1/jobs", job("ftp://harbor.example:8443/v2/a/manifests/1"), 400},
		{"POST", "/oapi/v1/jobs", job("https://u:p@harbor.example:8443/v2/a/manifests/1"), 400},
		{"POST", "/oapi/v1/jobs", job("https://harbor.example:8443/v2/a/blobs/1"), 400},
		{"POST", "/oapi/v1/jobs", job("https://harbor.example:8443/v2/../../etc/manifests/1"), 400},
		{"POST", "/oapi/v1/jobs", job("https://harbor.example:8443/v2/A/manifests/1"), 400},
		{"POST", "/oapi/v1/jobs", job("https://harbor.example:8443/v2/a/manifests/"), 400},
		{"POST", "/oapi/v1/jobs", job("https://127.0.0.1/v2/a/manifests/1"), 403},
		{"POST", "/oapi/v1/jobs", job("https://169.254.169.254/v2/a/manifests/1"), 403},
		{"POST", "/oapi/v1/jobs", strings.Repeat(" ", maxBody) + "{}", 400},
		{"POST", "/preheats", `{"type":"image","url":"https://harbor.example:8443/v2/a/manifests/1","digest":"sha256:1"}`, 400},
		{"POST", "/registry/notifications", `{"events":{}}`, 400},
		{"POST", "/harbor/webhook", `[]`, 400},
		{"POST", "/v1/notify", `{"image":"://"}`, 400},
		{"POST", "/v1/notify", `{}`, 400},
		{"DELETE", "/preheats/1", "", 405},
		{"GET", "/", "", 404},
		{"GET", "/metrics", "", 404},
	} {
		if w := call(h, row.method, row.path, row.body); w.Code != row.status {
			t.Errorf("%s %s %.80s: %d %s", row.method, row.path, row.body, w.Code, w.Body)
		}
	}
	if len(j.made) != 0 {
		t.Errorf("begun: %+v", j.made)
	}
}

func FuzzImage(f *testing.F) {
	f.Add("https://harbor.example:8443/v2/lib/nginx/manifests/1.27")
	f.Add("https://harbor.example:8443/v2/lib/nginx/manifests/" + sum.String())
	s := &server{cfg: Config{Registry: func(string) (string, bool) { return "harbor.example", true }}}
	f.Fuzz(func(t *testing.T, text string) {
		i, err := s.image(text, "")
		if err == nil && (i.Registry != "harbor.example" || strings.Contains(i.Name, "..") || (i.Tag == "") == (i.Digest == "")) {
			t.Fatalf("%q: %+v", text, i)
		}
	})
}
