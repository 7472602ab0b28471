package preheat

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
)

func FuzzParseImage(f *testing.F) {
	for _, s := range []string{"alpine", "r.example:5000/a/b:c@sha256:" + strings.Repeat("a", 64), "[::1]:5000/x", "a//b", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		i, err := ParseImage(s, "docker.io")
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseImage(i.String(), "other.example")
		if err != nil || again != i {
			t.Fatalf("%q is %+v, which reads as %+v, %v", s, i, again, err)
		}
	})
}

func FuzzReadOpening(f *testing.F) {
	for _, s := range []string{
		`{"job":{"id":1}}`, `{"fetch":{"registry":"r.example","repository":"a/b","layers":[]}}`, `{}`, `[`, `{"job":{"id":-1}}`,
		`{"fetch":{"registry":"docker.io","repository":"library/x","private":true,"layers":[{"digest":"sha256:` + strings.Repeat("0", 64) + `","size":-1}]}}`,
		`{"fetch":{"registry":"r.example/evil","repository":"x","layers":[]}}`, `{"fetch":{"registry":"r.example","repository":"../x","layers":[]}}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := readOpening(strings.NewReader(s))
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if o.Fetch == nil {
			return
		}
		if len(o.Fetch.Layers) > maxLayers || strings.ContainsAny(o.Fetch.Registry, "/?#@ ") || strings.Contains(o.Fetch.Name, "..") {
			t.Fatalf("%q", s)
		}
		for _, l := range o.Fetch.Layers {
			if l.Digest.Validate() != nil || l.Size < -1 {
				t.Fatalf("%q", s)
			}
		}
	})
}

func FuzzParseReport(f *testing.F) {
	for _, s := range []string{`{}`, `{"done":true}`, `{"report":{"layer":1,"state":"running","bytes":7}}`, `{"report":{"layer":9,"state":"x"}}`, `{"refuse":"busy"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseReport([]byte(s), 3)
		if err == nil && a.Report != nil && (a.Report.Layer < 0 || a.Report.Layer > 2 || len(a.Report.Reason) > maxReason+3) {
			t.Fatalf("%q: %+v", s, a.Report)
		}
	})
}

func FuzzParseJob(f *testing.F) {
	whole, err := json.Marshal(record{Job: Job{ID: newID(1, 1), Image: "r.example/a:b", State: Succeeded, Scope: ScopeAll, Platforms: []string{"all"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(whole))
	f.Add(`{"id":1048577,"image":"a","state":"running"}`)
	f.Add(`{"id":1048577,"image":"a","state":"succeeded","layers":[{}],"nodes":[{"peer_id":"x"}]}`)
	f.Fuzz(func(t *testing.T, s string) {
		j, err := parseJob([]byte(s), newID(1, 1))
		if err != nil {
			return
		}
		_ = j.view() // whatever was read can be shown
		if j.state != Queued && !j.state.Ended() {
			t.Fatalf("%q: state %s", s, j.state)
		}
	})
}

// Whatever a registry gives as a manifest: it is read within the bounds, and names only what can be asked for.
func FuzzResolve(f *testing.F) {
	sum := "sha256:" + strings.Repeat("a", 64)
	for _, s := range []string{
		`{"layers":[{"digest":"` + sum + `","size":5}],"config":{"digest":"` + sum + `"}}`, `{"manifests":[{"digest":"` + sum + `","platform":{"os":"linux","architecture":"amd64"}}]}`,
		`{"manifests":[{"digest":"` + sum + `"},{"digest":"x"}]}`, `{"layers":[{"digest":"sha256:../../x"}]}`, `{"layers":[{"digest":"` + sum + `","size":-9,"urls":["http://x"]}]}`,
		`{"manifests":[null]}`, `{"blobs":[{}]}`, `{}`, `[`, `null`,
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, some bool) {
		var platforms []v1.Platform
		if some {
			platforms = []v1.Platform{{OS: "linux", Architecture: "amd64"}}
		}
		c, err := resolve(t.Context(), echo(s), Image{Repository: Repository{Registry: "r.example", Name: "a/b"}, Tag: "t"}, platforms, "")
		if err != nil {
			return
		}
		if len(c.Layers) > maxLayers || len(c.Documents) > maxManifests {
			t.Fatalf("%d layers, %d documents", len(c.Layers), len(c.Documents))
		}
		for _, l := range c.Layers {
			if l.Digest.Validate() != nil || l.Size < -1 || l.Size == 0 {
				t.Fatalf("%q: layer %+v", s, l)
			}
		}
	})
}

// echo is a registry that gives the same document for everything.
type echo string

func (echo) Listed(string) bool { return true }

func (echo) Authorization(context.Context, string) (string, error) { return "", nil }

func (e echo) Manifest(context.Context, Repository, string, string) (Document, error) {
	return Document{Data: []byte(e)}, nil
}

func (echo) Public(context.Context, Repository, digest.Digest) bool { return true }
