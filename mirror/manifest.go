package mirror

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
)

// manifests answers for manifests: from disk where the gate allows, else from the
// origin. It is safe for concurrent use.
type manifests struct {
	hasher hasher
	max    int64 // bytes
	docs   Documents
	origin Origin
	gate   *gate
	tags   *lru[hash, Tag] // last answer per repository and tag
	tagTTL time.Duration
	// named are manifests that were given out by digest: nothing but names for people.
	named *lru[digest.Digest, Tag]
	// private holds what was fetched with credentials, by caller. It never goes to
	// disk: there any registry's yes for the digest would serve it.
	private *lru[hash, document]
	asks    *flights[document]
	// epoch counts pushes: what was asked before one does not answer after it.
	epoch atomic.Uint64
	stats *counters
}

// question is what one client wants to know about one manifest.
type question struct {
	caller
	reference string // tag or digest as in the path
	digest    digest.Digest
	accept    string
	head      bool
	epoch     uint64
}

func (q question) method() string {
	if q.head {
		return http.MethodHead
	}
	return http.MethodGet
}

// find answers a question. The document has data unless it was a HEAD.
func (m *manifests) find(ctx context.Context, q question) (document, error) {
	if q.digest == "" {
		return m.byTag(ctx, q)
	}
	doc, err := m.byDigest(ctx, q)
	if err == nil {
		m.name(q.caller, q.digest)
	}
	return doc, err
}

// byDigest answers for a digest: from here, if the origin says that this caller may
// have it.
func (m *manifests) byDigest(ctx context.Context, q question) (document, error) {
	doc, ok := m.local(q.caller, q.digest)
	if !ok {
		return m.ask(ctx, q)
	}
	yes, err := m.gate.allow(ctx, endpointManifest, q.caller, q.digest, func(ctx context.Context) (grant, error) {
		return m.askLeave(ctx, q)
	})
	if err != nil {
		return document{}, err
	}
	m.gate.giveParts(q.caller.under(yes), yes.at, partsOf(doc.data))
	return doc, nil
}

// maxPrivate bounds a private manifest that is remembered, in bytes, maxPrivates
// their number.
const maxPrivate, maxPrivates = 128 << 10, 128

// keep remembers a document: on disk if anybody may have it, else in memory for
// whoever has the same credentials.
func (m *manifests) keep(q question, doc document) {
	switch {
	case isSchema1(doc.mediaType):
	case q.auth == "":
		if err := m.docs.Put(doc.digest, doc.mediaType, doc.data); err != nil {
			log.Warnw("manifest not kept", "blob", doc.digest, "err", err)
		}
	case len(doc.data) <= maxPrivate:
		m.private.put(m.gate.key(q.caller, doc.digest), doc)
	}
}

// local returns a document that was kept, verified.
func (m *manifests) local(c caller, d digest.Digest) (document, bool) {
	if c.auth != "" {
		if doc, ok := m.private.get(m.gate.key(c, d)); ok {
			return doc, true
		}
	}
	mediaType, data, ok := m.docs.Get(d)
	if !ok {
		return document{}, false
	}
	if !matches(d, data) {
		log.Warnw("manifest on disk is damaged, asking the origin", "blob", d)
		return document{}, false
	}
	return document{digest: d, mediaType: mediaType, size: int64(len(data)), data: data}, true
}

// askLeave asks the origin whether the caller may have a manifest that we hold.
func (m *manifests) askLeave(ctx context.Context, q question) (grant, error) {
	q.head = true
	at := time.Now()
	doc, err := m.fromOrigin(ctx, q)
	if err != nil {
		return grant{}, err
	}
	return grant{at: at, size: doc.size, proven: true}, nil
}

// ask puts the question to the origin, together with whoever asks the same.
func (m *manifests) ask(ctx context.Context, q question) (document, error) {
	q.epoch = m.epoch.Load()
	key := m.hasher.sum(strconv.FormatUint(q.epoch, 10), q.method(), q.auth, q.ref.Registry, q.ref.Repository, q.reference, q.accept)
	return inquire(ctx, m.gate, m.asks, q.caller, key, m.gate.everything(q.caller), func(ctx context.Context) (document, error) {
		return m.fromOrigin(ctx, q)
	})
}

