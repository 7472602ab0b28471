package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd-project/meshd/seed/preheat"
)

// jobs notes requests; it takes limit of them if that is positive.
type jobs struct {
	made  []preheat.Request
	state preheat.State
	limit int
}

func (j *jobs) Create(r preheat.Request) (preheat.Job, error) {
	if j.limit > 0 && len(j.made) >= j.limit {
		return preheat.Job{}, preheat.ErrBusy
	}
	j.made = append(j.made, r)
	return preheat.Job{ID: preheat.ID(len(j.made))}, nil
}

func (j *jobs) Get(context.Context, preheat.ID) (preheat.Job, error) {
	return preheat.Job{State: j.state}, nil
}

func registry(host string) (string, bool) { return "hub.example", host == "hub.example:5000" }

const sum = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func TestParseDistribution(t *testing.T) {
	const target = `"target":{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"` + sum + `","repository":"a/b","url":"http://hub.example:5000/v2/a/b/manifests/1","tag":"1"}`
	whole := []Event{{"hub.example:5000", "a/b", "1", sum}}
	for _, row := range []struct {
		name, body string
		want       []Event
	}{
		{"distribution", `{"events":[{"id":"x","timestamp":"2026-01-02T03:04:05Z","action":"push",` + target + `,"request":{"host":"other"},"actor":{},"source":{}}]}`, whole},
		{"kraken", `{"Events":[{"Id":"x","TimeStamp":"2023-11-14T22:13:20Z","Action":"push","Target":{"MediaType":"application/vnd.oci.image.index.v1+json","Digest":"` + sum + `","Repository":"a/b","Url":"https://hub.example:5000/v2/a/b/manifests/1","Tag":"1"},"Request":null,"Actor":null}]}`, whole},
		{"no url", `{"events":[{"action":"push","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","repository":"a/b","tag":"1"},"request":{"host":"hub.example:5000"}}]}`, []Event{{"hub.example:5000", "a/b", "1", ""}}},
		{"pull", `{"events":[{"action":"pull",` + target + `}]}`, nil},
		{"layer", `{"events":[{"action":"push","target":{"mediaType":"application/octet-stream","digest":"` + sum + `","repository":"a/b","url":"http://h/v2/a/b/blobs/x"}}]}`, nil},
		{"without a tag", `{"events":[{"action":"push","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + sum + `","repository":"a/b"}}]}`, nil},
		{"none", `{"events":[]}`, nil},
	} {
		if got, err := ParseDistribution([]byte(row.body)); err != nil || !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, %v", row.name, got, err)
		}
	}
	for _, body := range []string{"", "{", "[]", "{}", `{"events":7}`, `{"events":[` + strings.Repeat(`{},`, MaxEvents) + `{}]}`} {
		if _, err := ParseDistribution([]byte(body)); !errors.Is(err, preheat.ErrInvalid) {
			t.Errorf("%.40q: %v", body, err)
		}
	}
}

