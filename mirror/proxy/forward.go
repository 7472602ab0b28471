package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// errIdle ends a request that is passed on.
var errIdle = refusef(http.StatusGatewayTimeout, "no byte passed in time")

// transport carries requests without TLS to the addresses that dial allows.
func (p *Proxy) transport(named bool) *http.Transport {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, p.cfg.DialTimeout)
			defer cancel()
			return p.dial(ctx, address, named)
		},
		DisableCompression:     true,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return t
}

// passOn sends a request without TLS to where it wants to go.
func (p *Proxy) passOn(w http.ResponseWriter, r *http.Request, d decision) {
	transport := p.plain
	if d.named {
		transport = p.named
	}
	p.send(w, r, d, &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(pr *httputil.ProxyRequest) { asItIs(pr) },
	})
}

// forward sends a request to the registry itself.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, d decision) {
	base, transport, err := p.origin.Direct(d.registry)
	if err != nil {
		refusalOf(d.target, err).write(w)
		return
	}
	client := url.URL{Scheme: "https", Host: r.Host} // as the client calls the registry
	if r.TLS == nil {
		client.Scheme = "http"
	}
	p.send(w, r, d, &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(pr *httputil.ProxyRequest) {
			asItIs(pr)
			out := pr.Out.URL
			if base.Path != "" {
				out.RawPath = base.EscapedPath() + out.EscapedPath()
				out.Path = base.Path + out.Path
			}
			out.Scheme, out.Host, pr.Out.Host = base.Scheme, base.Host, base.Host
		},
		ModifyResponse: func(resp *http.Response) error {
			relocate(resp.Header, base, &client)
			return nil
		},
	})
}

// asItIs undoes what ReverseProxy leaves out, and lets no upgrade through: it would have no bounds.
func asItIs(pr *httputil.ProxyRequest) {
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := pr.In.Header[name]; ok {
			pr.Out.Header[name] = v
		}
	}
	pr.Out.Header.Del("Upgrade")
	pr.Out.Header.Del("Connection")
}

// relocate puts the client's name for the registry into a Location below base.
func relocate(h http.Header, base, client *url.URL) {
	u, err := url.Parse(h.Get("Location"))
	if err != nil || u.Host == "" || !strings.EqualFold(u.Host, base.Host) {
		return
	}
	path := strings.TrimPrefix(u.Path, base.Path)
	if path == u.Path && base.Path != "" {
		return // elsewhere on the same host
	}
	u.Scheme, u.Host = client.Scheme, client.Host
	u.Path, u.RawPath = path, strings.TrimPrefix(u.RawPath, base.EscapedPath())
	h.Set("Location", u.String())
}

// send runs a reverse proxy; it is cut when nothing passes for the idle time.
func (p *Proxy) send(w http.ResponseWriter, r *http.Request, d decision, rp *httputil.ReverseProxy) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{}) // the mirror may have left one
	watch := &watch{idle: p.cfg.IdleTimeout}
	watch.timer = time.AfterFunc(watch.idle, func() {
		cancel(errIdle)
		_ = control.SetReadDeadline(time.Now()) // frees what waits for the client
		_ = control.SetWriteDeadline(time.Now().Add(p.cfg.LastTimeout))
	})
	defer watch.timer.Stop()
	rp.FlushInterval = -1
	rp.BufferPool = buffers{}
	rp.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		log.Debugw("request not passed on", "addr", d.String(), "err", err)
		refusalOf(d.target, err).write(w)
	}
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = watchedBody{r.Body, watch}
	}
	rp.ServeHTTP(&watchedWriter{w, watch}, r)
}

// watch is the time that a request may go without a byte. It is safe for concurrent use.
type watch struct {
	idle  time.Duration
	timer *time.Timer
}

type watchedBody struct {
	io.ReadCloser
	*watch
}

func (b watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.timer.Reset(b.idle)
	return n, err
}

type watchedWriter struct {
	http.ResponseWriter
	*watch
}

// Unwrap is for http.ResponseController.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.timer.Reset(w.idle)
	return n, err
}

// buffers is httputil's interface to what it copies with.
type buffers struct{}

var passBuffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

func (buffers) Get() []byte {
	b, _ := passBuffers.Get().(*[]byte)
	return *b
}

func (buffers) Put(b []byte) { passBuffers.Put(&b) }
