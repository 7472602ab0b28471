package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// preheatToken is what registries and Harbor bring in these tests.
const preheatToken = "a-token-for-preheats"

func (n *node) preheatAddr() string { return n.host + ":65005" }

// answerHarbor has every node of a mesh that is not started yet answer on its preheat address.
func (m *mesh) answerHarbor(t testing.TB) {
	t.Helper()
	auth := filepath.Join(m.dir, "preheat.auth")
	must(t, os.WriteFile(auth, []byte("# one way in is enough\nbearer "+preheatToken+"\nbasic harbor:Harbor12345\nheader X-Preheat: "+preheatToken+"\n"), 0o600))
	m.each = func(n *node) []string { return []string{"--preheat-addr", n.preheatAddr(), "--preheat-auth", auth} }
}

// tells is the part of docker-registry's configuration by which it tells a node of pushes.
func tells(host string) string {
	return fmt.Sprintf(`notifications:
  endpoints:
    - name: meshd
      url: http://%s:65005/registry/notifications
      headers:
        Authorization: ["Bearer %s"]
      timeout: 5s
      threshold: 3
      backoff: 200ms
`, host, preheatToken)
}

// harborCall sends a request as Harbor does and returns status and body.
func harborCall(t testing.TB, method, url, body string, auth func(*http.Request)) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	must(t, err)
	req.Header.Set("Accept", "application/json")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	auth(req)
	resp, err := httpClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(data)
}

// harborModes are Harbor's ways to authenticate.
var harborModes = map[string]func(*http.Request){
	"BASIC":  func(r *http.Request) { r.SetBasicAuth("harbor", "Harbor12345") },
	"OAUTH":  func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+preheatToken) },
	"CUSTOM": func(r *http.Request) { r.Header.Set("X-Preheat", preheatToken) },
}

func oauth(r *http.Request) { harborModes["OAUTH"](r) }

// A push to a real docker-registry shows up on the seeds, and on them only, without any pull; the registry sends it once.
func TestPushNotification(t *testing.T) {
	n := newNetwork(t)
	r := startRegistry(t, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir()}
	pushed := r.guard(t, n, tells(n.host(2)))
	m.extra = []string{"--registry", "hub.example=" + pushed.url() + ",url=http://" + pushed.addr, "--preheat-rule", "hub.example/prod/*:v*=seeds"}
	m.answerHarbor(t)
	m.start(t, twoZones...)
	push := func(repo, tag string, seed int64) (*image, time.Time) {
		img, info := newImage(t, repo, seed, 8*mib, 2*mib)
		ref, err := name.NewTag(pushed.addr+"/"+repo+":"+tag, name.Insecure)
		must(t, err)
		must(t, remote.Write(ref, img))
		return info, time.Now()
	}
	push("test/app", "v1", 50)
	push("prod/app", "nightly", 51)
	img, at := push("prod/app", "v1", 52)
	for _, s := range []*node{m.nodes[0], m.nodes[2]} {
		s.waitFor(t, "the image that was pushed", time.Minute, func() error {
			if missing := s.lacks(t, img); len(missing) > 0 {
				return fmt.Errorf("it lacks %v", missing)
			}
			return nil
		})
	}
	t.Logf("on both seeds %v after the push", time.Since(at).Round(time.Millisecond))
	for _, other := range []*node{m.nodes[1], m.nodes[3]} {
		if missing := other.lacks(t, img); len(missing) != len(img.blobs()) {
			t.Errorf("%s, which is no seed, lacks only %v", other.name, missing)
		}
	}
	if sent := pushed.proxy.counts(t).BlobBytes; sent != img.size {
		t.Errorf("the registry sent %d bytes of blobs, the image has %d", sent, img.size)
	}
}

// lacks returns the blobs of an image that the node does not hold whole.
func (n *node) lacks(t testing.TB, img *image) (missing []string) {
	t.Helper()
	var cache struct {
		Blobs []struct {
			Digest   string `json:"digest"`
			Complete bool   `json:"complete"`
		} `json:"blobs"`
	}
	must(t, getJSON("http://"+n.admin()+"/v1/cache", &cache))
	here := map[string]bool{}
	for _, b := range cache.Blobs {
		here[b.Digest] = here[b.Digest] || b.Complete
	}
	for _, b := range img.blobs() {
		if !here[b.Digest.String()] {
			missing = append(missing, b.Digest.String())
		}
	}
	return missing
}

