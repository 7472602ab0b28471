package mirror

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	logging "github.com/ipfs/go-log/v2"
	"github.com/opencontainers/go-digest"
)

var log = logging.Logger("meshd/mirror")

// maxBody bounds the request body that is read to keep a connection usable.
const maxBody = 64 << 10

// Mirror is the pull API. See the package comment for its rules.
type Mirror struct {
	cfg       Config
	blobs     Blobs
	origin    Origin
	hasher    hasher
	gate      *gate
	manifests *manifests
	lists     *flights[listing]
	sealer    sealer
	bonds     *bonds
	stats     *counters
	draining  atomic.Bool
}

// New returns a mirror over the mesh, the documents on disk and the origins. cfg
// has passed Validate. It starts nothing.
func New(cfg Config, blobs Blobs, docs Documents, origin Origin) *Mirror {
	cfg = cfg.withDefaults()
	h, stats := newHasher(), new(counters)
	tickets := make(chan struct{}, cfg.MaxQuestions)
	g := &gate{
		hasher: h, ttl: cfg.GrantTTL, stale: cfg.StaleTTL, stalePrivate: cfg.StalePrivateTTL, stats: stats,
		grants: newLRU[hash, grant](cfg.MaxGrants),
		noes:   newLRU[hash, refusal](maxRefusals), noTTL: cfg.RefusalTTL,
		outages: newLRU[string, time.Time](maxOutages),
		asks:    newFlights[grant](cfg.ManifestTimeout, tickets),
	}
	return &Mirror{
		cfg: cfg, blobs: blobs, origin: origin, hasher: h, gate: g, stats: stats,
		lists: newFlights[listing](cfg.ManifestTimeout, tickets), sealer: newSealer(),
		bonds: &bonds{
			hasher: h, first: newLRU[hash, string](maxBonds),
			configured: func(registry string) bool {
				return registry == canonicalHost(cfg.DefaultRegistry) || origin.Hosts(registry)
			},
		},
		manifests: &manifests{
			hasher: h, max: cfg.ManifestMax, docs: docs, origin: origin, gate: g, stats: stats,
			tags: newLRU[hash, Tag](cfg.MaxTags), tagTTL: cfg.TagTTL, named: newLRU[digest.Digest, Tag](cfg.MaxTags),
			private: newLRU[hash, document](maxPrivates),
			asks:    newFlights[document](cfg.ManifestTimeout, tickets),
		},
	}
}

// Drain makes the mirror answer new requests with 503. Requests that are being
// served go on.
func (m *Mirror) Drain() { m.draining.Store(true) }

// Close cancels the questions to origins and waits until their goroutines have
// ended. Call it after the server has stopped.
func (m *Mirror) Close() error {
	m.Drain()
	m.gate.asks.close()
	m.manifests.asks.close()
	m.lists.close()
	return nil
}

// request is a route whose registry is known.
type request struct {
	route
	caller
	query url.Values
	// passed: the client brought a token of this mirror, and auth is what it says.
	passed bool
	// push: it goes on to the registry as it is.
	push bool
}

// ServeHTTP implements [http.Handler].
func (m *Mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer m.stats.active.Add(-1)
	active := m.stats.active.Add(1)
	m.stats.requests.Add(1)
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	// Covers every answer but a blob's, which moves it on by progress.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(m.cfg.FirstByteTimeout + m.cfg.ManifestTimeout + m.cfg.WriteTimeout))

	rq, err := m.admit(w, r, active)
	switch {
	case err != nil:
	case rq.push:
		err = m.servePush(w, r, rq)
	default:
		err = m.serveLeast(w, r, rq)
	}
	if err != nil {
		m.fail(w, r, rq, err)
	}
}

// admit checks everything that can be checked without asking anybody.
func (m *Mirror) admit(w http.ResponseWriter, r *http.Request, active int64) (request, error) {
	rq, err := m.check(w, r, active)
	if err == nil && rq.push {
		return rq, nil // the body goes on, too
	}
	if err := m.endBody(w, r); err != nil {
		return request{}, err
	}
	return rq, err
}

func (m *Mirror) check(w http.ResponseWriter, r *http.Request, active int64) (request, error) {
	switch {
	case m.draining.Load():
		return request{}, ErrDraining
	case active > int64(m.cfg.MaxRequests):
		m.stats.shed.Add(1)
		return request{}, ErrBusy
	case r.URL.IsAbs():
		return request{}, errRoute
	}
	rq, err := m.parse(r)
	if err != nil {
		return rq, err
	}
	allowed := methods(rq.route)
	if !slices.Contains(allowed, r.Method) {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return rq, errMethod
	}
	rq.push = rq.endpoint == endpointUpload || r.Method != http.MethodGet && r.Method != http.MethodHead
	return rq, nil
}

