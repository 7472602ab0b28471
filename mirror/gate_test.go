package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	good = "Bearer good"
	bad  = "Bearer bad"
)

// private is a world with one image in a repository that needs the good
// credentials, which somebody has pulled: all of it is cached.
func private(t *testing.T, cfg Config) (*world, image) {
	t.Helper()
	w := newWorld(t, cfg)
	repo := w.origin.repo("h.example", "team/app")
	repo.secret = good
	img := w.push(repo, "latest", 1000)
	for _, target := range []string{"manifests/latest", "blobs/" + img.config.String(), "blobs/" + img.layer.String()} {
		wantStatus(t, w.do("GET", path+target, "Authorization", good), 200)
	}
	w.mesh.blobs[img.layer].onDisk, w.mesh.blobs[img.config].onDisk = true, true
	return w, img
}

// TestGateKeepsPrivateData: nothing of a cached private image goes to anybody
// whom the origin does not let have it.
func TestGateKeepsPrivateData(t *testing.T) {
	w, img := private(t, Config{})
	// The same digests under repositories and registries that do not have them.
	w.origin.repo("h.example", "other/app")
	w.origin.repo("other.example", "team/app")
	w.origin.repo("docker.io", "team/app")
	opened := w.mesh.opened()
	for _, c := range []struct {
		name, prefix, auth string
		status             int
	}{
		{"anonymous", path, "", 401},
		{"empty Basic", path, "Basic Og==", 401},
		{"other credentials", path, bad, 403},
		{"good credentials, other repository", "/v2/h.example/other/app/", good, 404},
		{"good credentials, other registry", "/v2/other.example/team/app/", good, 404},
		{"good credentials, default registry", "/v2/team/app/", good, 404},
		{"good credentials, unknown repository", "/v2/h.example/nobody/", good, 404},
	} {
		for _, target := range []string{
			"blobs/" + img.layer.String(), "blobs/" + img.config.String(), "manifests/" + img.manifest.String(), "manifests/latest",
		} {
			for _, header := range [][]string{nil, {"Range", "bytes=0-0"}, {"If-None-Match", "*"}, {"If-None-Match", etag(img.layer)}} {
				for _, method := range []string{"GET", "HEAD"} {
					t.Run(fmt.Sprint(c.name, method, target[:9], header), func(t *testing.T) {
						rec := w.do(method, c.prefix+target, append(header, "Authorization", c.auth)...)
						wantStatus(t, rec, c.status)
						body := rec.Body.String()
						if strings.Contains(body, string(img.layerData[:16])) || strings.Contains(body, "schemaVersion") ||
							rec.Header().Get("Etag") != "" || rec.Header().Get("Content-Range") != "" {
							t.Fatalf("something got out: %v %q", rec.Header(), body)
						}
						if c.status == 401 && !strings.HasPrefix(rec.Header().Get("Www-Authenticate"), `Bearer realm="http://example.com/v2/token"`) {
							t.Fatalf("challenge %q", rec.Header().Get("Www-Authenticate"))
						}
					})
				}
			}
		}
	}
	if n := w.mesh.opened() - opened; n != 0 {
		t.Fatalf("the mesh was asked %d times", n)
	}
}

func TestGateRemembersAYes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, img := private(t, Config{GrantTTL: 5 * time.Minute})
		defer w.Close()
		asked := func() int { do, heads := w.origin.asked(); return do + heads }
		before := asked()
		if before != 1 {
			t.Fatalf("%d questions for one pull: the manifest's yes covers its parts", before)
		}
		blob := path + "blobs/" + img.layer.String()
		time.Sleep(4 * time.Minute)
		wantStatus(t, w.do("GET", blob, "Authorization", good), 200)
		// A manifest from disk hands on the age of its own yes.
		wantStatus(t, w.do("GET", path+"manifests/"+img.manifest.String(), "Authorization", good), 200)
		if asked() != before {
			t.Fatal("a fresh yes was asked for again")
		}
		time.Sleep(2 * time.Minute)
		w.origin.repos[Ref{"h.example", "team/app"}].secret = "rotated"
		wantStatus(t, w.do("GET", blob, "Authorization", good), 403)
		wantStatus(t, w.do("GET", path+"manifests/"+img.manifest.String(), "Authorization", good), 403)
	})
}

