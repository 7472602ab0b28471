package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/meshd-project/meshd/mirror"
)

// meshConn is a client's connection inside a CONNECT to a registry.
type meshConn struct {
	net.Conn
	decision
	leave func()
}

// Close implements net.Conn.
func (c *meshConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// CloseWrite lets TLS end its half.
func (c *meshConn) CloseWrite() error { return closeWrite(c.Conn) }

// intercept answers a CONNECT and hands the connection to the inner server. An error came before the answer.
func (p *Proxy) intercept(w http.ResponseWriter, d decision) error {
	leave, err := p.tunnels.enter()
	if err != nil {
		return err
	}
	conn, err := hijack(w)
	if err != nil {
		leave()
		return err
	}
	mesh := &meshConn{Conn: conn, decision: d, leave: leave}
	_ = conn.SetWriteDeadline(time.Now().Add(p.cfg.DialTimeout))
	if _, err := io.WriteString(conn, established); err != nil || !p.queue.put(tls.Server(mesh, p.cfg.CA.config(d.host))) {
		_ = mesh.Close() // the client has left, or the proxy stops
	}
	return nil
}

// targetKey is the decision in the context of an inner connection.
type targetKey struct{}

// newInner makes the server of intercepted connections; its limits are the mirror's.
func (p *Proxy) newInner() *http.Server {
	s := mirror.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, _ := r.Context().Value(targetKey{}).(decision)
		p.registry(w, r, d)
	}))
	s.ConnState = p.cfg.ConnState
	s.ErrorLog = stdlog.New(errorLog{}, "", 0)
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if t, ok := c.(*tls.Conn); ok {
			if m, ok := t.NetConn().(*meshConn); ok {
				_ = m.SetWriteDeadline(time.Time{})
				return context.WithValue(ctx, targetKey{}, m.decision)
			}
		}
		return ctx
	}
	return s
}

// errorLog takes what the inner server has to say: mostly that a client does not trust the node's CA.
type errorLog struct{}

func (errorLog) Write(b []byte) (int, error) {
	log.Warnw("intercepted connection failed (does the client trust `meshd ca`?)", "err", strings.TrimSpace(string(b)))
	return len(b), nil
}

// registry serves a request to a registry: a pull by the mirror, the rest by the registry itself.
func (p *Proxy) registry(w http.ResponseWriter, r *http.Request, d decision) {
	if p.mirror.Pulls(r) && p.pull(w, r, d) {
		return
	}
	p.forward(w, r, d)
}

// pull lets the mirror answer, and reports whether it did.
func (p *Proxy) pull(w http.ResponseWriter, r *http.Request, d decision) bool {
	query := "ns=" + url.QueryEscape(d.registry)
	if r.URL.RawQuery != "" {
		query = r.URL.RawQuery + "&" + query
	}
	asked := r.WithContext(r.Context())
	asked.URL = &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: query}
	answer := &unchallenged{ResponseWriter: w, header: http.Header{}}
	p.mirror.ServeHTTP(answer, asked)
	return !answer.withheld
}

// unchallenged holds a 401 back, header and body: only the registry's own may reach the client.
type unchallenged struct {
	http.ResponseWriter
	header   http.Header
	sent     bool
	withheld bool
}

// Header implements http.ResponseWriter.
func (u *unchallenged) Header() http.Header { return u.header }

// Unwrap is for http.ResponseController.
func (u *unchallenged) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (u *unchallenged) WriteHeader(status int) {
	switch {
	case u.sent || u.withheld:
		return
	case status == http.StatusUnauthorized:
		u.withheld = true
		return
	}
	u.sent = true
	header := u.ResponseWriter.Header()
	for name, values := range u.header {
		header[name] = values
	}
	u.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (u *unchallenged) Write(b []byte) (int, error) {
	u.WriteHeader(http.StatusOK)
	if u.withheld {
		return len(b), nil
	}
	return u.ResponseWriter.Write(b)
}

// ReadFrom implements io.ReaderFrom: without TLS a file leaves by sendfile.
func (u *unchallenged) ReadFrom(src io.Reader) (int64, error) {
	u.WriteHeader(http.StatusOK)
	if u.withheld {
		return io.Copy(io.Discard, src)
	}
	return io.Copy(u.ResponseWriter, src)
}

// queue is the listener of the inner server: connections come by put.
type queue struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
}

func newQueue() *queue {
	q := &queue{conns: make(chan net.Conn), done: make(chan struct{})}
	q.close = sync.OnceFunc(func() { close(q.done) })
	return q
}

// put hands a connection over and reports whether somebody took it.
func (q *queue) put(c net.Conn) bool {
	select {
	case q.conns <- c:
		return true
	case <-q.done:
		return false
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, fmt.Errorf("proxy: %w", net.ErrClosed)
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.close()
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return queueAddr{} }

type queueAddr struct{}

func (queueAddr) Network() string { return "proxy" }
func (queueAddr) String() string  { return "proxy" }
