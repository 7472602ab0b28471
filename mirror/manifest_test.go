package mirror

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const path = "/v2/h.example/team/app/"

func TestBase(t *testing.T) {
	w := newWorld(t, Config{})
	for _, target := range []string{"/v2/", "/v2", "/v2/?ns=docker.io"} {
		rec := w.do("GET", target, "Authorization", "Basic dTpw")
		wantStatus(t, rec, 200)
		if rec.Header().Get("Docker-Distribution-Api-Version") != "registry/2.0" || rec.Header().Get("Www-Authenticate") != "" || rec.Body.String() != "{}" {
			t.Fatalf("%v %s", rec.Header(), rec.Body)
		}
	}
	if rec := w.do("HEAD", "/v2/", "Authorization", "Basic dTpw"); rec.Code != 200 || rec.Body.Len() != 0 {
		t.Fatalf("HEAD: %d, %d bytes", rec.Code, rec.Body.Len())
	}
}

func TestManifestByTag(t *testing.T) {
	w := newWorld(t, Config{})
	img := w.push(w.origin.repo("h.example", "team/app"), "latest", 100)
	for i := range 2 {
		rec := w.do("GET", path+"manifests/latest", "Accept", v1.MediaTypeImageIndex, "Accept", v1.MediaTypeImageManifest)
		wantStatus(t, rec, 200)
		h := rec.Header()
		if rec.Body.String() != string(img.data) || h.Get("Content-Type") != v1.MediaTypeImageManifest ||
			h.Get("Docker-Content-Digest") != img.manifest.String() || h.Get("Etag") != etag(img.manifest) {
			t.Fatalf("%v %s", h, rec.Body)
		}
		req := w.origin.last()
		if req.Header.Get("Accept") != v1.MediaTypeImageIndex+", "+v1.MediaTypeImageManifest || req.Path != "manifests/latest" {
			t.Fatalf("asked %+v", req)
		}
		// The second time the origin is asked whether the tag has moved.
		if cond := req.Header.Get("If-None-Match"); (cond == etag(img.manifest)) != (i == 1) {
			t.Fatalf("pull %d with If-None-Match %q", i, cond)
		}
	}
	if w.docs.puts != 1 {
		t.Fatalf("%d puts", w.docs.puts)
	}
	if rec := w.do("GET", path+"manifests/latest", "If-None-Match", etag(img.manifest)); rec.Code != 304 || rec.Body.Len() != 0 {
		t.Fatalf("If-None-Match: %d", rec.Code)
	}
	if rec := w.do("GET", path+"manifests/other"); rec.Code != 404 || codeOf(rec.Body.Bytes()) != codeManifestUnknown {
		t.Fatalf("unknown tag: %d %s", rec.Code, rec.Body)
	}
}

func TestManifestTagMoves(t *testing.T) {
	w := newWorld(t, Config{})
	repo := w.origin.repo("h.example", "team/app")
	w.push(repo, "latest", 100)
	w.do("GET", path+"manifests/latest")
	moved := w.push(repo, "latest", 200)
	if rec := w.do("GET", path+"manifests/latest"); rec.Body.String() != string(moved.data) {
		t.Fatalf("the old image: %s", rec.Body)
	}
	// An origin that knows no conditions.
	w.origin.etagBlind = true
	if rec := w.do("GET", path+"manifests/latest"); rec.Body.String() != string(moved.data) {
		t.Fatalf("no conditions: %s", rec.Body)
	}
}

func TestManifestHead(t *testing.T) {
	for name, quirk := range map[string]fakeQuirk{"plain": {}, "no HEAD": {noHead: true}, "no digest": {noDigest: true}, "no type": {noType: true}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.origin.quirk = quirk
			img := w.push(w.origin.repo("h.example", "team/app"), "latest", 100)
			for _, ref := range []string{"latest", img.manifest.String()} {
				rec := w.do("HEAD", path+"manifests/"+ref)
				wantStatus(t, rec, 200)
				h := rec.Header()
				if h.Get("Docker-Content-Digest") != img.manifest.String() || h.Get("Content-Type") != v1.MediaTypeImageManifest || rec.Body.Len() != 0 ||
					h.Get("Content-Length") != "" && h.Get("Content-Length") != itoa(len(img.data)) {
					t.Fatalf("%s: %v", ref, h)
				}
			}
		})
	}
}