// fromOrigin asks the origin and keeps what it says: the document, the digest of
// the tag, and the grants.
func (m *manifests) fromOrigin(ctx context.Context, q question) (document, error) {
	at := time.Now()
	doc, err := m.fetch(ctx, q)
	if err != nil {
		switch {
		case q.digest == "":
			m.noteRefusal(q, err)
		case refused(err):
			m.gate.grants.drop(m.gate.key(q.caller, q.digest))
			m.unname(q.caller, q.digest)
		}
		return document{}, err
	}
	if isSchema1(doc.mediaType) {
		return doc, nil
	}
	if q.digest == "" {
		m.note(q, doc, at)
	}
	m.gate.give(q.caller, doc.digest, grant{at: at, size: doc.size, proven: true})
	if doc.data != nil {
		m.gate.giveParts(q.caller, at, partsOf(doc.data))
	}
	return doc, nil
}

// fetch is one answer of the origin, by HEAD with a fallback to GET for origins
// that do not know it.
func (m *manifests) fetch(ctx context.Context, q question) (document, error) {
	if !q.head {
		return m.get(ctx, q)
	}
	resp, err := m.send(ctx, q, "")
	switch originStatus(err) {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		q.head = false
		return m.get(ctx, q)
	}
	if err != nil {
		return document{}, err
	}
	doc, ok, err := headDocument(resp, q.digest)
	if err != nil || ok {
		return doc, err
	}
	q.head = false
	return m.get(ctx, q)
}

// get fetches a manifest and keeps it. A tag whose last manifest is here is asked
// for by HEAD first: registries that count pulls do not count that.
func (m *manifests) get(ctx context.Context, q question) (document, error) {
	known, ok := m.lastOf(q)
	if ok {
		switch same, err := m.unmoved(ctx, q, known.digest); {
		case err != nil:
			return document{}, err
		case same:
			return known, nil
		}
	}
	resp, err := m.send(ctx, q, known.digest)
	if err != nil {
		return document{}, err
	}
	if resp.StatusCode == http.StatusNotModified {
		resp.Body.Close()
		if !ok {
			return document{}, fmt.Errorf("get manifest %s of %s: 304 to a request without condition: %w", q.reference, q.ref, ErrCorrupt)
		}
		return known, nil
	}
	doc, err := readDocument(resp, q.digest, m.max)
	if err != nil {
		log.Warnw("manifest refused", "ref", q.ref.String(), "blob", q.reference, "origin", q.ref.Registry, "err", err)
		return document{}, err
	}
	m.keep(q, doc)
	return doc, nil
}

// unmoved asks whether a tag still names d. An origin that does not know HEAD, or
// answers it without a digest, gives no yes.
func (m *manifests) unmoved(ctx context.Context, q question, d digest.Digest) (bool, error) {
	q.head = true
	resp, err := m.send(ctx, q, d)
	switch originStatus(err) {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return false, nil
	}
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusNotModified || resp.Header.Get("Docker-Content-Digest") == d.String(), nil
}

func (m *manifests) send(ctx context.Context, q question, unless digest.Digest) (*http.Response, error) {
	h := http.Header{"Accept": {q.accept}}
	if unless != "" {
		h.Set("If-None-Match", etag(unless))
	}
	m.stats.originAsks.Add(1)
	resp, err := m.origin.Do(ctx, OriginRequest{
		Ref: q.ref, Method: q.method(), Path: "manifests/" + q.reference, Header: h, Authorization: q.auth,
	})
	if err != nil {
		return nil, fmt.Errorf("%s manifest %s of %s: %w", strings.ToLower(q.method()), q.reference, q.ref, err)
	}
	return resp, nil
}

// serveManifest answers GET and HEAD of a manifest.
func (m *Mirror) serveManifest(w http.ResponseWriter, r *http.Request, rq request) error {
	q := question{caller: rq.caller, digest: rq.digest, accept: acceptOf(r.Header), head: r.Method == http.MethodHead}
	q.reference = rq.tag
	if q.digest != "" {
		q.reference = q.digest.String()
	}
	ctx, cancel := context.WithTimeout(r.Context(), m.cfg.ManifestTimeout)
	defer cancel()
	doc, err := m.manifests.find(ctx, q)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Docker-Content-Digest", doc.digest.String())
	h.Set("ETag", etag(doc.digest))
	if doc.stale {
		staleHeader(h, doc.age)
	}
	if notModified(r.Header, doc.digest) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", doc.mediaType)
	h.Set("Content-Length", strconv.FormatInt(doc.size, 10))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		m.stats.manifestPulls.Add(1)
		return m.writeAll(w, r, doc.data)
	}
	return nil
}

// acceptOf joins a client's Accept headers.
func acceptOf(h http.Header) string {
	if accept := strings.Join(h.Values("Accept"), ", "); accept != "" {
		return accept
	}
	return acceptAll
}
