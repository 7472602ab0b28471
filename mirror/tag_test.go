package mirror

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const day = 24 * time.Hour

// TestTagWhileOriginIsAway: a tag's last manifest, and what it names, go to those
// who were told it lately enough, marked with their age.
func TestTagWhileOriginIsAway(t *testing.T) {
	for name, c := range map[string]struct {
		cfg    Config
		secret string // of the repository
		auth   string // of the client
		age    time.Duration
		down   error
		serve  bool
	}{
		"public":                       {age: 6 * day, down: errors.New("no route"), serve: true},
		"public, 503":                  {age: time.Hour, down: &fakeError{status: 503}, serve: true},
		"public, 429":                  {age: time.Hour, down: &fakeError{status: 429}, serve: true},
		"public, too long ago":         {age: 8 * day, down: errors.New("no route")},
		"public, to credentials":       {auth: bad, age: 6 * day, down: errors.New("no route"), serve: true},
		"public, switched off":         {cfg: Config{StaleTTL: Default().GrantTTL}, age: time.Hour, down: errors.New("no route")},
		"gone":                         {age: time.Hour, down: &fakeError{status: 404}},
		"refused by now":               {age: time.Hour, down: &fakeError{status: 401}},
		"private":                      {secret: good, auth: good, age: 23 * time.Hour, down: errors.New("no route"), serve: true},
		"private, too long ago":        {secret: good, auth: good, age: 25 * time.Hour, down: errors.New("no route")},
		"private, policy":              {cfg: Config{StalePrivateTTL: time.Hour}, secret: good, auth: good, age: 2 * time.Hour, down: errors.New("no route")},
		"private, anonymous":           {secret: good, auth: "", age: time.Hour, down: errors.New("no route")},
		"private, others' credentials": {secret: good, auth: bad, age: time.Hour, down: errors.New("no route")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, c.cfg)
				defer w.Close()
				repo := w.origin.repo("h.example", "team/app")
				repo.secret = c.secret
				img := w.push(repo, "latest", 1000)
				wantStatus(t, w.do("GET", path+"manifests/latest", "Authorization", c.secret), 200)
				time.Sleep(c.age)
				w.origin.down = c.down
				for _, method := range []string{"HEAD", "GET"} {
					rec := w.do(method, path+"manifests/latest", "Authorization", c.auth)
					if (rec.Code == 200) != c.serve {
						t.Fatalf("%s: %d %s", method, rec.Code, rec.Body)
					}
					if !c.serve {
						continue
					}
					h := rec.Header()
					if h.Get("Docker-Content-Digest") != img.manifest.String() || h.Get("Age") != itoa(int(c.age.Seconds())) ||
						!strings.Contains(h.Get("Warning"), c.age.String()+" ago") {
						t.Fatalf("%v", h)
					}
				}
				if rec := w.do("GET", path+"blobs/"+img.layer.String(), "Authorization", c.auth); (rec.Code == 200) != c.serve {
					t.Fatalf("layer: %d %s", rec.Code, rec.Body)
				}
				if n := w.Stats().StaleTags; (n == 2) != c.serve {
					t.Fatalf("%d stale tags counted", n)
				}
			})
		})
	}
}

// TestTagBack: the origin's answer is the one that counts as soon as there is one.
func TestTagBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		defer w.Close()
		repo := w.origin.repo("h.example", "team/app")
		w.push(repo, "latest", 1000)
		wantStatus(t, w.do("GET", path+"manifests/latest"), 200)
		w.origin.down = errors.New("no route")
		rec := w.do("GET", path+"manifests/latest")
		wantStatus(t, rec, 200)
		moved := w.push(repo, "latest", 2000)
		w.origin.down = nil
		time.Sleep(outageTTL)
		rec = w.do("GET", path+"manifests/latest")
		if rec.Body.String() != string(moved.data) || rec.Header().Get("Age") != "" || rec.Header().Get("Warning") != "" {
			t.Fatalf("%d %v", rec.Code, rec.Header())
		}
	})
}

// TestTagHangingOrigin: one client waits for an origin that is silent, the next
// ones do not.
func TestTagHangingOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		defer w.Close()
		w.push(w.origin.repo("h.example", "team/app"), "latest", 1000)
		wantStatus(t, w.do("GET", path+"manifests/latest"), 200)
		w.origin.hook = func(ctx context.Context, _ OriginRequest) (*http.Response, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		for _, want := range []time.Duration{stalePatience, 0, 0} {
			start := time.Now()
			wantStatus(t, w.do("GET", path+"manifests/latest"), 200)
			if d := time.Since(start); d != want {
				t.Fatalf("waited %v, want %v", d, want)
			}
		}
		time.Sleep(outageTTL)
		before, _ := w.origin.asked()
		wantStatus(t, w.do("GET", path+"manifests/latest"), 200)
		if after, _ := w.origin.asked(); after == before {
			t.Fatal("the origin is not asked again")
		}
	})
}