func TestManifestByDigest(t *testing.T) {
	w := newWorld(t, Config{})
	img := w.push(w.origin.repo("h.example", "team/app"), "", 100)
	target := path + "manifests/" + img.manifest.String()
	wantStatus(t, w.do("GET", target), 200)
	rec := w.do("GET", target)
	if do, _ := w.origin.asked(); do != 1 {
		t.Fatalf("%d questions for two pulls", do)
	}
	if rec.Body.String() != string(img.data) || rec.Header().Get("Content-Type") != v1.MediaTypeImageManifest {
		t.Fatalf("from disk: %v %s", rec.Header(), rec.Body)
	}
	if rec := w.do("GET", target, "If-None-Match", `"`+img.manifest.String()+`"`); rec.Code != 304 {
		t.Fatalf("If-None-Match: %d", rec.Code)
	}
	// What its HEAD told serves its GET's question too: no third one.
	if do, _ := w.origin.asked(); do != 1 {
		t.Fatalf("%d questions", do)
	}
}

func TestManifestHeadThenGetOfDigest(t *testing.T) {
	w := newWorld(t, Config{})
	img := w.push(w.origin.repo("h.example", "team/app"), "latest", 100)
	w.do("GET", path+"manifests/latest") // somebody pulled it before
	before, _ := w.origin.asked()
	auth := []string{"Authorization", "Bearer mine"}
	wantStatus(t, w.do("HEAD", path+"manifests/latest", auth...), 200)
	wantStatus(t, w.do("GET", path+"manifests/"+img.manifest.String(), auth...), 200)
	wantStatus(t, w.do("GET", path+"blobs/"+img.layer.String(), auth...), 200)
	if do, heads := w.origin.asked(); do-before != 1 || heads != 0 {
		t.Fatalf("%d manifest and %d blob questions; the HEAD was enough", do-before, heads)
	}
}

func TestManifestDoesNotPass(t *testing.T) {
	for name, c := range map[string]struct {
		quirk  fakeQuirk
		byHash bool
	}{
		"corrupt by digest":       {fakeQuirk{corrupt: true}, true},
		"corrupt by tag":          {fakeQuirk{corrupt: true}, false},
		"another's digest by tag": {fakeQuirk{wrongDigest: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.origin.quirk = c.quirk
			img := w.push(w.origin.repo("h.example", "team/app"), "latest", 100)
			ref := "latest"
			if c.byHash {
				ref = img.manifest.String()
			}
			rec := w.do("GET", path+"manifests/"+ref)
			wantStatus(t, rec, 502)
			if len(w.docs.docs) != 0 || w.gate.grants.len() != 0 {
				t.Fatal("something was kept")
			}
		})
	}
	t.Run("HEAD for another digest", func(t *testing.T) {
		w := newWorld(t, Config{})
		w.origin.quirk.wrongDigest = true
		img := w.push(w.origin.repo("h.example", "team/app"), "latest", 100)
		wantStatus(t, w.do("HEAD", path+"manifests/"+img.manifest.String()), 502)
	})
	t.Run("too large", func(t *testing.T) {
		w := newWorld(t, Config{ManifestMax: 1000})
		w.origin.repo("h.example", "team/app").put("latest", v1.MediaTypeImageManifest, make([]byte, 1001))
		wantStatus(t, w.do("GET", path+"manifests/latest"), 502)
	})
	t.Run("304 nobody asked for", func(t *testing.T) {
		w := newWorld(t, Config{})
		w.origin.hook = func(context.Context, OriginRequest) (*http.Response, error) {
			resp := response(http.Header{}, nil)
			resp.StatusCode = 304
			return resp, nil
		}
		wantStatus(t, w.do("GET", path+"manifests/latest"), 502)
	})
}

func TestManifestSchema1(t *testing.T) {
	w := newWorld(t, Config{})
	repo := w.origin.repo("h.example", "team/app")
	data := []byte(`{"schemaVersion":1,"signatures":[]}`)
	repo.manifests["old"] = document{digest: digest.FromString("its payload"), mediaType: typeSchema1Signed, data: data}
	rec := w.do("GET", path+"manifests/old")
	wantStatus(t, rec, 200)
	if rec.Body.String() != string(data) || rec.Header().Get("Docker-Content-Digest") != digest.FromString("its payload").String() {
		t.Fatalf("%v %s", rec.Header(), rec.Body)
	}
	if len(w.docs.docs) != 0 || w.gate.grants.len() != 0 {
		t.Fatal("something unproven was kept")
	}
}

