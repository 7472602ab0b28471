package mirror

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Known is a name that a manifest goes by here.
type Known struct {
	Tag
	// Private: nobody was told without credentials. Document is the manifest then, if it is in memory; it is not to be changed.
	Private  bool
	Document []byte
}

// Known returns what tags named, and the repositories of manifests that were asked
// for by digest, the last asked for first. Who has no credentials may not know of
// those that are Private. At most Config.MaxTags of each.
func (m *Mirror) Known() []Known {
	documents := make(map[digest.Digest][]byte)
	for _, doc := range m.manifests.private.values() {
		documents[doc.digest] = doc.data
	}
	var out []Known
	for _, t := range append(m.manifests.tags.values(), m.manifests.named.values()...) {
		k := Known{Tag: t, Private: t.publicAt.IsZero()}
		if k.Private {
			k.Document = documents[t.Digest]
		}
		out = append(out, k)
	}
	return out
}

// Name notes on somebody's word that a repository has a manifest and that anybody may
// know it, unless the mirror has a name for it.
func (m *Mirror) Name(ref Ref, d digest.Digest) {
	if _, ok := m.manifests.named.get(d); !ok {
		m.manifests.name(caller{ref: ref}, d)
	}
}

// name notes of which repository a manifest was given out by its digest.
func (m *manifests) name(c caller, d digest.Digest) {
	now := time.Now()
	m.named.update(d, func(old Tag, ok bool) Tag {
		t := Tag{Ref: c.ref, Digest: d, At: now}
		switch {
		case c.auth == "":
			t.publicAt = now
		case ok && !old.publicAt.IsZero():
			return old // a name that everybody may have is the better one
		}
		return t
	})
}

// unname forgets the name of a manifest that its repository refuses to anonymity by now.
func (m *manifests) unname(c caller, d digest.Digest) {
	if t, ok := m.named.get(d); ok && c.auth == "" && t.Ref == c.ref {
		m.named.drop(d)
	}
}
