package mirror

import (
	"context"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Tag is what a tag named when the origin was asked last, or a manifest that was asked for by its digest.
type Tag struct {
	Ref
	Name   string // "": by its digest
	Digest digest.Digest
	At     time.Time // when the question was put

	accept   hash      // of the client that asked; zero after Restore
	publicAt time.Time // At of the last time that anybody was told; zero if that was never
}

// Tags returns what tags named, and of which repositories manifests were asked for
// by their digests, as far as anybody was told, in no order: what is worth keeping
// for a start while origins are away. At most Config.MaxTags of each.
func (m *Mirror) Tags() []Tag {
	var out []Tag
	for _, t := range append(m.manifests.tags.values(), m.manifests.named.values()...) {
		if !t.publicAt.IsZero() {
			out = append(out, Tag{Ref: t.Ref, Name: t.Name, Digest: t.Digest, At: t.publicAt})
		}
	}
	return out
}

// Restore takes in what Tags returned in an earlier life. It serves while an
// origin cannot answer, for Config.StaleTTL from the question on, and never
// instead of a question. What cannot be is left out.
func (m *Mirror) Restore(tags []Tag) {
	now := time.Now()
	for _, t := range tags {
		if now.Before(t.At) || t.Name != "" && !validTag(t.Name) || !validRepository(t.Repository) {
			continue
		}
		if _, err := parseDigest(t.Digest.String()); err != nil {
			continue
		}
		if t.Name == "" {
			m.Name(t.Ref, t.Digest)
			continue
		}
		t.At = earlier(t.At, now.Add(-max(m.cfg.GrantTTL, m.cfg.TagTTL))) // fresh it is not
		t.accept, t.publicAt = hash{}, t.At
		m.manifests.tags.put(m.manifests.tagKey(t.Ref, t.Name), t)
		m.gate.give(caller{ref: t.Ref}, t.Digest, grant{at: t.At, size: -1})
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// byTag answers for a tag: by asking the origin, unless it said within tagTTL what
// the tag names. While it cannot answer, its last answer serves those who may
// have had it.
func (m *manifests) byTag(ctx context.Context, q question) (document, error) {
	last, doc, ok := m.last(q)
	if ok && time.Since(last.At) < m.tagTTL && m.same(q, last, doc) {
		if yes, fresh := m.gate.fresh(q.caller, doc.digest); fresh {
			m.stats.tagHits.Add(1)
			m.gate.giveParts(q.caller, yes.at, partsOf(doc.data))
			return doc, nil
		}
	}
	yes, usable := m.gate.old(q.caller, doc.digest)
	usable = usable && ok && acceptable(q.accept, doc.mediaType)
	doc.stale, doc.age = true, time.Since(last.At)
	doc, stale, err := orOld(ctx, m.gate, q.caller, doc, usable, func(ctx context.Context) (document, error) {
		return m.ask(ctx, q)
	})
	if stale {
		m.stats.staleTags.Add(1)
		m.gate.giveParts(q.caller.under(yes), yes.at, partsOf(doc.data))
		log.Infow("origin cannot answer, the tag's last manifest serves", "ref", q.ref.String()+":"+q.reference, "blob", doc.digest,
			"origin", q.ref.Registry, "dur", doc.age.Round(time.Second))
	}
	return doc, err
}

// note remembers what a tag names.
func (m *manifests) note(q question, doc document, at time.Time) {
	if q.epoch != m.epoch.Load() {
		return // it may have been pushed meanwhile
	}
	m.tags.update(m.tagKey(q.ref, q.reference), func(old Tag, ok bool) Tag {
		t := Tag{Ref: q.ref, Name: q.reference, Digest: doc.digest, At: at, accept: m.hasher.sum(q.accept)}
		switch {
		case q.auth == "":
			t.publicAt = at
		case ok && old.Digest == doc.digest:
			t.publicAt = old.publicAt
		}
		return t
	})
}

// noteRefusal forgets a tag that is gone, and that anybody may have what is
// refused to anonymity.
func (m *manifests) noteRefusal(q question, err error) {
	switch status := originStatus(err); {
	case status == http.StatusNotFound || status == http.StatusGone:
		m.forgetTag(q.ref, q.reference)
	case q.auth == "" && refused(err):
		if t, ok := m.tags.get(m.tagKey(q.ref, q.reference)); ok {
			t.publicAt = time.Time{}
			m.tags.put(m.tagKey(q.ref, q.reference), t)
			m.unname(q.caller, t.Digest)
		}
	}
}

// forgetTag makes the next pull ask.
func (m *manifests) forgetTag(ref Ref, tag string) { m.tags.drop(m.tagKey(ref, tag)) }

// last returns what a tag named last, if that manifest is here.
func (m *manifests) last(q question) (Tag, document, bool) {
	t, ok := m.tags.get(m.tagKey(q.ref, q.reference))
	if !ok || q.digest != "" {
		return Tag{}, document{}, false
	}
	doc, ok := m.local(q.caller, t.Digest)
	return t, doc, ok
}

// lastOf is last for those whom only the manifest concerns.
func (m *manifests) lastOf(q question) (document, bool) {
	_, doc, ok := m.last(q)
	return doc, ok
}

// same reports whether the origin would give a question the answer that it gave
// another one: it chooses by Accept, and nobody who takes an index gets less.
func (m *manifests) same(q question, t Tag, doc document) bool {
	index := doc.mediaType == v1.MediaTypeImageIndex || doc.mediaType == typeDockerList
	return t.accept == m.hasher.sum(q.accept) || index && acceptable(q.accept, doc.mediaType)
}

func (m *manifests) tagKey(ref Ref, tag string) hash {
	return m.hasher.sum("tag", ref.Registry, ref.Repository, tag)
}

// acceptable reports whether a client that sends this Accept takes a media type.
func acceptable(accept, mediaType string) bool {
	if t, _, err := mime.ParseMediaType(mediaType); err == nil {
		mediaType = t
	}
	for part := range strings.SplitSeq(accept, ",") {
		part, _, _ = strings.Cut(part, ";")
		switch part = strings.TrimSpace(part); part {
		case "*/*", "application/*":
			return true
		default:
			if strings.EqualFold(part, mediaType) {
				return true
			}
		}
	}
	return false
}

// staleHeader tells that an answer is the origin's of age ago (RFC 9111 section
// 5.1, RFC 7234 section 5.5.1).
func staleHeader(h http.Header, age time.Duration) {
	h.Set("Age", strconv.FormatInt(int64(age/time.Second), 10))
	h.Set("Warning", `110 meshd "the registry does not answer; this is what the tag named `+age.Round(time.Second).String()+` ago"`)
}