// Harbor's drivers against real nodes: one POST to one of them, polls that a load balancer spreads over all, and a restart of the owner
// between the POST and the last poll.
func TestHarborDrivers(t *testing.T) {
	long(t)
	n := newNetwork(t)
	r := startRegistry(t, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir()}
	m.answerHarbor(t)
	m.start(t, nodeSpec{"east", true}, nodeSpec{"east", true}, nodeSpec{"west", true})
	img := r.pushImage(t, "library/nginx", 60, 16*mib)
	for _, path := range []string{"/healthy", "/_ping", "/health"} {
		for mode, auth := range harborModes {
			if status, body := harborCall(t, http.MethodGet, "http://"+m.nodes[0].preheatAddr()+path, "", auth); status != 200 {
				t.Errorf("%s %s: %d %s", mode, path, status, body)
			}
		}
		if status, _ := harborCall(t, http.MethodGet, "http://"+m.nodes[0].preheatAddr()+path, "", func(*http.Request) {}); status != 401 {
			t.Errorf("%s without credentials: %d", path, status)
		}
	}
	r.proxy.behave(t, behaviour{Rate: 4 * mib}) // 4 s
	status, body := harborCall(t, http.MethodPost, "http://"+m.nodes[0].preheatAddr()+"/oapi/v1/jobs", `{"type":"preheat","args":{"type":"image",
		"url":"https://docker.io/v2/library/nginx/manifests/latest","tag":"","filtered_query_params":"","headers":{"Authorization":""},
		"scope":"all_seed_peers","concurrent_count":0,"timeout":0},"scheduler_cluster_ids":null}`, oauth)
	var job struct {
		ID      int64     `json:"id"`
		Created time.Time `json:"created_at"`
		State   string    `json:"state"`
	}
	must(t, json.Unmarshal([]byte(body), &job))
	if status != 200 || job.State != "PENDING" || job.Created.IsZero() || job.ID <= 0 || job.ID >= 1<<53 {
		t.Fatalf("%d %s", status, body)
	}
	m.nodes[0].kill()
	polls := 0
	poll := func(n *node) string {
		polls++
		status, body := harborCall(t, http.MethodGet, fmt.Sprintf("http://%s/oapi/v1/jobs/%d", n.preheatAddr(), job.ID), "", oauth)
		must(t, json.Unmarshal([]byte(body), &job))
		if status != 200 || job.State != "PENDING" && job.State != "SUCCESS" {
			t.Fatalf("poll %d of %s: %d %s", polls, n.name, status, body)
		}
		return job.State
	}
	poll(m.nodes[1])
	poll(m.nodes[2])
	m.nodes[0].start(t)
	m.nodes[1].waitFor(t, "the end of the job", 60*time.Second, func() error {
		for _, n := range m.nodes {
			if poll(n) != "SUCCESS" {
				return fmt.Errorf("it is pending")
			}
		}
		return nil
	})
	for _, n := range m.nodes {
		if missing := n.lacks(t, img); len(missing) > 0 {
			t.Errorf("%s lacks %v", n.name, missing)
		}
	}
	// The older driver, and Kraken's, find everything there.
	status, body = harborCall(t, http.MethodPost, "http://"+m.nodes[1].preheatAddr()+"/preheats",
		`{"type":"image","url":"https://docker.io/v2/library/nginx/manifests/latest","headers":{},"image":"library/nginx","tag":"latest","digest":"`+img.digest.String()+`","extra_attrs":{}}`, harborModes["BASIC"])
	var old struct{ ID, Status string }
	must(t, json.Unmarshal([]byte(body), &old))
	if status/100 != 2 || old.ID == "" {
		t.Fatalf("%d %s", status, body)
	}
	m.nodes[2].waitFor(t, "the end of the older driver's job", time.Minute, func() error {
		status, body := harborCall(t, http.MethodGet, "http://"+m.nodes[2].preheatAddr()+"/preheats/"+old.ID, "", harborModes["BASIC"])
		must(t, json.Unmarshal([]byte(body), &old))
		if status != 200 || old.Status != "SUCCESS" {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	for _, body := range []string{"{", `{"events":7}`, `{"Events":[{"Action":"push","Target":{"MediaType":"application/vnd.oci.image.manifest.v1+json","Repository":"x","Tag":"1","Url":"https://169.254.169.254/v2/x/manifests/1"}}]}`} {
		if status, text := harborCall(t, http.MethodPost, "http://"+m.nodes[0].preheatAddr()+"/registry/notifications", body, oauth); status/100 != 4 {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
}

// What is pinned stays when other images come, until it is let go.
func TestPin(t *testing.T) {
	n := newNetwork(t)
	r := startRegistry(t, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir(), extra: []string{"--cache-size", "20MiB"}}
	m.start(t, nodeSpec{"east", true})
	node := m.nodes[0]
	pinned := r.pushImage(t, "library/base", 70, 8*mib)
	out, err := node.command(t, "pin", "base", "--for", "30d", "--wait")
	must(t, err)
	if !strings.Contains(out, "pinned docker.io/library/base:latest until ") {
		t.Errorf("pin: %s", out)
	}
	for i := range 3 {
		must(t, cranePull(t, node.mirror(), r.pushImage(t, fmt.Sprint("library/other", i), int64(71+i), 7*mib)))
	}
	if missing := node.lacks(t, pinned); len(missing) > 0 {
		t.Errorf("pinned, and gone: %v", missing)
	}
	if _, err := node.command(t, "cache", "rm", pinned.blobs()[1].Digest.String()); err == nil || !strings.Contains(err.Error(), "pinned") {
		t.Errorf("cache rm of a pinned blob: %v", err)
	}
	out, err = node.command(t, "pin", "ls")
	must(t, err)
	if !strings.Contains(out, "docker.io/library/base:latest") {
		t.Errorf("pin ls: %s", out)
	}
	_, err = node.command(t, "unpin", "base")
	must(t, err)
	if _, err := node.command(t, "unpin", "base"); err == nil {
		t.Error("unpin of what is not pinned succeeds")
	}
	for i := range 3 {
		must(t, cranePull(t, node.mirror(), r.pushImage(t, fmt.Sprint("library/more", i), int64(81+i), 7*mib)))
	}
	if missing := node.lacks(t, pinned); len(missing) == 0 {
		t.Error("no longer pinned, used least recently, and still here")
	}
	if _, err := node.command(t, "pin", "nosuch:1"); err == nil || !strings.Contains(err.Error(), "no such image") {
		t.Errorf("pin of an image that is not there: %v", err)
	}
}

// A client's pull of another image overtakes a preheat.
func TestPullOvertakesPreheat(t *testing.T) {
	n := newNetwork(t)
	r := startRegistry(t, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir(), extra: []string{"--download-limit", "4MiB/s"}}
	m.start(t, nodeSpec{"east", true})
	r.pushImage(t, "library/big", 90, 32*mib, 32*mib, 32*mib) // 24 s
	small := r.pushImage(t, "library/small", 91, 3*mib)
	out, err := m.nodes[0].command(t, "preheat", "big", "--json")
	must(t, err)
	var j preheatJob
	must(t, json.Unmarshal([]byte(out), &j))
	start := time.Now()
	must(t, cranePull(t, m.nodes[0].mirror(), small))
	out, err = m.nodes[0].command(t, "preheat", "get", fmt.Sprint(j.ID), "--json")
	must(t, err)
	must(t, json.Unmarshal([]byte(out), &j))
	t.Logf("the pull took %v; %d of %d bytes preheated by then", time.Since(start).Round(time.Millisecond), j.Bytes, j.Total)
	if j.State != "running" { // how much goes first is for exchange/pace's tests, which have a clock of their own
		t.Errorf("the preheat had %d of %d bytes when the pull of %d ended", j.Bytes, j.Total, small.size)
	}
	_, err = m.nodes[0].command(t, "preheat", "cancel", fmt.Sprint(j.ID))
	must(t, err)
	m.nodes[0].waitFor(t, "the end of the fetches", time.Minute, func() error {
		if n := m.nodes[0].status(t).Pulls.n; n > 0 {
			return fmt.Errorf("%d go on", n)
		}
		return nil
	})
}