func TestGateStaleYes(t *testing.T) {
	for name, c := range map[string]struct {
		down  error
		age   time.Duration
		auth  string
		serve bool
	}{
		"unreachable":              {errors.New("connection refused"), time.Hour, good, true},
		"no answer":                {&fakeError{}, time.Hour, good, true},
		"500":                      {&fakeError{status: 500}, time.Hour, good, true},
		"429":                      {&fakeError{status: 429}, time.Hour, good, true},
		"almost a day":             {&fakeError{}, 23 * time.Hour, good, true},
		"more than a day":          {&fakeError{}, 25 * time.Hour, good, false},
		"401":                      {&fakeError{status: 401}, time.Hour, good, false},
		"403":                      {&fakeError{status: 403}, time.Hour, good, false},
		"404":                      {&fakeError{status: 404}, time.Hour, good, false},
		"410":                      {&fakeError{status: 410}, time.Hour, good, false},
		"400":                      {&fakeError{status: 400}, time.Hour, good, false},
		"unreachable, anonymous":   {&fakeError{}, time.Hour, "", false},
		"unreachable, other creds": {&fakeError{}, time.Hour, bad, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, img := private(t, Config{})
				defer w.Close()
				time.Sleep(c.age)
				w.origin.down = c.down
				for _, target := range []string{"blobs/" + img.layer.String(), "manifests/" + img.manifest.String()} {
					if rec := w.do("GET", path+target, "Authorization", c.auth); (rec.Code == 200) != c.serve {
						t.Errorf("%s: %d %s", target[:9], rec.Code, rec.Body)
					}
				}
				if n := w.Stats().StaleGrants; (n == 2) != c.serve {
					t.Errorf("%d stale grants counted", n)
				}
			})
		})
	}
}

func TestGateNoWithdrawsAnOldYes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, img := private(t, Config{})
		defer w.Close()
		time.Sleep(time.Hour)
		for _, target := range []string{"blobs/" + img.layer.String(), "manifests/" + img.manifest.String()} {
			w.origin.down = &fakeError{status: 403}
			wantStatus(t, w.do("GET", path+target, "Authorization", good), 403)
			time.Sleep(Default().RefusalTTL)
			w.origin.down = &fakeError{}
			wantStatus(t, w.do("GET", path+target, "Authorization", good), 502)
		}
	})
}

// TestGateHangingOrigin: with an old yes a hanging origin costs seconds, without
// one it costs a 504 in time.
func TestGateHangingOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, img := private(t, Config{})
		defer w.Close()
		time.Sleep(time.Hour)
		w.origin.headHook = func(ctx context.Context, _ Ref, _ digest.Digest, _ string) (int64, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}
		start := time.Now()
		wantStatus(t, w.do("GET", path+"blobs/"+img.layer.String(), "Authorization", good), 200)
		if d := time.Since(start); d != stalePatience {
			t.Fatalf("waited %v", d)
		}
		start = time.Now()
		wantStatus(t, w.do("GET", path+"blobs/"+img.layer.String()), 504)
		if d := time.Since(start); d > 15*time.Second {
			t.Fatalf("waited %v", d)
		}
	})
}

