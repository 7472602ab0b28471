package mirror

import (
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestTags(t *testing.T) {
	w := newWorld(t, Config{})
	repo := w.origin.repo("h.example", "team/app")
	repo.tags = `{"name":"team/app","tags":["1","2"]}`
	repo.link = `</v2/team/app/tags/list?last=2&n=2>; rel="next"`

	rec := w.do("GET", "/v2/team/app/tags/list?n=2&ns=h.example")
	wantStatus(t, rec, 200)
	if rec.Body.String() != repo.tags || rec.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%v %s", rec.Header(), rec.Body)
	}
	if q := w.origin.last().RawQuery; q != "n=2" {
		t.Fatalf("query %q", q)
	}
	if link := rec.Header().Get("Link"); link != `</v2/team/app/tags/list?last=2&n=2&ns=h.example>; rel="next"` {
		t.Fatalf("Link %s", link)
	}
	rec = w.do("GET", path+"tags/list?n=2")
	if link := rec.Header().Get("Link"); link != `<`+path+`tags/list?last=2&n=2>; rel="next"` {
		t.Fatalf("Link %s", link)
	}
	if rec = w.do("HEAD", path+"tags/list"); rec.Code != 200 || rec.Body.Len() != 0 {
		t.Fatalf("HEAD: %d", rec.Code)
	}
	rec = w.do("GET", "/v2/h.example/nobody/tags/list")
	if wantStatus(t, rec, 404); codeOf(rec.Body.Bytes()) != codeNameUnknown {
		t.Fatalf("body %s", rec.Body)
	}
}

func TestTagsTooMany(t *testing.T) {
	w := newWorld(t, Config{})
	w.origin.repo("h.example", "team/app").tags = strings.Repeat(" ", listMax+1)
	wantStatus(t, w.do("GET", path+"tags/list"), 502)
}

func TestReferrers(t *testing.T) {
	w := newWorld(t, Config{})
	repo := w.origin.repo("h.example", "team/app")
	repo.referrers = `{"schemaVersion":2,"manifests":[]}`
	rec := w.do("GET", path+"referrers/"+someSHA256+"?artifactType=application%2Fx")
	wantStatus(t, rec, 200)
	if rec.Header().Get("Content-Type") != v1.MediaTypeImageIndex || rec.Header().Get("OCI-Filters-Applied") != "artifactType" || rec.Body.String() != repo.referrers {
		t.Fatalf("%v %s", rec.Header(), rec.Body)
	}
	if req := w.origin.last(); req.RawQuery != "artifactType=application%2Fx" || req.Path != "referrers/"+someSHA256 {
		t.Fatalf("asked %+v", req)
	}
	// An origin without the API: the client has to see the 404 to fall back.
	repo.referrers = ""
	rec = w.do("GET", path+"referrers/"+someSHA256)
	if wantStatus(t, rec, 404); codeOf(rec.Body.Bytes()) != codeManifestUnknown {
		t.Fatalf("body %s", rec.Body)
	}
}

func TestListsAreNotServedFromMemory(t *testing.T) {
	w := newWorld(t, Config{})
	repo := w.origin.repo("h.example", "team/app")
	repo.tags, repo.secret = `{}`, "Bearer good"
	wantStatus(t, w.do("GET", path+"tags/list", "Authorization", "Bearer good"), 200)
	wantStatus(t, w.do("GET", path+"tags/list"), 401)
	wantStatus(t, w.do("GET", path+"tags/list", "Authorization", "Bearer bad"), 403)
}

func TestRewriteLink(t *testing.T) {
	for _, c := range []struct{ name, link, ns, want string }{
		{"relative", `</v2/a/tags/list?last=x>; rel="next"`, "", `</here?last=x>; rel="next"`},
		{"absolute to another host", `<https://cdn.example/v2/a?token=y>; rel=next`, "", `</here?token=y>; rel="next"`},
		{"with ns", `</v2/a?last=x&ns=evil.example>; rel="next"`, "h.example", `</here?last=x&ns=h.example>; rel="next"`},
		{"another relation", `</v2/a>; rel="prev"`, "", ""},
		{"no brackets", `/v2/a; rel="next"`, "", ""},
		{"broken", `<%zz>; rel="next"`, "", ""},
		{"broken query", `</v2/a?x=%zz>; rel="next"`, "", ""},
		{"header splitting", "</v2/a?x=\r\nX: y>; rel=\"next\"", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, ok := rewriteLink(c.link, "/here", c.ns); got != c.want || ok != (c.want != "") {
				t.Fatalf("got %q, %v", got, ok)
			}
		})
	}
}
