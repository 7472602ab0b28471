package mirror

import (
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
)

// What was asked for by digest has its repository's name, which outlives a restart; what credentials were told has it in memory
// only, with its manifest.
func TestKnown(t *testing.T) {
	w := newWorld(t, Config{})
	img := w.push(w.origin.repo("h.example", "team/app"), "latest", 1000)
	secret := w.origin.repo("h.example", "team/private")
	secret.secret = good
	private := w.push(secret, "latest", 2000)
	wantStatus(t, w.do("GET", path+"manifests/"+img.manifest.String()), 200)
	wantStatus(t, w.do("GET", "/v2/h.example/team/private/manifests/"+private.manifest.String(), "Authorization", good), 200)
	wantStatus(t, w.do("GET", "/v2/h.example/team/private/manifests/latest", "Authorization", good), 200)
	names := func(known []Known) (out []string) {
		for _, k := range known {
			out = append(out, fmt.Sprintf("%s:%s %s private:%t %t", k.Ref, k.Name, k.Digest, k.Private, digest.FromBytes(k.Document) == k.Digest))
		}
		slices.Sort(out)
		return out
	}
	want := []string{
		fmt.Sprintf("h.example/team/app: %s private:false false", img.manifest),
		fmt.Sprintf("h.example/team/private: %s private:true true", private.manifest),
		fmt.Sprintf("h.example/team/private:latest %s private:true true", private.manifest),
	}
	if got := names(w.Known()); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	next := newWorld(t, Config{})
	defer next.Close()
	next.Restore(w.Tags())
	if got := names(next.Known()); !slices.Equal(got, want[:1]) {
		t.Errorf("after a restart: %q", got)
	}
	if grants := next.gate.grants.len(); grants != 0 {
		t.Errorf("a name gave %d grants", grants)
	}
	w.Close()
}

// Somebody's word is no better than what the mirror saw, and what is refused to anybody by now loses its name.
func TestName(t *testing.T) {
	w := newWorld(t, Config{MaxTags: 10})
	defer w.Close()
	repo := w.origin.repo("h.example", "team/app")
	img := w.push(repo, "latest", 1000)
	target := path + "manifests/" + img.manifest.String()
	wantStatus(t, w.do("GET", target), 200)
	w.Name(Ref{"h.example", "other"}, img.manifest)
	if known := w.Known(); len(known) != 1 || known[0].Repository != "team/app" {
		t.Errorf("%+v", known)
	}
	repo.secret = good
	w.gate.grants = newLRU[hash, grant](10)
	wantStatus(t, w.do("GET", target), 401)
	if known := w.Known(); len(known) != 0 {
		t.Errorf("refused by now: %+v", known)
	}
	for i := range 100 {
		w.Name(Ref{"h.example", "a"}, digest.FromString(fmt.Sprint(i)))
	}
	if n := len(w.Known()); n != 10 {
		t.Errorf("%d names", n)
	}
}
