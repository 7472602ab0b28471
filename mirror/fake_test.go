package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// The fakes stand for the mesh, the disk and the registries. They are small
// worlds with a few knobs, not scripted mocks: a test sets the world up and looks
// at what clients get and at what the world was asked.

// fakeBlobs is a mesh that has some blobs.
type fakeBlobs struct {
	mu    sync.Mutex
	blobs map[digest.Digest]*fakeBlob
	wants []BlobWant
	open  int // blobs not closed
}

// fakeBlob is a blob and what goes wrong with it.
type fakeBlob struct {
	data     []byte
	file     string        // read by sendfile from here instead of data
	openErr  error         // Open fails
	openHang bool          // Open waits for its ctx
	onDisk   bool          // Stat knows it
	cutAt    int64         // with cutErr: WriteTo fails at this offset of the blob
	cutErr   error         // nil means no cut
	hangAt   int64         // -1 never; WriteTo waits for Close at this offset
	short    bool          // WriteTo ends with nil at cutAt
	long     bool          // WriteTo gives a byte too many
	gate     chan struct{} // Open waits for it
}

func newFakeBlobs() *fakeBlobs { return &fakeBlobs{blobs: map[digest.Digest]*fakeBlob{}} }

func (f *fakeBlobs) add(data []byte) (digest.Digest, *fakeBlob) {
	d := digest.FromBytes(data)
	b := &fakeBlob{data: data, hangAt: -1}
	f.blobs[d] = b
	return d, b
}

func (f *fakeBlobs) Open(ctx context.Context, want BlobWant) (Blob, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wants = append(f.wants, want)
	b, ok := f.blobs[want.Digest]
	switch {
	case !ok:
		return nil, fmt.Errorf("open %s: %w", want.Digest, ErrNotFound)
	case b.openErr != nil:
		return nil, b.openErr
	case b.openHang || b.gate != nil:
		if err := f.wait(ctx, b.gate); err != nil {
			return nil, err
		}
	}
	f.open++
	return &openBlob{fakeBlob: b, mesh: f}, nil
}

// wait lets go of the lock until gate closes; a nil one never does.
func (f *fakeBlobs) wait(ctx context.Context, gate chan struct{}) error {
	f.mu.Unlock()
	defer f.mu.Lock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-gate:
		return nil
	}
}

func (f *fakeBlobs) Stat(d digest.Digest) (int64, bool) {
	b, ok := f.blobs[d]
	if !ok || !b.onDisk {
		return 0, false
	}
	return int64(len(b.data)), true
}

func (f *fakeBlobs) opened() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.wants)
}

func (f *fakeBlobs) unclosed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

type openBlob struct {
	*fakeBlob
	mesh *fakeBlobs
}

func (b *openBlob) Size() int64 {
	if b.file != "" {
		if info, err := os.Stat(b.file); err == nil {
			return info.Size()
		}
	}
	return int64(len(b.data))
}

func (b *openBlob) Close() error {
	b.mesh.mu.Lock()
	defer b.mesh.mu.Unlock()
	b.mesh.open--
	return nil
}

func (b *openBlob) Reader(off, n int64) (BlobReader, error) {
	if off < 0 || n <= 0 || off+n > b.Size() {
		return nil, fmt.Errorf("reader of %d bytes at %d outside of %d", n, off, b.Size())
	}
	r := &fakeReader{blob: b.fakeBlob, off: off, end: off + n, closed: make(chan struct{})}
	if b.file != "" {
		f, err := os.Open(b.file)
		if err != nil {
			return nil, err
		}
		if _, err := f.Seek(off, io.SeekStart); err != nil {
			return nil, err
		}
		r.file = f
	}
	return r, nil
}

type fakeReader struct {
	blob     *fakeBlob
	file     *os.File
	off, end int64

	once   sync.Once
	closed chan struct{}
}

func (r *fakeReader) Read([]byte) (int, error) { panic("the mirror uses WriteTo") }

func (r *fakeReader) Close() error {
	r.once.Do(func() {
		close(r.closed)
		if r.file != nil {
			r.file.Close()
		}
	})
	return nil
}

