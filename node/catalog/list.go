package catalog

import (
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
)

// MaxBlobs bounds the blobs of a Catalog.
const MaxBlobs = 100_000

// Bounds of one List.
const (
	maxDocument = 4 << 20   // bytes of a manifest
	maxConfig   = 1 << 20   // bytes of a configuration
	maxRead     = 512 << 20 // bytes of all that is read
	maxParts    = 1 << 19   // digests remembered of all manifests
	maxDepth    = 4         // indexes within indexes

	maxTime = 5 * time.Second // of reading: who asks waits
)

// Names are what a catalog is made of besides the store.
type Names struct {
	Roots []Root
	// Spare are roots for what no other leads to.
	Spare []Root
	// Repositories says of which REGISTRY/REPOSITORY a manifest was asked for by its digest.
	Repositories map[digest.Digest]string
	// Files says what the files in the store are, by their names there.
	Files map[digest.Digest]string
	// Blobs: list them one by one as well.
	Blobs bool
}

// List makes a catalog. It fails only when ctx ends.
func List(ctx context.Context, st Store, names Names) (*Catalog, error) {
	l := newLister(ctx, st)
	for _, r := range names.Roots {
		l.image(r)
	}
	l.orphans(names.Spare, names.Repositories)
	l.files(names.Files)
	l.sumUp(names.Blobs)
	return &l.out, ctx.Err()
}

// lister is a List under way.
type lister struct {
	ctx    context.Context // of the call
	st     Store
	infos  []store.Info
	at     map[digest.Digest]int32 // into infos
	marks  []mark                  // by the index in infos
	scoped bool                    // there are private blobs
	known  map[digest.Digest]*manifest
	led    map[digest.Digest]bool // manifests that a root led to
	named  map[string]bool        // images so far
	read   int64                  // bytes
	until  time.Time              // read
	parts  int
	out    Catalog
}

// mark is what was found out about a blob.
type mark struct {
	kind   string
	of     string
	images int
	row    int // the last image that it was counted for, from 1
}

func newLister(ctx context.Context, st Store) *lister {
	infos := st.List()
	l := &lister{
		ctx: ctx, st: st, infos: infos, at: make(map[digest.Digest]int32, len(infos)), marks: make([]mark, len(infos)),
		known: make(map[digest.Digest]*manifest), led: make(map[digest.Digest]bool), named: make(map[string]bool),
		until: time.Now().Add(maxTime),
	}
	for i, info := range infos {
		l.at[info.Digest] = int32(i)
		if _, scoped := store.Content(info.Digest); scoped {
			l.scoped = true
		}
	}
	l.out = Catalog{Images: []Image{}, Files: []File{}, Blobs: []Blob{}}
	return l
}

// isManifest reports whether a blob has a manifest's media type: no other blob has any.
func isManifest(i store.Info) bool { return i.MediaType != "" && i.Complete && i.Size <= maxDocument }

// manifest returns the manifest of a digest, nil if there is none to be had.
func (l *lister) manifest(r *Root, d digest.Digest) *manifest {
	if m, ok := l.known[d]; ok {
		return m
	}
	data, brought := r.Documents[d]
	if i, ok := l.at[d]; !brought && ok && isManifest(l.infos[i]) {
		data = l.data(d, maxDocument)
	}
	if data == nil || l.parts > maxParts {
		l.out.Partial = l.out.Partial || data != nil
		return nil
	}
	m := parseManifest(data)
	if m != nil {
		l.parts += m.parts()
	}
	l.known[d] = m
	return m
}

// data reads a blob, within the bounds of the List.
func (l *lister) data(name digest.Digest, most int64) []byte {
	if l.read > maxRead || time.Now().After(l.until) {
		l.out.Partial = true
		return nil
	}
	if l.ctx.Err() != nil {
		return nil
	}
	data, err := l.st.Data(name, most)
	if err != nil {
		return nil
	}
	l.read += int64(len(data))
	return data
}

// orphans lists what no root led to: the spare ones, and the manifests in the store. What one of these indexes names is its part.
func (l *lister) orphans(spare []Root, repositories map[digest.Digest]string) {
	for i, info := range l.infos {
		if l.marks[i].images > 0 || !isManifest(info) {
			continue
		}
		r := Root{Name: info.Digest.String(), Source: "digest", Digest: info.Digest}
		if in := repositories[info.Digest]; in != "" {
			r.Name = in + "@" + r.Name
		}
		spare = append(spare, r)
	}
	inIndex := make(map[digest.Digest]bool)
	for i := range spare {
		if m := l.manifest(&spare[i], spare[i].Digest); m != nil {
			for _, c := range m.children {
				inIndex[c.digest] = true
			}
		}
	}
	for _, r := range spare {
		if !inIndex[r.Digest] && !l.led[r.Digest] && l.known[r.Digest] != nil {
			l.image(r)
		}
	}
}

// files lists the plain files. Those that go by their digest are known only if urls has them.
func (l *lister) files(urls map[digest.Digest]string) {
	for i, info := range l.infos {
		content, _ := store.Content(info.Digest)
		url, ok := urls[info.Digest]
		if !store.IsFile(content) && (!ok || l.marks[i].images > 0) {
			continue
		}
		l.marks[i].kind, l.marks[i].of = KindFile, url
		l.out.Files = append(l.out.Files, File{Name: info.Digest, URL: url, Size: info.Size, Bytes: info.Have})
	}
}

// sumUp counts what has no name, and lists the blobs if they are wanted.
func (l *lister) sumUp(blobs bool) {
	if blobs {
		l.out.LeftOut = max(len(l.infos)-MaxBlobs, 0)
		l.out.Blobs = make([]Blob, 0, len(l.infos)-l.out.LeftOut)
	}
	for i, info := range l.infos {
		m := l.marks[i]
		if m.images == 0 && m.kind == "" {
			l.out.Unnamed.Blobs++
			l.out.Unnamed.Bytes += info.Have
		}
		if !blobs || i >= MaxBlobs {
			continue
		}
		content, scoped := store.Content(info.Digest)
		l.out.Blobs = append(l.out.Blobs, Blob{
			Digest: content, Name: info.Digest, Private: scoped, Size: info.Size, Bytes: info.Have, Complete: info.Complete,
			MediaType: info.MediaType, Pinned: info.Pinned, Kind: m.kind, Of: m.of, Images: m.images,
		})
	}
}

// image lists what a root leads to, unless nothing of it is here or the name is there already, for the same.
func (l *lister) image(r Root) {
	w := walk{l: l, root: r, row: Image{
		Image: r.Name, Digest: r.Digest.String(), Source: r.Source, Until: r.Until, Private: r.Registry != "", Platforms: []string{},
	}}
	if l.named[r.Name] {
		if i, ok := l.at[r.Digest]; !ok || l.marks[i].images > 0 {
			return
		}
		w.row.Image += "@" + r.Digest.String() // what the name stood for at another time
	}
	w.run()
	if !w.here {
		return
	}
	l.named[r.Name] = true
	slices.Sort(w.row.Platforms)
	l.out.Images = append(l.out.Images, w.row)
}
