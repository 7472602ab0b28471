package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync"
	"testing"
	"time"
)

// counts is what a counting proxy sent since it started.
type counts struct {
	BlobBytes    int64            `json:"blob_bytes"`    // bytes of bodies of blobs, as written to connections
	BlobRequests int64            `json:"blob_requests"` // answered GETs of blobs
	ByDigest     map[string]int64 `json:"by_digest"`
	Manifests    int64            `json:"manifests"` // GETs of manifests
}

// behaviour is what a proxy does to answers. It can be changed while it runs.
type behaviour struct {
	Rate    int64  `json:"rate"`    // bytes of blobs a second, all together; 0: no limit
	Corrupt string `json:"corrupt"` // a digest one byte of which is sent wrong
	Hang    bool   `json:"hang"`    // take requests and never answer
	Status  int    `json:"status"`  // answer all requests with this; 0: as the registry does
	Break   bool   `json:"break"`   // close connections in the middle of blobs
	Cut     int64  `json:"cut"`     // break each answer with a blob after so many bytes; 0: never
}

// The proxy's own paths.
const (
	countsPath    = "/_e2e/counts"
	behaviourPath = "/_e2e/behaviour"
)

// runProxy is the helper process: LISTEN-ADDRESS UPSTREAM-URL.
func runProxy(args []string) int {
	upstream, err := url.Parse(args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	p := &proxy{sum: counts{ByDigest: map[string]int64{}}}
	p.next = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(upstream); r.Out.Host = r.In.Host },
		BufferPool:    &bufferPool{},
		FlushInterval: -1,
	}
	err = http.ListenAndServe(args[0], p)
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// bufferPool is httputil's interface to what it copies with.
type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 256<<10)
}

func (b *bufferPool) Put(buf []byte) { b.pool.Put(&buf) }

// proxy stands before a registry, counts and misbehaves.
type proxy struct {
	next http.Handler

	mu   sync.Mutex
	sum  counts
	how  behaviour
	free time.Time // when the next byte may go out under how.Rate
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == countsPath:
		p.mu.Lock()
		defer p.mu.Unlock()
		_ = json.NewEncoder(w).Encode(p.sum)
	case r.URL.Path == behaviourPath:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.how = behaviour{}
		if err := json.NewDecoder(r.Body).Decode(&p.how); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	case p.behaviour().Hang:
		<-r.Context().Done()
	case p.behaviour().Status != 0:
		w.WriteHeader(p.behaviour().Status)
	case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha"):
		p.mu.Lock()
		p.sum.BlobRequests++
		p.mu.Unlock()
		p.next.ServeHTTP(&proxyWriter{ResponseWriter: w, proxy: p, digest: path.Base(r.URL.Path)}, r)
	default:
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
			p.mu.Lock()
			p.sum.Manifests++
			p.mu.Unlock()
		}
		p.next.ServeHTTP(w, r)
	}
}

func (p *proxy) behaviour() behaviour {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.how
}

// pace waits until n bytes may go out.
func (p *proxy) pace(n int) {
	p.mu.Lock()
	if p.how.Rate <= 0 {
		p.mu.Unlock()
		return
	}
	now := time.Now()
	if late := now.Add(-20 * time.Millisecond); p.free.Before(late) { // what a sleep overslept is made up for
		p.free = late
	}
	p.free = p.free.Add(time.Duration(int64(n) * int64(time.Second) / p.how.Rate))
	wait := p.free.Sub(now)
	p.mu.Unlock()
	if wait > 5*time.Millisecond { // shorter sleeps end late
		time.Sleep(wait)
	}
}

// errCut ends an answer that is broken on purpose.
var errCut = errors.New("cut")

// proxyWriter is the answer to one GET of a blob.
type proxyWriter struct {
	http.ResponseWriter
	proxy  *proxy
	digest string
	fails  bool  // the answer is not a blob
	sent   int64 // bytes
}

func (w *proxyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *proxyWriter) WriteHeader(status int) {
	w.fails = status >= 300
	w.ResponseWriter.WriteHeader(status)
}

func (w *proxyWriter) Write(b []byte) (int, error) {
	if w.fails {
		return w.ResponseWriter.Write(b)
	}
	how := w.proxy.behaviour()
	if how.Corrupt == w.digest && len(b) > 0 {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
	}
	if how.Cut > 0 {
		b = b[:min(int64(len(b)), how.Cut-w.sent)]
	}
	w.proxy.pace(len(b))
	if how.Break {
		b = b[:len(b)/2]
	}
	w.count(len(b)) // before a client can have them, which may ask for the counts at once
	n, err := w.ResponseWriter.Write(b)
	w.count(n - len(b))
	if how.Break {
		panic(http.ErrAbortHandler)
	}
	if how.Cut > 0 && w.sent >= how.Cut {
		err = errCut
	}
	return n, err
}

func (w *proxyWriter) count(n int) {
	w.sent += int64(n)
	w.proxy.mu.Lock()
	defer w.proxy.mu.Unlock()
	w.proxy.sum.BlobBytes += int64(n)
	w.proxy.sum.ByDigest[w.digest] += int64(n)
}

// countingProxy is the test's side of a running proxy.
type countingProxy struct {
	*process
	addr string
}

func startProxy(t testing.TB, addr, upstream string) *countingProxy {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, addr, upstream)
	cmd.Env = append(os.Environ(), helperEnv+"=proxy")
	p := &countingProxy{process: startProcess(t, "proxy", cmd), addr: addr}
	p.waitFor(t, "answer", time.Minute, func() error {
		return getJSON("http://"+addr+countsPath, new(counts))
	})
	return p
}

func (p *countingProxy) counts(t testing.TB) counts {
	t.Helper()
	var c counts
	if err := getJSON("http://"+p.addr+countsPath, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// behave changes what the proxy does from now on.
func (p *countingProxy) behave(t testing.TB, how behaviour) {
	t.Helper()
	data, _ := json.Marshal(how)
	resp, err := http.Post("http://"+p.addr+behaviourPath, "application/json", strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
}

func getJSON(url string, into any) error {
	client := http.Client{Timeout: time.Minute}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status + ": " + string(body))
	}
	return json.Unmarshal(body, into)
}
