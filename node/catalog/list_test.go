package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/meshd-project/meshd/exchange/store"
)

const registry = "r.example"

// disk is a store with images in it.
type disk struct {
	*store.Store
	t testing.TB
}

func newDisk(t testing.TB) disk {
	t.Helper()
	s, err := store.Open(store.Config{Dir: t.TempDir(), MinFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return disk{s, t}
}

func (d disk) put(name digest.Digest, mediaType string, data []byte) v1.Descriptor {
	d.t.Helper()
	if err := d.Put(name, mediaType, data); err != nil {
		d.t.Fatal(err)
	}
	return descriptor(mediaType, data)
}

func (d disk) blob(text string) v1.Descriptor {
	d.t.Helper()
	return d.put(digest.FromString(text), "", []byte(text))
}

func (d disk) document(mediaType string, v any) v1.Descriptor {
	d.t.Helper()
	data := marshal(d.t, v)
	return d.put(digest.FromBytes(data), mediaType, data)
}

func (d disk) image(config v1.Descriptor, layers ...v1.Descriptor) v1.Descriptor {
	d.t.Helper()
	return d.document(v1.MediaTypeImageManifest, imageOf(config, layers...))
}

func (d disk) index(entries ...v1.Descriptor) v1.Descriptor {
	d.t.Helper()
	return d.document(v1.MediaTypeImageIndex, v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: entries})
}

func imageOf(config v1.Descriptor, layers ...v1.Descriptor) v1.Manifest {
	return v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, Config: config, Layers: layers}
}

func descriptor(mediaType string, data []byte) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func absent(text string) v1.Descriptor { return descriptor("", []byte(text)) }