func TestGateAsksForWhatAManifestDoesNotVouchFor(t *testing.T) {
	w := newWorld(t, Config{})
	repo := w.origin.repo("h.example", "team/app")
	secret, _ := w.mesh.add([]byte("another team's layer"))
	m := v1.Manifest{
		Layers:  []v1.Descriptor{{Digest: secret, Size: 20, URLs: []string{"https://x.example/"}}},
		Subject: &v1.Descriptor{Digest: secret, Size: 20},
	}
	data, _ := json.Marshal(m)
	repo.put("trap", v1.MediaTypeImageManifest, data)
	wantStatus(t, w.do("GET", path+"manifests/trap"), 200)
	wantStatus(t, w.do("GET", path+"blobs/"+secret.String()), 404)
	if w.mesh.opened() != 0 {
		t.Fatal("the mesh was asked")
	}
}

// TestGateCoalesces sends 100 clients for one blob at once: one question.
func TestGateCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		img := w.push(w.origin.repo("h.example", "team/app"), "", 1000)
		hold := make(chan struct{})
		w.origin.headHook = func(context.Context, Ref, digest.Digest, string) (int64, error) {
			<-hold
			return 1000, nil
		}
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				method := []string{"GET", "HEAD"}[i%2]
				if rec := w.do(method, path+"blobs/"+img.layer.String()); rec.Code != 200 {
					t.Errorf("%d %s", rec.Code, rec.Body)
				}
			})
		}
		synctest.Wait()
		close(hold)
		wg.Wait()
		if _, heads := w.origin.asked(); heads != 1 {
			t.Fatalf("%d questions", heads)
		}
		w.Close()
	})
}

// TestGateRemembersANo: the origin's 401 answers for its repository and credentials, a 403 for one question, both for a
// short time and for nobody else.
func TestGateRemembersANo(t *testing.T) {
	for _, row := range []struct {
		name   string
		status int
		asked  int // for ten different blobs, twice
	}{{"401", 401, 1}, {"403", 403, 10}, {"404", 404, 20}, {"500", 500, 20}} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{})
				defer w.Close()
				img := w.push(w.origin.repo("h.example", "team/app"), "latest", 1000)
				answer := row.status
				w.origin.headHook = func(_ context.Context, ref Ref, _ digest.Digest, auth string) (int64, error) {
					if ref.Repository == "team/app" && auth == bad {
						return 0, &fakeError{status: answer}
					}
					return 1000, nil
				}
				for range 2 {
					for i := range 10 {
						rec := w.do("GET", path+"blobs/"+digest.FromString(fmt.Sprint(i)).String(), "Authorization", bad)
						if rec.Code != row.status && row.status != 500 {
							t.Fatalf("%d", rec.Code)
						}
					}
				}
				if _, heads := w.origin.asked(); heads != row.asked {
					t.Errorf("%d questions, want %d", heads, row.asked)
				}
				blob := "blobs/" + img.layer.String()
				wantStatus(t, w.do("GET", path+blob, "Authorization", good), 200)
				wantStatus(t, w.do("GET", "/v2/h.example/other/"+blob, "Authorization", bad), 200)
				time.Sleep(Default().RefusalTTL)
				answer = 200
				w.origin.headHook = nil
				wantStatus(t, w.do("GET", path+blob, "Authorization", bad), 200)
			})
		})
	}
}

// TestGateRefusedListIsNoRefusedPull: some registries refuse lists, by a 401, to those who may pull.
func TestGateRefusedListIsNoRefusedPull(t *testing.T) {
	w := newWorld(t, Config{})
	img := w.push(w.origin.repo("h.example", "team/app"), "latest", 1000)
	w.origin.hook = func(_ context.Context, req OriginRequest) (*http.Response, error) {
		if !strings.HasPrefix(req.Path, "manifests/") {
			return nil, &fakeError{status: 401}
		}
		return w.origin.manifest(w.origin.repos[req.Ref], req, "latest")
	}
	for range 2 {
		for _, list := range []string{"tags/list", "referrers/" + img.manifest.String()} {
			wantStatus(t, w.do("GET", path+list, "Authorization", good), 401)
		}
		wantStatus(t, w.do("GET", path+"manifests/latest", "Authorization", good), 200)
	}
	if do, _ := w.origin.asked(); do != 4 {
		t.Errorf("%d questions, want each list once and the tag twice", do)
	}
}

