package e2e

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// loginPull pulls an image as a client that has logged in, manifest and blobs.
func loginPull(mirror string, img *image) error {
	ref, err := name.NewTag(mirror+"/"+img.repo+":"+img.tag, name.Insecure)
	if err != nil {
		return err
	}
	got, err := remote.Image(ref, remote.WithAuth(&authn.Basic{Username: user, Password: password}))
	if err != nil {
		return err
	}
	if _, err := got.RawConfigFile(); err != nil {
		return err
	}
	layers, err := got.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		body, err := l.Compressed()
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
		body.Close()
	}
	return nil
}

var spaces = regexp.MustCompile(" {2,}")

// cacheRows is what `meshd cache ls` shows, sorted, columns apart by one bar.
func (n *node) cacheRows(t testing.TB) []string {
	t.Helper()
	out, err := n.command(t, "cache", "ls")
	must(t, err)
	var rows []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "IMAGE ") && !strings.HasPrefix(line, "FILE ") {
			rows = append(rows, spaces.ReplaceAllString(line, "|"))
		}
	}
	slices.Sort(rows)
	return rows
}

func (n *node) wantCache(t testing.TB, when string, want ...string) {
	t.Helper()
	got := n.cacheRows(t)
	ok := len(got) == len(want)
	for i := range want {
		ok = ok && regexp.MustCompile("^"+want[i]+"$").MatchString(got[i])
	}
	if !ok {
		t.Errorf("%s, %s holds\n%s\nwant\n%s", when, n.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Whatever way something came onto a node's disk, the node has a name for it that people know: by tag, by digest, of one
// platform, by another node's preheat, for credentials, by URL. What was told to anybody it knows after a restart too.
func TestCacheNames(t *testing.T) {
	n := newNetwork(t)
	auth, files, r := startAuthServer(t, n, map[string]string{user: password}, map[string][]string{user: {"team/app"}}), startFileServer(t, n, 1*mib), startRegistry(t, n)
	m := &mesh{net: n, registry: r, origin: r.url(), dir: t.TempDir()}
	m.extra = []string{"--registry", guardedHost + "=" + r.guard(t, n, auth.config(t)).url(), "--files-allow", files.addr}
	m.start(t, nodeSpec{"east", true}, nodeSpec{"west", false})
	a, b := m.nodes[0], m.nodes[1]
	var index v1.ImageIndex = empty.Index
	for i, arch := range []string{"amd64", "arm64"} {
		img, _ := newImage(t, "library/multi", int64(70+i), 100_000)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	ref, err := name.NewTag(m.registry.addr+"/library/multi:1", name.Insecure)
	must(t, err)
	must(t, remote.WriteIndex(ref, index))
	top, err := index.Digest()
	must(t, err)
	if j := a.preheat(t, "multi:1", "--platform", "linux/arm64", "--scope", "all"); j.State != "succeeded" {
		t.Fatalf("%+v", j)
	}
	byTag := m.registry.pushImage(t, "library/hello", 72, 100_000, 200_000)
	byDigest := m.registry.pushImage(t, "library/exact", 73, 100_000)
	byDigest.tag = byDigest.digest.String()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	for _, img := range []*image{byTag, byDigest} {
		must(t, httpPull(ctx, a.mirror(), img))
	}
	must(t, loginPull(a.mirror(), byPath(m.registry.pushImage(t, "team/app", 74, 100_000))))
	must(t, a.mustGet(t, files, "/etag/a?signature=secret"))
	short := func(h v1.Hash) string { return "sha256:" + h.Hex[:12] }
	size := `\|[0-9.]+ KiB\|`
	public := []string{
		"docker.io/library/exact@" + short(byDigest.digest) + `\|linux/amd64` + size + `3\|0\|digest`,
		`docker.io/library/hello:latest\|linux/amd64` + size + `4\|0\|pull`,
	}
	file, unnamed := regexp.QuoteMeta(files.url("/etag/a"))+`\|1.0 MiB\|1.0 MiB`, `file [0-9a-f]{12}\|1.0 MiB\|1.0 MiB`
	private := `guarded.test/team/app:latest\|linux/amd64` + size + `2\|0\|pull`
	preheat := `docker.io/library/multi:1\|linux/arm64` + size + `4\|0\|preheat`
	a.wantCache(t, "at first", public[0], public[1], preheat, private, file)
	b.wantCache(t, "at first", "docker.io/library/multi@"+short(top)+`\|linux/arm64`+size+`4\|0\|digest`)
	var open struct {
		Images []struct{ Image string }
		Rest   struct{ Blobs int } `json:"unnamed"`
	}
	must(t, getJSON("http://"+a.admin()+"/v1/cache", &open))
	if text := fmt.Sprint(open); strings.Contains(text, "team/app") || open.Rest.Blobs != 2 {
		t.Errorf("who has no token is told %s", text)
	}
	must(t, a.terminate(t, 20*time.Second))
	a.start(t)
	a.wantCache(t, "after a restart", `Of 2 more blobs .* cache ls --blobs lists all\.`, public[0], public[1], preheat, unnamed)
}
