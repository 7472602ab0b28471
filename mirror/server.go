package mirror

import (
	"net/http"
	"time"
)

// NewServer returns a server whose every wait on a client has an end: headers
// have to arrive in 10 s, an idle connection is closed after 60 s. Bodies in
// either direction are bounded by the Mirror itself, by progress and not in all:
// ReadTimeout and WriteTimeout would cut a long pull, so they stay unset. The
// caller sets what else it needs (ErrorLog, BaseContext) before Serve.
func NewServer(m http.Handler) *http.Server {
	return &http.Server{
		Handler:           m,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    64 << 10,
	}
}
