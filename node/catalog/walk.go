package catalog

import (
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/meshd-project/meshd/exchange/store"
)

// walk counts what is of one root.
type walk struct {
	l       *lister
	root    Root
	row     Image
	only    map[digest.Digest]bool // nil: all that manifests name
	absent  map[digest.Digest]bool // counted, and not in the store at all
	entered map[digest.Digest]bool // manifests
	here    bool                   // something of it is, if only in part
}

func (w *walk) run() {
	w.absent, w.entered = make(map[digest.Digest]bool), make(map[digest.Digest]bool)
	if w.root.Only {
		w.only = make(map[digest.Digest]bool, len(w.root.Blobs))
		for _, d := range w.root.Blobs {
			w.only[d] = true
		}
	}
	if w.root.Digest != "" {
		w.enter(w.root.Digest, "", 0)
	}
	for _, d := range w.root.Blobs {
		if i, ok := w.l.at[d]; ok && isManifest(w.l.infos[i]) {
			w.enter(d, "", 0)
			continue
		}
		w.count(d, "")
	}
}

// enter counts a manifest that is here, and what it names. platform is what the index says that named it.
func (w *walk) enter(d digest.Digest, platform string, depth int) {
	if depth > maxDepth || w.entered[d] || w.only != nil && !w.only[d] {
		return
	}
	w.entered[d], w.l.led[d] = true, true
	m := w.l.manifest(&w.root, d)
	switch {
	case m == nil:
		w.document(d, "")
		return
	case len(m.children) > 0:
		w.document(d, KindIndex)
	default:
		w.document(d, KindManifest)
	}
	for _, c := range m.children {
		if w.isHere(c.digest) {
			w.enter(c.digest, c.platform, depth+1)
		}
	}
	if m.config != "" {
		name := w.count(m.config, KindConfig)
		w.platform(platform, name)
	}
	for _, layer := range m.layers {
		w.count(layer, KindLayer)
	}
}

// document counts a manifest. Private ones are never on disk, and do not count as missing.
func (w *walk) document(d digest.Digest, kind string) {
	if _, ok := w.l.at[d]; ok || w.root.Registry == "" {
		w.count(d, kind)
	}
}

// isHere reports whether a manifest can be read.
func (w *walk) isHere(d digest.Digest) bool {
	i, ok := w.l.at[d]
	return ok && w.l.infos[i].Complete || w.root.Documents[d] != nil
}

// platform notes for which one an image is: what the index says, or else the configuration.
func (w *walk) platform(told string, config digest.Digest) {
	if i, ok := w.l.at[config]; told == "" && ok && w.l.infos[i].Complete {
		told = parsePlatform(w.l.data(config, maxConfig))
	}
	if told != "" && !slices.Contains(w.row.Platforms, told) {
		w.row.Platforms = append(w.row.Platforms, told)
	}
}

// count counts a blob once, and returns the name that the store has for it.
func (w *walk) count(d digest.Digest, kind string) digest.Digest {
	name := w.nameOf(d)
	if w.only != nil && !w.only[name] {
		return name
	}
	i, ok := w.l.at[name]
	if !ok {
		if !w.absent[name] {
			w.absent[name] = true
			w.row.Blobs++
			w.row.Missing++
		}
		return name
	}
	mark := &w.l.marks[i]
	if kind != "" {
		mark.kind = kind
	}
	row := len(w.l.out.Images) + 1
	if mark.row == row {
		return name
	}
	mark.row, w.here = row, true
	if mark.images++; mark.of == "" {
		mark.of = w.row.Image
	}
	w.row.Blobs++
	if info := w.l.infos[i]; info.Complete {
		w.row.Bytes += info.Size
	} else {
		w.row.Missing++
	}
	return name
}

// nameOf is the name that the store has for a part of the image: its private one if that is what is here.
func (w *walk) nameOf(d digest.Digest) digest.Digest {
	if _, ok := w.l.at[d]; ok || w.root.Registry == "" || !w.l.scoped {
		return d
	}
	name, err := store.Scoped(w.root.Registry, d)
	if _, ok := w.l.at[name]; err != nil || !ok {
		return d
	}
	return name
}