func (m *Mirror) parse(r *http.Request) (request, error) {
	rt, err := parsePath(r.URL.EscapedPath())
	rq := request{route: rt}
	if err != nil {
		return rq, err
	}
	if rq.query, err = parseQuery(r.URL.RawQuery); err != nil {
		return rq, err
	}
	rq.auth = authorization(r.Header)
	switch rt.endpoint {
	case endpointToken:
		return rq, nil
	case endpointBase:
		return m.unseal(rq)
	}
	if rq.ref, err = resolve(rt.name, rq.query.Get("ns"), m.cfg.DefaultRegistry, m.origin.Hosts); err != nil {
		return rq, err
	}
	return m.unseal(rq)
}

// unseal puts what a token of this mirror says in the place of the token. Every
// other Authorization is between the client and its registry.
func (m *Mirror) unseal(rq request) (request, error) {
	token, ok := ownToken(rq.auth)
	if !ok {
		return rq, nil
	}
	rq.auth, rq.passed = "", true
	p, err := m.sealer.open(token, time.Now())
	if err != nil {
		return rq, err
	}
	if p.auth != "" && rq.endpoint != endpointBase && p.registry != rq.ref.Registry {
		return rq, fmt.Errorf("%w: it is for another registry", errToken)
	}
	rq.auth = p.auth
	return rq, nil
}

// endBody makes sure that a request body, which no pull has, cannot hold the
// connection: it is read to its end within a time, or the connection closes.
func (m *Mirror) endBody(w http.ResponseWriter, r *http.Request) error {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(m.cfg.BodyTimeout))
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Connection", "close")
		return nil // refused anyway; the server drops the rest under the deadline
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxBody+1))
	if err != nil || n > maxBody {
		w.Header().Set("Connection", "close")
		return errBody
	}
	_ = control.SetReadDeadline(time.Time{})
	return nil
}

func (m *Mirror) serve(w http.ResponseWriter, r *http.Request, rq request) error {
	switch rq.endpoint {
	case endpointManifest:
		return m.serveManifest(w, r, rq)
	case endpointBlob:
		return m.serveBlob(w, r, rq)
	case endpointTags, endpointReferrers:
		return m.serveList(w, r, rq)
	case endpointToken:
		return m.serveToken(w, r, rq)
	default:
		return m.serveBase(w, r, rq)
	}
}

// serveBase answers /v2/. Clients that ping send credentials only if they are
// asked for them here; a token is to be had without any.
func (m *Mirror) serveBase(w http.ResponseWriter, r *http.Request, rq request) error {
	scheme, _, _ := strings.Cut(rq.auth, " ")
	switch {
	case rq.passed, strings.EqualFold(scheme, "Basic"):
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "2")
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodGet {
			return m.writeAll(w, r, []byte("{}"))
		}
		return nil
	case rq.auth == "":
		return errNoToken
	}
	return errToken
}

// fail answers an error. A client that has left gets nothing.
func (m *Mirror) fail(w http.ResponseWriter, r *http.Request, rq request, err error) {
	if r.Context().Err() != nil && !errors.Is(err, errBody) {
		panic(http.ErrAbortHandler)
	}
	p := problemOf(err, rq)
	if p.status == http.StatusUnauthorized {
		p.header["Www-Authenticate"] = []string{challenge(r, rq)}
	}
	if errors.Is(err, errNoToken) { // how each pull begins
		p.write(w, r.Method)
		return
	}
	m.stats.failures.Add(1)
	if p.status >= 500 {
		log.Warnw("request failed", "ref", rq.ref.String(), "blob", rq.subject(), "origin", rq.ref.Registry, "err", err)
	} else {
		log.Debugw("request refused", "ref", rq.ref.String(), "blob", rq.subject(), "err", err)
	}
	p.write(w, r.Method)
}

// subject is the tag or digest of a route, for the log.
func (rt route) subject() string {
	if rt.digest != "" {
		return rt.digest.String()
	}
	return rt.tag
}

// writeAll writes a body that is in memory. A client that does not take it is
// cut off.
func (m *Mirror) writeAll(w http.ResponseWriter, r *http.Request, data []byte) error {
	if _, err := w.Write(data); err != nil {
		log.Debugw("client left", "err", fmt.Errorf("write answer to %s: %w", r.Method, err))
		panic(http.ErrAbortHandler)
	}
	return nil
}

// authorization returns the client's credentials. Empty Basic credentials, which
// podman sends when challenged without having any, are none.
func authorization(h http.Header) string {
	auth := h.Get("Authorization")
	scheme, value, _ := strings.Cut(auth, " ")
	if strings.EqualFold(scheme, "Basic") && strings.TrimSpace(value) == base64.StdEncoding.EncodeToString([]byte(":")) {
		return ""
	}
	return auth
}