func (r *fakeReader) WriteTo(w io.Writer) (int64, error) {
	if r.file != nil {
		return w.(io.ReaderFrom).ReadFrom(&io.LimitedReader{R: r.file, N: r.end - r.off})
	}
	start := r.off
	for r.off < r.end {
		b := r.blob
		next := min(r.end, r.off+64<<10)
		if b.hangAt >= 0 && r.off >= b.hangAt {
			<-r.closed
			return r.off - start, errors.New("reader closed")
		}
		if b.hangAt > r.off {
			next = min(next, b.hangAt)
		}
		if (b.cutErr != nil || b.short) && r.off >= b.cutAt {
			return r.off - start, b.cutErr
		}
		if (b.cutErr != nil || b.short) && b.cutAt > r.off {
			next = min(next, b.cutAt)
		}
		n, err := w.Write(b.data[r.off:next])
		r.off += int64(n)
		if err != nil {
			return r.off - start, err
		}
	}
	if r.blob.long {
		if _, err := w.Write([]byte{0}); err != nil {
			return r.off - start, err
		}
	}
	return r.off - start, nil
}

// fakeDocs is a disk for manifests.
type fakeDocs struct {
	mu     sync.Mutex
	docs   map[digest.Digest]document
	puts   int
	putErr error
}

func newFakeDocs() *fakeDocs { return &fakeDocs{docs: map[digest.Digest]document{}} }

func (f *fakeDocs) Get(d digest.Digest) (string, []byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	doc, ok := f.docs[d]
	return doc.mediaType, doc.data, ok
}

func (f *fakeDocs) Put(d digest.Digest, mediaType string, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.puts++
	if f.putErr != nil {
		return f.putErr
	}
	f.docs[d] = document{digest: d, mediaType: mediaType, data: data, size: int64(len(data))}
	return nil
}

// fakeOrigin is all registries. Repositories with a secret need it as
// Authorization; hook, when set, answers instead.
type fakeOrigin struct {
	hosts map[string]bool
	repos map[Ref]*fakeRepo

	mu        sync.Mutex
	requests  []OriginRequest // all Do
	heads     int             // all HeadBlob
	hook      func(ctx context.Context, req OriginRequest) (*http.Response, error)
	headHook  func(ctx context.Context, ref Ref, d digest.Digest, auth string) (int64, error)
	quirk     fakeQuirk
	down      error // no answer at all
	etagBlind bool  // never answers 304

	pushes   []pushed
	pushHook func(req OriginRequest, body []byte) (*http.Response, error)
}

// fakeQuirk is what an origin cannot do.
type fakeQuirk struct {
	noHead      bool // 405 to HEAD of manifests
	noDigest    bool // no Docker-Content-Digest
	noType      bool // no Content-Type
	wrongDigest bool // Docker-Content-Digest of something else
	corrupt     bool // a byte of each manifest is wrong
}

type fakeRepo struct {
	secret    string
	manifests map[string]document // by tag and digest
	blobs     map[digest.Digest]int64
	tags      string // tags/list body
	link      string
	referrers string
}

func newFakeOrigin() *fakeOrigin {
	return &fakeOrigin{hosts: map[string]bool{}, repos: map[Ref]*fakeRepo{}}
}

func (f *fakeOrigin) repo(registry, repository string) *fakeRepo {
	r := &fakeRepo{manifests: map[string]document{}, blobs: map[digest.Digest]int64{}}
	f.repos[Ref{registry, repository}] = r
	return r
}

func (f *fakeOrigin) Hosts(name string) bool { return f.hosts[name] }

func (f *fakeOrigin) asked() (do, heads int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests), f.heads
}

func (f *fakeOrigin) last() OriginRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[len(f.requests)-1]
}

func (f *fakeOrigin) HeadBlob(ctx context.Context, ref Ref, d digest.Digest, auth string) (int64, error) {
	f.mu.Lock()
	f.heads++
	hook, down := f.headHook, f.down
	f.mu.Unlock()
	if hook != nil {
		return hook(ctx, ref, d, auth)
	}
	if down != nil {
		return 0, down
	}
	repo, err := f.enter(ref, auth)
	if err != nil {
		return 0, err
	}
	size, ok := repo.blobs[d]
	if !ok {
		return 0, &fakeError{status: 404}
	}
	return size, nil
}

