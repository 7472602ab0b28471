package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// uploadMark begins the name of an upload that the registry keeps outside of
// blobs/uploads/; what follows is its path, sealed for uploadTTL.
const (
	uploadMark = "meshd-upload."
	uploadTTL  = time.Hour
)

// methods are what a route is served by.
func methods(rt route) []string {
	switch {
	case rt.endpoint == endpointUpload && rt.upload == "":
		return []string{http.MethodPost}
	case rt.endpoint == endpointUpload:
		return []string{http.MethodGet, http.MethodHead, http.MethodPatch, http.MethodPut, http.MethodDelete}
	case rt.endpoint == endpointManifest:
		return []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete}
	case rt.endpoint == endpointBlob:
		return []string{http.MethodGet, http.MethodHead, http.MethodDelete}
	}
	return []string{http.MethodGet, http.MethodHead}
}

// rights are what a token for this request has to allow.
func (rq request) rights() string {
	if rq.push {
		return "pull,push"
	}
	return "pull"
}

// pushHeaders are passed on to the origin, pushAnswers back from it; Location is
// rewritten.
var (
	pushHeaders = []string{"Content-Type", "Content-Range", "Range", "Accept"}
	pushAnswers = []string{
		"Content-Type", "Content-Length", "Range", "Docker-Upload-Uuid", "Docker-Content-Digest", "Oci-Chunk-Min-Length", "Oci-Subject",
	}
)

// servePush passes a part of a push, or a deletion, on to the origin with the
// client's own credentials, and its answer back. Nothing of it is kept.
func (m *Mirror) servePush(w http.ResponseWriter, r *http.Request, rq request) error {
	m.stats.pushes.Add(1)
	body := m.newPushBody(w, r, rq)
	defer body.leave()
	if rq.passed && rq.auth != "" && !m.bonds.may(rq.caller) {
		log.Infow("login not used for a push: another registry has accepted it (name this one with --registry to allow both)",
			"ref", rq.ref.String(), "origin", rq.ref.Registry)
		rq.auth = ""
	}
	req, err := m.pushRequest(r, rq, body)
	if err != nil {
		return err
	}
	resp, err := m.origin.Push(r.Context(), req)
	if err != nil {
		if cause := body.cause(); cause != nil {
			err = cause
		}
		return fmt.Errorf("%s %s of %s: %w", strings.ToLower(r.Method), req.Path, rq.ref, err)
	}
	defer resp.Body.Close()
	if rq.passed && rq.auth != "" {
		m.bonds.accepted(rq.caller)
	}
	m.pushed(r, rq, resp)
	return m.answerPush(w, r, rq, resp)
}

// pushRequest is the request as the origin gets it.
func (m *Mirror) pushRequest(r *http.Request, rq request, body *pushBody) (OriginRequest, error) {
	req := OriginRequest{Ref: rq.ref, Method: r.Method, Header: http.Header{}, Authorization: rq.auth}
	for _, name := range pushHeaders {
		if v := r.Header.Values(name); len(v) > 0 {
			req.Header[http.CanonicalHeaderKey(name)] = v
		}
	}
	var err error
	if req.Body, err = body.forOrigin(r.Context(), rq.endpoint); err != nil {
		return req, err
	}
	switch {
	case rq.endpoint == endpointManifest && rq.digest != "":
		req.Path = "manifests/" + rq.digest.String()
	case rq.endpoint == endpointManifest:
		req.Path = "manifests/" + rq.tag
	case rq.endpoint == endpointBlob:
		req.Path = "blobs/" + rq.digest.String()
	case strings.HasPrefix(rq.upload, uploadMark):
		at, err := m.sealer.openFor(uploadMark, strings.TrimPrefix(rq.upload, uploadMark), time.Now())
		if err != nil || at.registry != rq.ref.String() {
			return req, errUpload
		}
		req.Path = at.auth
	default:
		req.Path = "blobs/uploads/" + rq.upload
	}
	req.RawQuery = listQuery(m.mountQuery(rq))
	return req, nil
}

// mountQuery names the repository that a blob is to be mounted from as the origin
// does. From another registry there is nothing to mount: then the blob is sent.
func (m *Mirror) mountQuery(rq request) url.Values {
	q := rq.query
	if !q.Has("from") {
		return q
	}
	out := url.Values{}
	for name, values := range q {
		out[name] = values
	}
	ref, err := resolve(q.Get("from"), q.Get("ns"), m.cfg.DefaultRegistry, m.origin.Hosts)
	if err != nil || ref.Registry != rq.ref.Registry {
		out.Del("from")
		out.Del("mount")
		return out
	}
	out.Set("from", ref.Repository)
	return out
}

// pushed forgets what a successful push or deletion has changed.
func (m *Mirror) pushed(r *http.Request, rq request, resp *http.Response) {
	if resp.StatusCode >= http.StatusMultipleChoices || rq.endpoint == endpointUpload {
		return
	}
	m.manifests.epoch.Add(1)
	switch {
	case rq.tag != "":
		m.manifests.forgetTag(rq.ref, rq.tag)
	case r.Method == http.MethodDelete:
		m.gate.grants.drop(m.gate.key(rq.caller, rq.digest))
	}
}

