package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	logging "github.com/ipfs/go-log/v2"
)

var log = logging.Logger("meshd/gateway")

// Prefix begins the path of every request for a file.
const Prefix = "/mesh/"

// Headers between the node and its clients.
const (
	DigestHeader = "Meshd-Digest"
	FilterHeader = "Meshd-Filter"
	ErrorHeader  = "Meshd-Error"
)

// Config bounds a Handler. Zero values mean the defaults.
type Config struct {
	// MaxRequests bounds the requests that are answered at once. Default 64.
	MaxRequests int
	// OpenTimeout bounds the wait for the first byte of a file of known length, and for what the origin says of any. Default
	// 60 s: an origin may be slow.
	OpenTimeout time.Duration
	// WriteTimeout bounds how long a client may take for a MiB. Default 60 s.
	WriteTimeout time.Duration
}

// Handler answers requests for files.
type Handler struct {
	cfg   Config
	files Files
	slots chan struct{}
}

// New returns a handler that asks files.
func New(cfg Config, files Files) *Handler {
	if cfg.MaxRequests == 0 {
		cfg.MaxRequests = 64
	}
	if cfg.OpenTimeout == 0 {
		cfg.OpenTimeout = time.Minute
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = time.Minute
	}
	return &Handler{cfg: cfg, files: files, slots: make(chan struct{}, cfg.MaxRequests)}
}

// Match reports whether a request is for a file: origin-form, below Prefix.
func Match(r *http.Request) bool {
	return r.URL.Host == "" && r.Method != http.MethodConnect && strings.HasPrefix(r.RequestURI, Prefix)
}

// ServeHTTP implements http.Handler for requests that Match.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch {
	case !localHost(r.Host):
		h.fail(w, r, problem(Refused, http.StatusForbidden, "this host name is not served: use an IP address or localhost"))
	case http.NewCrossOriginProtection().Check(asPost(r)) != nil:
		h.fail(w, r, problem(Refused, http.StatusForbidden, "pages of other sites get nothing here"))
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		h.fail(w, r, problem(BadRequest, http.StatusMethodNotAllowed, "GET and HEAD only"))
	default:
		a, err := ask(r)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		h.Serve(w, r, a)
	}
}

// asPost is a request as the cross-origin check wants it: it lets GET through, because pages may show what they cannot
// read; here a GET makes the node ask other hosts.
func asPost(r *http.Request) *http.Request {
	post := *r
	post.Method = http.MethodPost
	return &post
}

// localHost reports whether a Host header is an IP address or localhost: a page cannot point a name of its own here.
func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.EqualFold(host, "localhost") || net.ParseIP(host) != nil
}

// kept are request headers that stay here: the connection's, what is answered here, and what says more of the client than
// an origin has to know to give out a file.
var kept = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Accept-Language": true, "Connection": true, "Content-Length": true, "Content-Type": true,
	"Expect": true, "Host": true, "If-Match": true, "If-Modified-Since": true, "If-None-Match": true, "If-Range": true,
	"If-Unmodified-Since": true, "Keep-Alive": true, "Origin": true, "Priority": true, "Proxy-Authorization": true, "Proxy-Connection": true,
	"Range": true, "Referer": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Upgrade-Insecure-Requests": true, "User-Agent": true, "Via": true, "X-Forwarded-For": true, "Cache-Control": true, "Pragma": true,
	DigestHeader: true, FilterHeader: true, WaitHeader: true,
}

// ask reads what a request asks for.
func ask(r *http.Request) (Ask, error) {
	a := Ask{URL: strings.TrimPrefix(r.RequestURI, Prefix), Header: http.Header{}, Listed: true, Digest: r.Header.Get(DigestHeader)}
	// Clients that clean paths make one slash of two.
	for _, scheme := range []string{"http:/", "https:/"} {
		if rest, ok := strings.CutPrefix(a.URL, scheme); ok && !strings.HasPrefix(rest, "/") {
			a.URL = scheme + "/" + rest
		}
	}
	if filter := r.Header.Get(FilterHeader); filter != "" {
		a.Filter = strings.Split(filter, ",")
	}
	for name, values := range r.Header {
		if !kept[name] && !strings.HasPrefix(name, "Sec-") {
			a.Header[name] = values
		}
	}
	if r.ContentLength != 0 {
		return a, problem(BadRequest, http.StatusBadRequest, "a request for a file has no body")
	}
	return a, nil
}