func on(d v1.Descriptor, os, arch, variant string) v1.Descriptor {
	d.Platform = &v1.Platform{OS: os, Architecture: arch, Variant: variant}
	return d
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (d disk) list(names Names) *Catalog {
	d.t.Helper()
	c, err := List(d.t.Context(), d, names)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// rows are the images of a catalog as the tests write them: NAME [PLATFORMS] HERE/BLOBS SOURCE.
func (c *Catalog) rows() []string {
	out := []string{}
	for _, i := range c.Images {
		out = append(out, fmt.Sprintf("%s %v %d/%d %s", i.Image, i.Platforms, i.Blobs-i.Missing, i.Blobs, i.Source))
	}
	return out
}

func (c *Catalog) blob(t testing.TB, name digest.Digest) Blob {
	t.Helper()
	i := slices.IndexFunc(c.Blobs, func(b Blob) bool { return b.Name == name })
	if i < 0 {
		t.Fatalf("%s is not listed", name)
	}
	return c.Blobs[i]
}

func wantRows(t testing.TB, c *Catalog, want ...string) {
	t.Helper()
	if got := c.rows(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A tag names an index, of which one platform is here; another tag, that was never an index's, tells its platform by its
// configuration. They share a layer.
func TestTags(t *testing.T) {
	d := newDisk(t)
	base := d.blob("base")
	amd := d.image(d.blob("config"), base, d.blob("layer"), absent("gone"))
	attestation := d.image(d.blob("attestation config"), d.blob("statement"))
	index := d.index(on(amd, "linux", "amd64", ""), on(absent("arm"), "linux", "arm64", "v8"), on(attestation, "unknown", "unknown", ""))
	single := d.image(d.blob(`{"os":"linux","architecture":"arm64","variant":"v8"}`), base)
	c := d.list(Names{Blobs: true, Roots: []Root{
		{Name: "r.example/app:1", Source: "pull", Digest: index.Digest},
		{Name: "r.example/arm:1", Source: "pull", Digest: single.Digest},
		{Name: "r.example/evicted:1", Source: "pull", Digest: absent("manifest").Digest},
	}})
	wantRows(t, c, "r.example/app:1 [linux/amd64] 8/9 pull", "r.example/arm:1 [linux/arm64] 3/3 pull")
	if c.Unnamed != (Rest{}) || c.Partial || c.LeftOut != 0 {
		t.Errorf("%+v", c)
	}
	for blob, want := range map[digest.Digest]Blob{
		base.Digest:   {Kind: KindLayer, Of: "r.example/app:1", Images: 2},
		index.Digest:  {Kind: KindIndex, Of: "r.example/app:1", Images: 1},
		amd.Digest:    {Kind: KindManifest, Of: "r.example/app:1", Images: 1},
		single.Digest: {Kind: KindManifest, Of: "r.example/arm:1", Images: 1},
		absent(`{"os":"linux","architecture":"arm64","variant":"v8"}`).Digest: {Kind: KindConfig, Of: "r.example/arm:1", Images: 1},
	} {
		if b := c.blob(t, blob); b.Kind != want.Kind || b.Of != want.Of || b.Images != want.Images {
			t.Errorf("%+v, want %+v", b, want)
		}
	}
	if quick := d.list(Names{}); len(quick.Blobs) != 0 || quick.Blobs == nil {
		t.Errorf("blobs that were not asked for: %v", quick.Blobs)
	}
}

// What nobody named is listed by its digest, once: an index, not the manifests in it; with its repository if that is known.
func TestByDigest(t *testing.T) {
	d := newDisk(t)
	amd := d.image(d.blob("c1"), d.blob("l1"))
	index := d.index(on(amd, "linux", "amd64", ""), on(absent("arm"), "linux", "arm64", ""))
	lone := d.image(d.blob("c2"), d.blob("l2"), absent("l3"))
	d.put(digest.FromString("[]"), v1.MediaTypeImageManifest, []byte("[]"))
	d.blob("of nothing")
	c := d.list(Names{Repositories: map[digest.Digest]string{lone.Digest: "r.example/lone", amd.Digest: "r.example/amd"}})
	want := []string{
		fmt.Sprintf("r.example/lone@%s [] 3/4 digest", lone.Digest),
		fmt.Sprintf("%s [linux/amd64] 4/4 digest", index.Digest),
	}
	slices.SortFunc(want, func(a, b string) int { // the order of digests
		return strings.Compare(a[strings.Index(a, "sha256:"):], b[strings.Index(b, "sha256:"):])
	})
	wantRows(t, c, want...)
	if c.Unnamed != (Rest{Blobs: 2, Bytes: int64(len("[]") + len("of nothing"))}) {
		t.Errorf("%+v", c.Unnamed)
	}
}

// A name is there once for one thing, and once more for what it stood for before.
func TestOneNameTwice(t *testing.T) {
	d := newDisk(t)
	before := d.image(d.blob("c1"), d.blob("l1"))
	now := d.image(d.blob("c2"), d.blob("l2"))
	pinned := []digest.Digest{now.Digest, absent("c2").Digest, absent("l2").Digest}
	c := d.list(Names{Roots: []Root{
		{Name: "r.example/a:1", Source: "pin", Blobs: pinned, Only: true},
		{Name: "r.example/a:1", Source: "pull", Digest: now.Digest},
		{Name: "r.example/a:1", Source: "preheat", Digest: before.Digest},
	}})
	wantRows(t, c, "r.example/a:1 [] 3/3 pin", "r.example/a:1@"+before.Digest.String()+" [] 3/3 preheat")
}

// A pin counts what it pins, whatever else its index has here.
func TestPinOfOnePlatform(t *testing.T) {
	d := newDisk(t)
	amd, arm := d.image(d.blob("c1"), d.blob("l1")), d.image(d.blob("c2"), d.blob("l2"))
	index := d.index(on(amd, "linux", "amd64", ""), on(arm, "linux", "arm64", ""))
	c := d.list(Names{Roots: []Root{{
		Name: "r.example/a:1", Source: "pin", Only: true,
		Blobs: []digest.Digest{index.Digest, amd.Digest, absent("c1").Digest, absent("l1").Digest, absent("not yet").Digest},
	}}})
	wantRows(t, c, "r.example/a:1 [linux/amd64] 4/5 pin", arm.Digest.String()+" [] 3/3 digest")
}

// The layers of a private image lie under names of their own, and its manifests are in memory or nowhere.
func TestPrivate(t *testing.T) {
	d := newDisk(t)
	config := `{"os":"linux","architecture":"amd64"}`
	for _, text := range []string{config, "l1"} {
		name, err := store.Scoped(registry, digest.FromString(text))
		if err != nil {
			t.Fatal(err)
		}
		d.put(name, "", []byte(text))
	}
	manifest := marshal(t, imageOf(absent(config), absent("l1"), d.blob("public")))
	index := marshal(t, v1.Index{Manifests: []v1.Descriptor{descriptor("", manifest), absent("other")}})
	documents := map[digest.Digest][]byte{digest.FromBytes(manifest): manifest, digest.FromBytes(index): index}
	tag := Root{Name: "r.example/p:1", Source: "pull", Digest: digest.FromBytes(index), Registry: registry, Documents: documents}
	spare := Root{Name: "r.example/p@1", Source: "digest", Digest: digest.FromBytes(manifest), Registry: registry, Documents: documents}
	c := d.list(Names{Roots: []Root{tag}, Spare: []Root{spare}})
	wantRows(t, c, "r.example/p:1 [linux/amd64] 3/3 pull")
	if !c.Images[0].Private {
		t.Error("it is not shown as private")
	}
	both := spare
	both.Digest = digest.FromBytes(index)
	wantRows(t, d.list(Names{Spare: []Root{spare, both}}), "r.example/p@1 [linux/amd64] 3/3 digest")
	tag.Registry = "other.example"
	wantRows(t, d.list(Names{Roots: []Root{tag}}), "r.example/p:1 [] 1/3 pull")
	if c := d.list(Names{}); c.Unnamed.Blobs != 3 {
		t.Errorf("%+v", c.Unnamed)
	}
}

// Files are listed apart, by URL if that may be told; one that goes by its digest is known by its URL only.
func TestFiles(t *testing.T) {
	d := newDisk(t)
	name := store.File([]byte("a"))
	p, err := d.Begin(name, 1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	byDigest := d.blob("whole")
	c := d.list(Names{Blobs: true, Files: map[digest.Digest]string{byDigest.Digest: "https://f.example/b"}})
	want := []File{{Name: byDigest.Digest, URL: "https://f.example/b", Size: 5, Bytes: 5}, {Name: name, Size: 1}}
	slices.SortFunc(want, func(a, b File) int { return strings.Compare(a.Name.String(), b.Name.String()) })
	if !slices.Equal(c.Files, want) || c.Unnamed.Blobs != 0 {
		t.Errorf("%+v", c)
	}
	if b := c.blob(t, name); b.Kind != KindFile {
		t.Errorf("%+v", b)
	}
}

// What cannot be read has no name, and a list says when it stopped reading.
func TestBounds(t *testing.T) {
	d := newDisk(t)
	d.image(d.blob("c"), d.blob("l"))
	for name, exhaust := range map[string]func(*lister){
		"bytes":   func(l *lister) { l.read = maxRead + 1 },
		"digests": func(l *lister) { l.parts = maxParts + 1 },
		"time":    func(l *lister) { l.until = time.Unix(0, 0) },
	} {
		l := newLister(t.Context(), d)
		exhaust(l)
		l.orphans(nil, nil)
		if !l.out.Partial || len(l.out.Images) != 0 {
			t.Errorf("%s: %+v", name, l.out)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := List(ctx, d, Names{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