func TestManifestDamagedOnDisk(t *testing.T) {
	w := newWorld(t, Config{})
	img := w.push(w.origin.repo("h.example", "team/app"), "latest", 100)
	w.do("GET", path+"manifests/latest")
	bad := w.docs.docs[img.manifest]
	bad.data = append([]byte{}, bad.data...)
	bad.data[3] ^= 1
	w.docs.docs[img.manifest] = bad
	rec := w.do("GET", path+"manifests/"+img.manifest.String())
	if rec.Body.String() != string(img.data) || !matches(img.manifest, w.docs.docs[img.manifest].data) {
		t.Fatalf("served or kept: %s", rec.Body)
	}
}

func TestManifestDiskFull(t *testing.T) {
	w := newWorld(t, Config{})
	w.docs.putErr = errors.New("no space left on device")
	w.push(w.origin.repo("h.example", "team/app"), "latest", 100)
	wantStatus(t, w.do("GET", path+"manifests/latest"), 200)
}

func TestManifestDefaultAccept(t *testing.T) {
	w := newWorld(t, Config{})
	w.push(w.origin.repo("h.example", "team/app"), "latest", 100)
	w.do("GET", path+"manifests/latest")
	for _, mediaType := range []string{v1.MediaTypeImageIndex, v1.MediaTypeImageManifest, typeDockerList, typeDockerManifest, "*/*"} {
		if !strings.Contains(w.origin.last().Header.Get("Accept"), mediaType) {
			t.Errorf("%s is not asked for", mediaType)
		}
	}
}

// TestManifestCoalesced sends 100 clients for one tag at once: one question.
func TestManifestCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		img := w.push(w.origin.repo("h.example", "team/app"), "latest", 100)
		slow := w.origin
		hold := make(chan struct{})
		slow.hook = func(ctx context.Context, req OriginRequest) (*http.Response, error) {
			<-hold
			return slow.manifest(slow.repos[req.Ref], req, "latest")
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if rec := w.do("GET", path+"manifests/latest"); rec.Body.String() != string(img.data) {
					t.Errorf("%d %s", rec.Code, rec.Body)
				}
			})
		}
		synctest.Wait()
		close(hold)
		wg.Wait()
		if do, _ := slow.asked(); do != 1 || w.Stats().Coalesced != 99 {
			t.Fatalf("%d questions, %d coalesced", do, w.Stats().Coalesced)
		}
		w.Close()
	})
}

// TestManifestNotCoalescedAcrossCredentials: an answer is for who asked.
func TestManifestNotCoalescedAcrossCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		repo := w.origin.repo("h.example", "team/app")
		repo.secret = "Bearer good"
		w.push(repo, "latest", 100)
		hold := make(chan struct{})
		w.origin.hook = func(ctx context.Context, req OriginRequest) (*http.Response, error) {
			<-hold
			repo, err := w.origin.enter(req.Ref, req.Authorization)
			if err != nil {
				return nil, err
			}
			return w.origin.manifest(repo, req, "latest")
		}
		var wg sync.WaitGroup
		for auth, status := range map[string]int{"": 401, "Bearer good": 200, "Bearer bad": 403} {
			wg.Go(func() {
				if rec := w.do("GET", path+"manifests/latest", "Authorization", auth); rec.Code != status {
					t.Errorf("%q: %d, want %d", auth, rec.Code, status)
				}
			})
		}
		synctest.Wait()
		close(hold)
		wg.Wait()
		w.Close()
	})
}

func TestManifestOriginHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.origin.hook = func(ctx context.Context, _ OriginRequest) (*http.Response, error) {
			<-ctx.Done()
			return nil, &fakeError{} // what a client makes of it
		}
		start := time.Now()
		rec := w.do("GET", path+"manifests/latest")
		if rec.Code != 504 || codeOf(rec.Body.Bytes()) != codeUnavailable || time.Since(start) > 15*time.Second {
			t.Fatalf("%d %s after %v", rec.Code, rec.Body, time.Since(start))
		}
		w.Close()
	})
}