// TestTagRevalidatedByHead: a tag that has not moved costs a HEAD, one that has
// moved is seen at once.
func TestTagRevalidatedByHead(t *testing.T) {
	for name, quirk := range map[string]fakeQuirk{"plain": {}, "no HEAD": {noHead: true}, "no digest": {noDigest: true}} {
		for _, blind := range []bool{false, true} {
			w := newWorld(t, Config{})
			w.origin.quirk, w.origin.etagBlind = quirk, blind
			repo := w.origin.repo("h.example", "team/app")
			img := w.push(repo, "latest", 100)
			for range 2 {
				if rec := w.do("GET", path+"manifests/latest"); rec.Body.String() != string(img.data) {
					t.Fatalf("%s: %d", name, rec.Code)
				}
			}
			if last := w.origin.last(); name == "plain" && (last.Method != http.MethodHead || last.Header.Get("If-None-Match") != etag(img.manifest)) {
				t.Errorf("%s: asked by %s", name, last.Method)
			}
			moved := w.push(repo, "latest", 200)
			if rec := w.do("GET", path+"manifests/latest"); rec.Body.String() != string(moved.data) {
				t.Errorf("%s: the old image", name)
			}
		}
	}
}

// TestTagTTL: within it a tag is not asked for, for those who have a fresh yes and
// would be given the same.
func TestTagTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{TagTTL: time.Minute})
		defer w.Close()
		repo := w.origin.repo("h.example", "team/app")
		img := w.push(repo, "latest", 100)
		index := repo.put("multi", v1.MediaTypeImageIndex, []byte(`{"manifests":[]}`))
		asked := func(what string, more int, target string, headers ...string) {
			t.Helper()
			before, _ := w.origin.asked()
			wantStatus(t, w.do("GET", path+target, headers...), 200)
			if after, _ := w.origin.asked(); after-before != more {
				t.Fatalf("%s: %d questions, want %d", what, after-before, more)
			}
		}
		one, all := []string{"Accept", v1.MediaTypeImageManifest}, []string{"Accept", v1.MediaTypeImageManifest + ", " + v1.MediaTypeImageIndex + ";q=0.5"}
		asked("first", 1, "manifests/latest", one...)
		asked("again", 0, "manifests/latest", one...)
		asked("another Accept", 1, "manifests/latest", all...)
		asked("first of the index", 1, "manifests/multi")
		asked("an index for another who takes it", 0, "manifests/multi", all...)
		asked("other credentials", 1, "manifests/latest", "Authorization", good)
		time.Sleep(time.Minute)
		asked("later", 1, "manifests/multi")
		if _, doc, ok := w.manifests.last(question{caller: caller{ref: Ref{"h.example", "team/app"}}, reference: "multi"}); !ok || doc.digest != index || img.manifest == index {
			t.Fatal("not remembered")
		}
	})
}

// TestTagsRestored: what anybody was told outlives a restart while origins are
// away; what credentials were told does not, and nothing restored counts as fresh.
func TestTagsRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{TagTTL: time.Minute})
		img := w.push(w.origin.repo("h.example", "team/app"), "latest", 1000)
		private := w.origin.repo("h.example", "team/private")
		private.secret = good
		w.push(private, "latest", 2000)
		wantStatus(t, w.do("GET", path+"manifests/latest"), 200)
		wantStatus(t, w.do("GET", "/v2/h.example/team/private/manifests/latest", "Authorization", good), 200)
		kept := w.Tags()
		if len(kept) != 1 || kept[0].Repository != "team/app" || kept[0].Name != "latest" || kept[0].Digest != img.manifest {
			t.Fatalf("%+v", kept)
		}
		w.Close()
		future := kept[0]
		future.Name, future.At = "future", time.Now().Add(time.Hour)
		wrong := []Tag{future, {Ref: kept[0].Ref, Name: "../x", Digest: img.manifest}, {Ref: Ref{"h.example", "Team"}, Name: "x", Digest: img.manifest}, {Ref: kept[0].Ref, Name: "x", Digest: "sha256:1"}}

		next := newWorld(t, Config{TagTTL: time.Minute})
		defer next.Close()
		next.docs, next.mesh = w.docs, w.mesh
		next.manifests.docs, next.blobs = w.docs, w.mesh
		next.Restore(append(wrong, kept...))
		if n := len(next.Tags()); n != 1 {
			t.Fatalf("%d tags restored", n)
		}
		next.origin.down = errors.New("no route")
		for _, target := range []string{"manifests/latest", "manifests/" + img.manifest.String(), "blobs/" + img.layer.String()} {
			wantStatus(t, next.do("GET", path+target), 200)
		}
		wantStatus(t, next.do("GET", "/v2/h.example/team/private/manifests/latest", "Authorization", good), 502)
		if next.Stats().TagHits+next.Stats().GrantHits != 0 {
			t.Fatalf("taken for fresh: %+v", next.Stats())
		}
		next.origin.down = &fakeError{status: 401}
		time.Sleep(outageTTL)
		wantStatus(t, next.do("GET", path+"manifests/latest"), 401)
		if n := len(next.Tags()); n != 0 {
			t.Fatal("what is refused to anybody by now is still kept")
		}
	})
}

func TestAcceptable(t *testing.T) {
	for _, c := range []struct {
		accept, mediaType string
		want              bool
	}{
		{v1.MediaTypeImageManifest, v1.MediaTypeImageManifest, true},
		{v1.MediaTypeImageManifest, v1.MediaTypeImageManifest + "; charset=utf-8", true},
		{"text/html, " + v1.MediaTypeImageManifest + ";q=0.1", v1.MediaTypeImageManifest, true},
		{"a/b, */*", v1.MediaTypeImageManifest, true},
		{v1.MediaTypeImageIndex, v1.MediaTypeImageManifest, false},
		{"", v1.MediaTypeImageManifest, false},
	} {
		if got := acceptable(c.accept, c.mediaType); got != c.want {
			t.Errorf("%q for %q: %v", c.mediaType, c.accept, got)
		}
	}
}
