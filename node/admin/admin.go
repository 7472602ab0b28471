package admin

import (
	"fmt"
	stdlog "log"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	logging "github.com/ipfs/go-log/v2"
)

var log = logging.Logger("meshd/admin")

// maxRequests bounds the requests that are answered at once.
const maxRequests = 64

// Handler answers a request whose sender may ask. An *Error is told to the client as it is, any other error as 500;
// nothing may have been written to w then.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Route is what one method does on one path.
type Route struct {
	Method string // GET (HEAD comes with it), POST, PUT or DELETE
	Path   string // as in a pattern of http.ServeMux, without method, host and trailing slash: /v1/pins/{digest}
	Handle Handler
}

// writes reports whether a method changes something.
func writes(method string) bool { return method != http.MethodGet && method != http.MethodHead }

// table is the routes by path, then method.
type table map[string]map[string]Handler

// New returns the handler of the routes. It panics if two of them are the same, or one has no method or path: the table is
// part of the program.
func New(guard Guard, routes []Route) http.Handler {
	t := table{}
	mux := http.NewServeMux()
	for _, r := range routes {
		known := slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}, r.Method)
		if !known || r.Handle == nil || !strings.HasPrefix(r.Path, "/") || t[r.Path][r.Method] != nil {
			panic(fmt.Sprintf("admin: route %s %s", r.Method, r.Path))
		}
		if t[r.Path] == nil {
			t[r.Path] = map[string]Handler{}
			mux.HandleFunc(r.Path, t.serve)
		}
		t[r.Path][r.Method] = r.Handle
	}
	return bounded(guard.protect(exact(mux)))
}

// serve answers a request for a path of the table.
func (t table) serve(w http.ResponseWriter, r *http.Request) {
	methods := t[r.Pattern]
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	handle := methods[method]
	if handle == nil {
		w.Header().Set("Allow", allow(methods))
		refuse(w, Errorf(http.StatusMethodNotAllowed, "%s is not for this path: %s", r.Method, w.Header().Get("Allow")))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
	if err := handle(w, r); err != nil {
		refuse(w, err)
	}
}

func allow(methods map[string]Handler) string {
	var out []string
	for m := range methods {
		out = append(out, m)
		if m == http.MethodGet {
			out = append(out, http.MethodHead)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// exact passes on requests for paths of the table as they are written there: nothing is cleaned or redirected.
func exact(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern == "" || path.Clean(r.URL.Path) != r.URL.Path {
			refuse(w, Errorf(http.StatusNotFound, "no such route"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// bounded answers maxRequests at once.
func bounded(h http.Handler) http.Handler {
	slots := make(chan struct{}, maxRequests)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			h.ServeHTTP(w, r)
		default:
			refuse(w, &Error{Status: http.StatusServiceUnavailable, Message: "too many requests at once", RetryAfter: time.Second})
		}
	})
}

// debugLog takes net/http's complaints about strangers' connections.
type debugLog struct{}

func (debugLog) Write(p []byte) (int, error) {
	log.Debugw("admin port", "err", string(p))
	return len(p), nil
}

// NewServer returns a server whose every wait has an end.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          stdlog.New(debugLog{}, "", 0),
	}
}