func (f *fakeOrigin) Do(ctx context.Context, req OriginRequest) (*http.Response, error) {
	f.mu.Lock()
	f.requests = append(f.requests, req)
	hook, down := f.hook, f.down
	f.mu.Unlock()
	if hook != nil {
		return hook(ctx, req)
	}
	if down != nil {
		return nil, down
	}
	repo, err := f.enter(req.Ref, req.Authorization)
	if err != nil {
		return nil, err
	}
	verb, ref, _ := strings.Cut(req.Path, "/")
	switch verb {
	case "manifests":
		return f.manifest(repo, req, ref)
	case "tags":
		if repo.tags == "" {
			return nil, &fakeError{status: 404}
		}
		return response(http.Header{"Content-Type": {"application/json"}, "Link": {repo.link}}, []byte(repo.tags)), nil
	case "referrers":
		if repo.referrers == "" {
			return nil, &fakeError{status: 404, body: "404 page not found"}
		}
		return response(http.Header{"Content-Type": {v1.MediaTypeImageIndex}, "Oci-Filters-Applied": {"artifactType"}}, []byte(repo.referrers)), nil
	}
	return nil, &fakeError{status: 404}
}

func (f *fakeOrigin) enter(ref Ref, auth string) (*fakeRepo, error) {
	repo, ok := f.repos[ref]
	switch {
	case !ok:
		return nil, &fakeError{status: 404, body: string(errorBody(codeNameUnknown, "repository name not known to registry"))}
	case repo.secret == "" || auth == repo.secret:
		return repo, nil
	case auth == "":
		return nil, &fakeError{status: 401, header: http.Header{"Www-Authenticate": {`Bearer realm="https://auth.example/token",service="s",scope="repository:` + ref.Repository + `:pull"`}}}
	default:
		return nil, &fakeError{status: 403, body: string(errorBody(codeDenied, "requested access to the resource is denied"))}
	}
}

func (f *fakeOrigin) manifest(repo *fakeRepo, req OriginRequest, ref string) (*http.Response, error) {
	doc, ok := repo.manifests[ref]
	switch {
	case !ok:
		return nil, &fakeError{status: 404, body: string(errorBody(codeManifestUnknown, "manifest unknown"))}
	case req.Method == http.MethodHead && f.quirk.noHead:
		return nil, &fakeError{status: 405}
	case req.Header.Get("If-None-Match") == etag(doc.digest) && !f.etagBlind:
		resp := response(http.Header{}, nil)
		resp.StatusCode = http.StatusNotModified
		return resp, nil
	}
	h := http.Header{}
	if !f.quirk.noType {
		h.Set("Content-Type", doc.mediaType)
	}
	data := doc.data
	if f.quirk.corrupt {
		data = append(bytes.Clone(data), ' ')
	}
	switch {
	case f.quirk.noDigest:
	case f.quirk.wrongDigest:
		h.Set("Docker-Content-Digest", digest.FromString("else").String())
	default:
		h.Set("Docker-Content-Digest", doc.digest.String())
	}
	resp := response(h, data)
	if req.Method == http.MethodHead {
		resp.Body = http.NoBody
	}
	return resp, nil
}

func response(h http.Header, body []byte) *http.Response {
	return &http.Response{StatusCode: 200, Header: h, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}
}

// put adds a manifest under its digest and tag.
func (r *fakeRepo) put(tag, mediaType string, data []byte) digest.Digest {
	doc := document{digest: digest.FromBytes(data), mediaType: mediaType, data: data, size: int64(len(data))}
	r.manifests[doc.digest.String()] = doc
	if tag != "" {
		r.manifests[tag] = doc
	}
	return doc.digest
}

// fakeError is an answer of an origin, or with status 0 none.
type fakeError struct {
	status int
	header http.Header
	body   string
}

func (e *fakeError) Error() string { return "origin answered " + strconv.Itoa(e.status) }