func TestParseHarbor(t *testing.T) {
	const data = `{"resources":[{"digest":"` + sum + `","tag":"1","resource_url":"hub.example:5000/a/b:1"}],"repository":{"name":"b","namespace":"a","repo_full_name":"a/b","repo_type":"private"}}`
	whole := []Event{{"hub.example:5000", "a/b", "1", sum}}
	for _, row := range []struct {
		name, body string
		want       []Event
	}{
		{"default", `{"type":"PUSH_ARTIFACT","occur_at":1586922308,"operator":"admin","event_data":` + data + `}`, whole},
		{"cloud event", `{"specversion":"1.0","id":"x","source":"/projects/1/webhook/policies/1","type":"harbor.artifact.pushed","datacontenttype":"application/json","time":"2023-04-03T06:29:13Z","data":` + data + `,"operator":"robot$library+scanner"}`, whole},
		{"another event", `{"type":"DELETE_ARTIFACT","event_data":` + data + `}`, nil},
		{"without data", `{"type":"PUSH_ARTIFACT"}`, nil},
	} {
		if got, err := ParseHarbor([]byte(row.body)); err != nil || !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, %v", row.name, got, err)
		}
	}
	for _, body := range []string{"", "{", "[]", "{}"} {
		if _, err := ParseHarbor([]byte(body)); !errors.Is(err, preheat.ErrInvalid) {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestRules(t *testing.T) {
	image := preheat.Image{Repository: preheat.Repository{Registry: "hub.example", Name: "prod/app"}, Tag: "v1"}
	for _, row := range []struct {
		pattern string
		fits    bool
	}{
		{"*", true},
		{"prod/*", true},
		{"hub.example/prod/*", true},
		{"prod/app:v*", true},
		{"*:v1", true},
		{"prod/app", true},
		{"prod/app:v2", false},
		{"prod", false},
		{"test/*", false},
		{"other.example/*", false},
		{"prod/ap", false},
		{"prod/app:", false},
		{"prod.app", false},
	} {
		r, err := ParseRule(row.pattern + "=seeds")
		if err != nil || r.Fits(image) != row.fits {
			t.Errorf("%s: %v, %v", row.pattern, r.Fits(image), err)
		}
	}
	for _, text := range []string{"a/*:v*=zone=fra1", "a=all,platform=linux/amd64,platform=linux/arm64", "a=none"} {
		r, err := ParseRule(text)
		if err != nil || r.String() != text {
			t.Errorf("%s: %s, %v", text, r, err)
		}
	}
	for _, text := range []string{"", "a", "=all", "a=", "a=moon", "a=zone=", "a=all,what=x", "a=all,platform=x"} {
		if r, err := ParseRule(text); err == nil {
			t.Errorf("%q: %v", text, r)
		}
	}
	if (Rule{}).Fits(image) {
		t.Error("a rule that is none fits")
	}
}

func rules(t *testing.T, texts ...string) (out []Rule) {
	t.Helper()
	for _, s := range texts {
		r, err := ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func event(repository, tag string) Event { return Event{"hub.example:5000", repository, tag, sum} }

func TestFirstRuleCounts(t *testing.T) {
	j := &jobs{}
	n := New(Config{Rules: rules(t, "*:nightly=none", "prod/*=all,platform=all", "*:v*=zone=fra1"), Platforms: []string{"linux/amd64"}, Registry: registry}, j)
	res, err := n.Notify(t.Context(), []Event{event("prod/a", "nightly"), event("prod/a", "1"), event("dev/a", "v1"), event("dev/a", "x"), {"169.254.169.254", "x", "v1", ""}})
	if !errors.Is(err, preheat.ErrUnlisted) || len(res.Preheats) != 2 || res.Ignored != 2 || res.Refused != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if a, b := j.made[0], j.made[1]; a.Scope != preheat.ScopeAll || a.Platforms[0] != "all" || b.Scope != "zone=fra1" || b.Platforms[0] != "linux/amd64" {
		t.Errorf("%+v", j.made)
	}
}

// The same news again makes no second job, unless the first failed or it is long ago.
func TestNewsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &jobs{state: preheat.Running}
		n := New(Config{Registry: registry}, j)
		for _, row := range []struct {
			wait  time.Duration
			state preheat.State
			want  int
		}{{0, preheat.Running, 1}, {0, preheat.Running, 1}, {time.Minute, preheat.Succeeded, 1}, {0, preheat.Failed, 2}, {memoryTime + time.Second, preheat.Succeeded, 3}} {
			time.Sleep(row.wait)
			j.state = row.state
			res, err := n.Notify(t.Context(), []Event{event("a", "1")})
			if err != nil || len(res.Preheats) != 1 || len(j.made) != row.want {
				t.Errorf("%+v: %+v, %v, %d jobs", row, res, err, len(j.made))
			}
		}
	})
}

// A flood is bounded: what is known makes no jobs, what is new as many as fit, and then the sender is told.
func TestFlood(t *testing.T) {
	j := &jobs{limit: 100}
	n := New(Config{Registry: registry}, j)
	for range 10000 {
		if _, err := n.Notify(t.Context(), []Event{event("a", "1")}); err != nil {
			t.Fatal(err)
		}
	}
	if len(j.made) != 1 {
		t.Errorf("%d jobs of one push", len(j.made))
	}
	busy := 0
	for i := range 10000 {
		if _, err := n.Notify(t.Context(), []Event{event("a", fmt.Sprint(i))}); errors.Is(err, preheat.ErrBusy) {
			busy++
		}
	}
	if len(j.made) != 100 || busy != 10000-100 || n.memory.Len() > memorySize {
		t.Errorf("%d jobs, %d told to come back, %d remembered", len(j.made), busy, n.memory.Len())
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"events":[{"action":"push","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","repository":"a/b","tag":"1","url":"http://h/x"}}]}`))
	f.Add([]byte(`{"type":"PUSH_ARTIFACT","event_data":{"resources":[{"tag":"1","resource_url":"h/x"}],"repository":{"repo_full_name":"x"}}}`))
	n := New(Config{Registry: func(string) (string, bool) { return "hub.example", true }}, &jobs{})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, parse := range []func([]byte) ([]Event, error){ParseDistribution, ParseHarbor} {
			events, err := parse(data)
			if err != nil && !errors.Is(err, preheat.ErrInvalid) || len(events) > MaxEvents {
				t.Fatal(len(events), err)
			}
			for _, e := range events {
				if i, err := n.image(e); err == nil && (i.Registry != "hub.example" || i.Name != e.Repository || i.Tag != e.Tag) {
					t.Fatalf("%+v became %+v", e, i)
				}
			}
		}
	})
}

func FuzzParseRule(f *testing.F) {
	f.Add("a/*:v*=zone=fra1,platform=linux/amd64")
	f.Add("=")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			return
		}
		again, err := ParseRule(r.String())
		if err != nil || again.String() != r.String() {
			t.Fatalf("%q is %q, which reads as %q, %v", s, r, again, err)
		}
		r.Fits(preheat.Image{})
	})
}