// Serve answers with a file, or why not. Range and conditions are r's.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, a Ask) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		h.fail(w, r, &Error{Code: Throttled, Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Err: errors.New("too many files at once")})
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Time{})
	if err := h.serve(w, r, a); err != nil {
		h.fail(w, r, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, a Ask) error {
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.OpenTimeout)
	defer cancel()
	f, err := h.files.Stat(ctx, a)
	if err != nil {
		return err
	}
	info := f.Info()
	switch verdict := condition(r.Header, info.Tag); verdict {
	case http.StatusOK:
	case http.StatusNotModified:
		describe(w.Header(), info)
		w.WriteHeader(verdict)
		return nil
	default:
		return problem(Changed, verdict, "the file is another version now")
	}
	if r.Method == http.MethodHead {
		describe(w.Header(), info)
		if info.Size >= 0 {
			w.Header().Set("Content-Length", strconv.FormatInt(info.Size, 10))
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	return h.send(ctx, w, r, f, info)
}

// send opens the file, or the part of it that is asked for, and moves it to the client.
func (h *Handler) send(ctx context.Context, w http.ResponseWriter, r *http.Request, f File, info Info) error {
	spec := rangeHeader(r.Header, info.Tag)
	s, err := parseRange(spec, info.Size)
	if err != nil {
		return unsatisfiable(w, info.Size)
	}
	off, n := int64(0), int64(-1)
	if s.part && s.off+s.n < info.Size { // the rest of a file is wanted as a whole: it is proven at its end
		off, n = s.off, s.n
	}
	if info.Size < 0 { // its first byte may come after its last has been read somewhere: File bounds that by what it sees
		ctx = r.Context()
	}
	stop := h.tell(w, r, f)
	defer stop()
	c, err := f.Open(ctx, off, n)
	if err != nil {
		return err
	}
	defer c.Close()
	if c.Size() != info.Size { // it is known now, or what was told of it was wrong
		info.Size = c.Size()
		if s, err = parseRange(spec, info.Size); err != nil {
			stop()
			return unsatisfiable(w, info.Size)
		}
	}
	reader, err := c.Reader(s.off, s.n)
	if err != nil {
		return err
	}
	defer reader.Close()
	defer context.AfterFunc(r.Context(), func() { _ = reader.Close() })()
	b := &body{w: w, control: http.NewResponseController(w), limit: h.cfg.WriteTimeout, commit: func() { stop(); commit(w, info, s) }}
	_, err = reader.WriteTo(b)
	switch {
	case err == nil:
		b.begin() // of an empty file nothing was written
		return nil
	case !b.committed:
		return err
	}
	log.Infow("file cut", "bytes", b.sent, "err", err)
	panic(http.ErrAbortHandler)
}

func unsatisfiable(w http.ResponseWriter, size int64) error {
	w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
	return problem(BadRequest, http.StatusRequestedRangeNotSatisfiable, "the file has no such part")
}

// commit writes status and headers.
func commit(w http.ResponseWriter, info Info, s span) {
	hd := w.Header()
	describe(hd, info)
	if s.n >= 0 {
		hd.Set("Content-Length", strconv.FormatInt(s.n, 10))
	}
	if !s.part {
		w.WriteHeader(http.StatusOK)
		return
	}
	hd.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", s.off, s.off+s.n-1, info.Size))
	w.WriteHeader(http.StatusPartialContent)
}

// describe writes what is known of a version before its bytes.
func describe(hd http.Header, info Info) {
	hd.Set("Content-Type", "application/octet-stream")
	if info.ContentType != "" {
		hd.Set("Content-Type", info.ContentType)
	}
	if info.Modified != "" {
		hd.Set("Last-Modified", info.Modified)
	}
	hd.Set("Accept-Ranges", "none")
	if info.Tag != "" {
		hd.Set("ETag", `"`+info.Tag+`"`)
		hd.Set("Accept-Ranges", "bytes")
	}
}

func problem(c Code, status int, text string) *Error {
	return &Error{Code: c, Status: status, Err: errors.New(text)}
}

// fail answers an error. A client that has left gets nothing.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	var e *Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, context.DeadlineExceeded):
		e = problem(Timeout, http.StatusGatewayTimeout, "no byte in "+h.cfg.OpenTimeout.String())
	default:
		log.Errorw("file not served", "err", err)
		e = problem(Unreachable, http.StatusBadGateway, "internal error: the node's log says which")
	}
	hd := w.Header()
	hd.Set(ErrorHeader, string(e.Code))
	hd.Set("Content-Type", "text/plain; charset=utf-8")
	hd.Set("Cache-Control", "no-store")
	if e.RetryAfter > 0 {
		hd.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(e.Status)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, "meshd: %v\n", e.Err)
	}
}