// answerPush passes the origin's answer on.
func (m *Mirror) answerPush(w http.ResponseWriter, r *http.Request, rq request, resp *http.Response) error {
	h := w.Header()
	for _, name := range pushAnswers {
		if v := resp.Header.Get(name); v != "" {
			h.Set(name, v)
		}
	}
	if location := resp.Header.Get("Location"); location != "" {
		h.Set("Location", m.relocate(location, r, rq))
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(m.cfg.WriteTimeout))
	w.WriteHeader(resp.StatusCode)
	if _, err := io.Copy(w, io.LimitReader(resp.Body, listMax)); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// relocate turns a Location at the origin into one at this mirror, so that the
// client comes back here. One at another host is passed on as it is: the client
// decides what it says there.
func (m *Mirror) relocate(location string, r *http.Request, rq request) string {
	path, query, ok := m.atOrigin(location, rq.ref)
	if !ok {
		return location
	}
	rest, ours := strings.CutPrefix(path, "/v2/"+rq.ref.Repository+"/")
	if ours {
		_, err := parsePath(path)
		ours = err == nil
	}
	switch {
	case ours:
	case rq.endpoint == endpointUpload: // kept elsewhere
		rest = "blobs/uploads/" + uploadMark + m.sealer.sealFor(uploadMark, pass{
			auth: path, registry: rq.ref.String(), expires: time.Now().Add(uploadTTL),
		})
	default:
		return location
	}
	if ns := rq.query.Get("ns"); ns != "" {
		query.Set("ns", ns)
	}
	here := url.URL{Scheme: "http", Host: hostOf(r), Path: "/v2/" + rq.name + "/" + rest, RawQuery: query.Encode()}
	if r.TLS != nil {
		here.Scheme = "https"
	}
	return here.String()
}

// atOrigin returns path and query of a Location that is at the registry's own
// address.
func (m *Mirror) atOrigin(location string, ref Ref) (path string, query url.Values, ok bool) {
	base, err := m.origin.Base(ref.Registry)
	if err != nil {
		return "", nil, false
	}
	target, err := url.Parse(location)
	if err != nil {
		return "", nil, false
	}
	at := base.JoinPath("v2/").ResolveReference(target)
	path, below := strings.CutPrefix(at.Path, base.Path)
	query, err = url.ParseQuery(at.RawQuery)
	ok = below && err == nil && strings.HasPrefix(path, "/") && at.Scheme == base.Scheme && strings.EqualFold(at.Host, base.Host)
	return path, query, ok
}

// pushBody is the body of a push on its way: each wait for the client is bounded,
// and a manifest's size.
type pushBody struct {
	body    io.Reader
	control *http.ResponseController
	limit   time.Duration // for the next bytes
	length  int64         // -1 unknown
	left    int64         // bytes that may come; -1 for any number

	mu    sync.Mutex
	err   error // why the client's side failed
	ended bool  // all of it came
	gone  bool  // the handler has returned
}

func (m *Mirror) newPushBody(w http.ResponseWriter, r *http.Request, rq request) *pushBody {
	b := &pushBody{body: r.Body, control: http.NewResponseController(w), limit: m.cfg.BodyTimeout, length: r.ContentLength, left: -1}
	if rq.endpoint == endpointManifest {
		b.left = m.cfg.ManifestMax
	}
	return b
}

// forOrigin is what the origin gets. A manifest is read first: registries see it
// whole, and it can be sent again after they have asked for a token.
func (b *pushBody) forOrigin(ctx context.Context, e endpoint) (io.Reader, error) {
	switch {
	case b.length == 0:
		return nil, nil
	case e != endpointManifest:
		return b, nil
	case b.length > b.left:
		return nil, errLarge
	}
	data, err := io.ReadAll(b)
	if err != nil {
		return nil, b.cause()
	}
	return bytes.NewReader(data), ctx.Err()
}

// Len is the length for the origin, -1 if it is unknown.
func (b *pushBody) Len() int { return int(b.length) }

// Read implements [io.Reader].
func (b *pushBody) Read(p []byte) (int, error) {
	if !b.begin() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.body.Read(p)
	if b.left >= 0 {
		if b.left -= int64(n); b.left < 0 {
			err = errLarge
		}
	}
	b.note(err)
	return n, err
}

// note notes how the body ended.
func (b *pushBody) note(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil || b.gone:
	case errors.Is(err, io.EOF):
		b.ended = true
		_ = b.control.SetReadDeadline(time.Time{}) // from here on the server looks whether the client leaves
	default:
		b.err = err
	}
}

func (b *pushBody) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.gone {
		_ = b.control.SetReadDeadline(time.Now().Add(b.limit))
	}
	return !b.gone
}

// cause is why the client's side failed, nil if it did not.
func (b *pushBody) cause() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil || errors.Is(b.err, errLarge) {
		return b.err
	}
	return fmt.Errorf("%w: %w", errBody, b.err)
}

// leave ends the body with the handler. What is left of it the server drops,
// within the last deadline.
func (b *pushBody) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone = true; !b.ended && b.length != 0 {
		_ = b.control.SetReadDeadline(time.Now().Add(b.limit))
	}
}