// TestGateSharedQuestionSurvivesItsStarter: the first client hangs up, the second
// one gets its answer from the same question.
func TestGateSharedQuestionSurvivesItsStarter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		defer w.Close()
		img := w.push(w.origin.repo("h.example", "team/app"), "", 1000)
		w.origin.headHook = func(ctx context.Context, _ Ref, _ digest.Digest, _ string) (int64, error) {
			select {
			case <-time.After(5 * time.Second):
				return 1000, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan any)
		go func() {
			defer func() { first <- recover() }()
			w.doCtx(ctx, "GET", path+"blobs/"+img.layer.String())
		}()
		synctest.Wait()
		second := make(chan int)
		go func() { second <- w.do("GET", path+"blobs/"+img.layer.String()).Code }()
		synctest.Wait()
		cancel()
		if v := <-first; v != http.ErrAbortHandler {
			t.Fatalf("the client that left: %v", v)
		}
		if code := <-second; code != 200 {
			t.Fatalf("the other one got %d", code)
		}
		if _, heads := w.origin.asked(); heads != 1 {
			t.Fatalf("%d questions", heads)
		}
	})
}

// TestGateIsBounded floods the mirror with names, tags and credentials.
func TestGateIsBounded(t *testing.T) {
	w := newWorld(t, Config{MaxGrants: 100, MaxTags: 50})
	repo := w.origin.repo("h.example", "team/app")
	img := w.push(repo, "latest", 100)
	for i := range 1000 {
		repo.manifests[fmt.Sprint("t", i)] = repo.manifests["latest"]
		w.do("GET", path+fmt.Sprint("manifests/t", i), "Authorization", fmt.Sprint("Bearer ", i))
		w.do("HEAD", path+"blobs/"+img.layer.String(), "Authorization", fmt.Sprint("Bearer x", i))
	}
	if g, n := w.gate.grants.len(), w.manifests.tags.len(); g != 100 || n != 50 {
		t.Fatalf("%d grants and %d tags", g, n)
	}
	if calls := len(w.gate.asks.calls) + len(w.manifests.asks.calls) + len(w.lists.calls); calls != 0 {
		t.Fatalf("%d calls left", calls)
	}
}

func TestGateGive(t *testing.T) {
	w := newWorld(t, Config{})
	c := caller{ref: Ref{"h.example", "a"}}
	now := time.Now()
	get := func() grant { g, _ := w.gate.grants.get(w.gate.key(c, someSHA256)); return g }
	w.gate.give(c, someSHA256, grant{at: now, size: 10, proven: true})
	w.gate.give(c, someSHA256, grant{at: now.Add(-time.Hour), size: 99})
	if g := get(); g.at != now || g.size != 10 {
		t.Fatalf("an older claim won: %+v", g)
	}
	w.gate.give(c, someSHA256, grant{at: now.Add(time.Hour), size: 99})
	if g := get(); g.at != now.Add(time.Hour) || g.size != 10 || !g.proven {
		t.Fatalf("a claim replaced a proven size: %+v", g)
	}
	w.gate.give(c, someSHA256, grant{at: now.Add(2 * time.Hour), size: -1})
	if g := get(); g.size != 10 {
		t.Fatalf("a size was forgotten: %+v", g)
	}
	w.gate.give(c, someSHA256, grant{at: now, size: 11, proven: true})
	if g := get(); g.at != now.Add(2*time.Hour) {
		t.Fatalf("went back in time: %+v", g)
	}
}

func TestAuthorization(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "Basic Og==": "", "basic Og==": "", "Basic  Og== ": "",
		"Basic dTpw": "Basic dTpw", "Bearer Og==": "Bearer Og==",
	} {
		if got := authorization(http.Header{"Authorization": {in}}); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