func (e *fakeError) HTTP() (int, http.Header, []byte) { return e.status, e.header, []byte(e.body) }

// world is a mirror and everything around it.
type world struct {
	*Mirror
	mesh   *fakeBlobs
	docs   *fakeDocs
	origin *fakeOrigin
}

func newWorld(t testing.TB, cfg Config) *world {
	t.Helper()
	w := &world{mesh: newFakeBlobs(), docs: newFakeDocs(), origin: newFakeOrigin()}
	w.Mirror = New(cfg, w.mesh, w.docs, w.origin)
	t.Cleanup(func() {
		w.Close()
		if n := w.mesh.unclosed(); n != 0 {
			t.Errorf("%d blobs left open", n)
		}
		if s := w.Stats(); s.Active != 0 {
			t.Errorf("%d requests counted as active at the end", s.Active)
		}
	})
	return w
}

// do serves one request without a network. headers are name, value pairs.
func (w *world) do(method, target string, headers ...string) *httptest.ResponseRecorder {
	return w.doCtx(context.Background(), method, target, headers...)
}

func (w *world) doCtx(ctx context.Context, method, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return rec
}

// serve starts a real server on a free port of loopback.
func (w *world) serve(t testing.TB, adjust func(*http.Server)) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = NewServer(w)
	if adjust != nil {
		adjust(srv.Config)
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// image is a manifest with a config and a layer in a repository and in the mesh.
type image struct {
	manifest, config, layer digest.Digest
	data                    []byte // of the manifest
	layerData               []byte
}

// push makes an image of a layer of size bytes known to the origin as tag, and
// its blobs to the mesh.
func (w *world) push(repo *fakeRepo, tag string, size int) image {
	layer := randomBytes(size)
	config := []byte(`{"architecture":"amd64","os":"linux","n":` + strconv.Itoa(size) + `}`)
	img := image{layerData: layer}
	img.layer, _ = w.mesh.add(layer)
	img.config, _ = w.mesh.add(config)
	repo.blobs[img.layer], repo.blobs[img.config] = int64(len(layer)), int64(len(config))
	m := v1.Manifest{
		MediaType: v1.MediaTypeImageManifest,
		Config:    v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: img.config, Size: int64(len(config))},
		Layers:    []v1.Descriptor{{MediaType: v1.MediaTypeImageLayerGzip, Digest: img.layer, Size: int64(len(layer))}},
	}
	m.SchemaVersion = 2
	img.data, _ = json.Marshal(m)
	img.manifest = repo.put(tag, v1.MediaTypeImageManifest, img.data)
	return img
}

func randomBytes(n int) []byte {
	rng := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	b := make([]byte, n)
	_, _ = rng.Read(b)
	return b
}

// tempFile writes data to a file of the test.
func tempFile(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// codeOf is the first OCI code of a body, "" if it is no error body.
func codeOf(body []byte) string {
	if !isErrorBody(body) {
		return ""
	}
	var l errorList
	_ = json.Unmarshal(body, &l)
	return l.Errors[0].Code
}

// wantStatus fails the test unless the answer has this status.
func wantStatus(t *testing.T, rec *httptest.ResponseRecorder, status int) {
	t.Helper()
	if rec.Code != status {
		t.Fatalf("status %d, want %d; body %s", rec.Code, status, rec.Body)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func (f *fakeOrigin) Base(registry string) (*url.URL, error) {
	return &url.URL{Scheme: "https", Host: registry, Path: "/api"}, nil
}

// Push asks pushHook; the body is read to its end before.
func (f *fakeOrigin) Push(_ context.Context, req OriginRequest) (*http.Response, error) {
	var body []byte
	length := -1
	if sized, ok := req.Body.(interface{ Len() int }); ok {
		length = sized.Len()
	}
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, &fakeError{}
		}
	}
	f.mu.Lock()
	f.pushes = append(f.pushes, pushed{req, string(body), length})
	f.mu.Unlock()
	if f.pushHook == nil {
		return nil, &fakeError{status: 404}
	}
	return f.pushHook(req, body)
}

// pushed is what came of a push.
type pushed struct {
	OriginRequest
	body   string
	length int // as told before
}
