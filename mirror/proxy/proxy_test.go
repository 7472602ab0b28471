package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshd-project/meshd/mirror"
)

// testMirror answers what it is given, and decides as the real one what a pull is.
type testMirror struct{ http.HandlerFunc }

func (testMirror) Pulls(r *http.Request) bool { return (*mirror.Mirror)(nil).Pulls(r) }

// testOrigin leads to one server, whatever the registry.
type testOrigin struct {
	base *url.URL
}

func (o testOrigin) Direct(registry string) (*url.URL, http.RoundTripper, error) {
	if o.base == nil {
		return nil, nil, fmt.Errorf("no way to %s", registry)
	}
	return o.base, transport, nil
}

var transport = &http.Transport{DisableKeepAlives: true}

// world is a proxy on a real port with everything around it.
type world struct {
	proxy  *Proxy
	server *httptest.Server
	cert   []byte
}

// newWorld starts a proxy. The registry is harbor.example; clients are on this machine.
func newWorld(t testing.TB, cfg Config, m http.HandlerFunc, origin *httptest.Server, dial Dialer) *world {
	t.Helper()
	w := &world{}
	cfg.CA, w.cert = newTestCA(t)
	cfg.Registries = []Registry{{Name: "harbor.example"}}
	o := testOrigin{}
	if origin != nil {
		var err error
		if o.base, err = url.Parse(origin.URL); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(origin.Close)
	}
	if dial == nil {
		dial = func(context.Context, string, bool) (net.Conn, error) {
			return nil, errors.New("nobody is to be dialled")
		}
	}
	var err error
	if w.proxy, err = New(cfg, testMirror{m}, o, dial); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.proxy.Serve() }()
	w.server = httptest.NewUnstartedServer(w.proxy)
	w.server.Config = mirror.NewServer(w.proxy)
	w.server.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = w.proxy.Shutdown(ctx)
		w.server.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// client is one that uses the proxy and trusts its CA and that of the given server.
func (w *world) client(t testing.TB, server *httptest.Server) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.cert)
	if server != nil {
		roots.AddCert(server.Certificate())
	}
	u, err := url.Parse(w.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(u), TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport: tr, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// connect sends a CONNECT and returns the connection, the answer's status line and its body.
func (w *world) connect(t testing.TB, target string, early string) (conn net.Conn, r *bufio.Reader, status string) {
	t.Helper()
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n%s", target, target, early)
	r = bufio.NewReader(conn)
	status, err = r.ReadString('\n')
	if err != nil {
		t.Fatalf("CONNECT %s: %v", target, err)
	}
	if !strings.Contains(status, " 200 ") {
		return conn, r, strings.TrimSpace(status)
	}
	for line := "-"; strings.TrimSpace(line) != ""; {
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return conn, r, strings.TrimSpace(status)
}

func get(t testing.TB, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// dialTo leads everywhere to one listener and records what was asked for.
func dialTo(addr net.Addr, asked *[]string) Dialer {
	return func(ctx context.Context, address string, named bool) (net.Conn, error) {
		if asked != nil {
			*asked = append(*asked, fmt.Sprintf("%s %v", address, named))
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr.String())
	}
}

func TestPullGoesToTheMirror(t *testing.T) {
	w := newWorld(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s?%s %s", r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("Authorization"))
	}, nil, nil)
	c := w.client(t, nil)
	for _, row := range []struct{ url, want string }{
		{"https://harbor.example/v2/a/b/manifests/latest", "GET /v2/a/b/manifests/latest?ns=harbor.example Bearer x"},
		{"https://harbor.example/v2/a/b/tags/list?n=3", "GET /v2/a/b/tags/list?n=3&ns=harbor.example Bearer x"},
		{"http://harbor.example/v2/a/b/manifests/latest", "GET /v2/a/b/manifests/latest?ns=harbor.example Bearer x"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, row.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer x")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != row.want {
			t.Errorf("%s: the mirror got %q, want %q", row.url, body, row.want)
		}
	}
}

// What is no pull reaches the registry as it was sent, and its answer comes back as it is.
func TestTheRestGoesToTheRegistry(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Www-Authenticate", `Bearer realm="https://harbor.example/token"`)
		w.Header().Set("Location", "http://"+r.Host+"/v2/a/blobs/uploads/7?_state=x%2By")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), body)
	}))
	w := newWorld(t, Config{}, func(http.ResponseWriter, *http.Request) { t.Error("the mirror was asked") }, origin, nil)
	c := w.client(t, nil)
	for _, row := range []struct{ method, path, body string }{
		{"GET", "/v2/", ""},
		{"GET", "/service/token?account=a&scope=repository%3Aa%2Fb%3Apull;x", ""},
		{"POST", "/v2/a/blobs/uploads/", ""},
		{"PATCH", "/v2/a/blobs/uploads/7?_state=x%2By", "layer"},
		{"PUT", "/v2/a/manifests/latest", "{}"},
		{"DELETE", "/v2/a/manifests/latest", ""},
		{"GET", "/v2/a/b/manifests/latest?ns=other.example", ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), row.method, "https://harbor.example"+row.path, strings.NewReader(row.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Basic abc")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := row.method + " " + row.path + " Basic abc " + row.body; string(body) != want {
			t.Errorf("the registry got %q, want %q", body, want)
		}
		if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Www-Authenticate") != `Bearer realm="https://harbor.example/token"` {
			t.Errorf("the client got %s, %v", resp.Status, resp.Header)
		}
		if got, want := resp.Header.Get("Location"), "https://harbor.example/v2/a/blobs/uploads/7?_state=x%2By"; got != want {
			t.Errorf("Location is %q, want %q", got, want)
		}
	}
}

func TestRelocate(t *testing.T) {
	client := &url.URL{Scheme: "https", Host: "harbor.example"}
	for _, row := range []struct{ base, location, want string }{
		{"https://10.1.1.1:8443", "https://10.1.1.1:8443/v2/a?b=c", "https://harbor.example/v2/a?b=c"},
		{"https://10.1.1.1:8443", "/v2/a", "/v2/a"},
		{"https://10.1.1.1:8443", "https://s3.example/x?sig=1", "https://s3.example/x?sig=1"},
		{"https://10.1.1.1/hub", "https://10.1.1.1/hub/v2/a%2Fb", "https://harbor.example/v2/a%2Fb"},
		{"https://10.1.1.1/hub", "https://10.1.1.1/other", "https://10.1.1.1/other"},
		{"https://10.1.1.1", "://", "://"},
	} {
		base, err := url.Parse(row.base)
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{"Location": {row.location}}
		relocate(h, base, client)
		if got := h.Get("Location"); got != row.want {
			t.Errorf("%s below %s became %s, want %s", row.location, row.base, got, row.want)
		}
	}
}

// The mirror's 401 is not the registry's: the client sees the one that the registry itself gives.
func TestTheChallengeIsTheRegistrysOwn(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Www-Authenticate", `Bearer realm="https://harbor.example/token"`)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, r.URL.RequestURI())
	}))
	w := newWorld(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Www-Authenticate", `Bearer realm="http://127.0.0.1:65001/token"`)
		w.Header().Set("X-Mirror", "1")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, "the mirror says no")
	}, origin, nil)
	resp, body := get(t, w.client(t, nil), "https://harbor.example/v2/a/manifests/latest")
	if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("Www-Authenticate") != `Bearer realm="https://harbor.example/token"` {
		t.Errorf("the client got %s, %v", resp.Status, resp.Header)
	}
	if body != "/v2/a/manifests/latest" || resp.Header.Get("X-Mirror") != "" {
		t.Errorf("the client got %q, %v: some of it is the mirror's", body, resp.Header)
	}
}

func TestOtherRequestsGoToTheMirror(t *testing.T) {
	w := newWorld(t, Config{}, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL) }, nil, nil)
	if _, body := get(t, http.DefaultClient, w.server.URL+"/v2/"); body != "/v2/" {
		t.Errorf("got %q", body)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestTunnelIsTheServersOwnTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from "+r.Host) }))
	defer server.Close()
	var asked []string
	w := newWorld(t, Config{}, nil, nil, dialTo(server.Listener.Addr(), &asked))
	resp, body := get(t, w.client(t, server), "https://example.com/")
	if body != "hello from example.com" || resp.TLS.PeerCertificates[0].Subject.String() != server.Certificate().Subject.String() {
		t.Errorf("got %q from %v", body, resp.TLS.PeerCertificates[0].Subject)
	}
	if len(asked) != 1 || asked[0] != "example.com:443 false" {
		t.Errorf("dialled %q", asked)
	}
}

func TestPlainRequestsArePassedOn(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" || r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Upgrade") != "" {
			t.Errorf("the server got %v", r.Header)
		}
		fmt.Fprint(w, "hello from "+r.Host)
	}))
	defer server.Close()
	w := newWorld(t, Config{}, nil, nil, dialTo(server.Listener.Addr(), nil))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://example.com/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Proxy-Authorization", "Basic abc")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	resp, err := w.client(t, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "hello from example.com" {
		t.Errorf("got %q", body)
	}
}

// Each half of a tunnel ends by itself: a server may answer after the client has said all.
func TestHalfClose(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		all, _ := io.ReadAll(conn)
		fmt.Fprintf(conn, "you said %s", all)
	}()
	w := newWorld(t, Config{}, nil, nil, dialTo(l.Addr(), nil))
	conn, r, _ := w.connect(t, "example.com:443", "early ") // bytes that come with the CONNECT are not lost
	fmt.Fprint(conn, "and late")
	if err := closeWrite(conn); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || string(got) != "you said early and late" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRefusalsSayWhy(t *testing.T) {
	rule, err := ParseRule("bad.example=refuse")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, Config{Rules: []Rule{rule}}, nil, nil, func(context.Context, string, bool) (net.Conn, error) {
		return nil, errors.New("127.0.0.1 is a loopback address")
	})
	for _, row := range []struct{ target, want string }{
		{"bad.example:443", `403 meshd: the rule bad.example=refuse refuses bad.example:443`},
		{"example.com:25", "403 meshd: port 25 is not open: --proxy-rule example.com:25=direct opens it"},
		{"localhost:443", "502 meshd: localhost:443: tunnel: 127.0.0.1 is a loopback address"},
		{"example.com", "400 meshd: CONNECT example.com: want HOST:PORT"},
	} {
		_, r, status := w.connect(t, row.target, "")
		if status != "HTTP/1.1 "+row.want {
			t.Errorf("CONNECT %s: %q, want %q", row.target, status, row.want)
		}
		if rest, _ := io.ReadAll(r); !strings.HasSuffix(string(rest), "meshd: "+strings.SplitN(row.want, "meshd: ", 2)[1]+"\n") {
			t.Errorf("CONNECT %s: body %q", row.target, rest)
		}
	}
	resp, body := get(t, w.client(t, nil), "http://bad.example/")
	if resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "refuses bad.example:80") {
		t.Errorf("got %s %q", resp.Status, body)
	}
	_, err = w.client(t, nil).Get("https://bad.example/") //nolint:bodyclose // there is none
	if err == nil || !strings.Contains(err.Error(), "meshd: the rule") {
		t.Errorf("a Go client is told %v", err)
	}
}

func TestTunnelsAreBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWorld(t, Config{MaxTunnels: 2}, nil, nil, dialTo(l.Addr(), nil))
	first, _, _ := w.connect(t, "a.example:443", "")
	w.connect(t, "harbor.example:443", "") // an intercepted one counts too
	if _, _, status := w.connect(t, "b.example:443", ""); !strings.Contains(status, "503 meshd: 2 tunnels are open") {
		t.Errorf("the third tunnel: %q", status)
	}
	first.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		conn, _, status := w.connect(t, "b.example:443", "")
		if strings.Contains(status, " 200 ") {
			break
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatalf("a place that is free again is not given: %q", status)
		}
	}
}

// A registry that never answers and a client that stops in the middle of a push are both cut.
func TestPassedOnRequestsAreCut(t *testing.T) {
	ended := make(chan error, 100)
	var asked atomic.Int32
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			ended <- err
			return
		}
		<-r.Context().Done()
		ended <- r.Context().Err()
	}))
	w := newWorld(t, Config{IdleTimeout: 100 * time.Millisecond, LastTimeout: 100 * time.Millisecond}, nil, origin, nil)
	reach := func(try func()) error { // on a busy machine the time may be over before the registry hears of it
		for before := asked.Load(); asked.Load() == before; {
			try()
		}
		return <-ended
	}
	err := reach(func() {
		resp, body := get(t, w.client(t, nil), "https://harbor.example/v2/")
		if resp.StatusCode != http.StatusGatewayTimeout || body != "meshd: no byte passed in time\n" {
			t.Errorf("a registry that does not answer: %s %q", resp.Status, body)
		}
	})
	if err == nil {
		t.Error("the registry's side is still open")
	}
	err = reach(func() {
		silent, push := io.Pipe()
		defer push.Close()
		go fmt.Fprint(push, "half a la")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "https://harbor.example/v2/a/blobs/uploads/7", silent)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := w.client(t, nil).Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusGatewayTimeout {
				t.Errorf("a client that stops: %s", resp.Status)
			}
		}
	})
	if err == nil {
		t.Error("the registry got the whole of a push that stopped")
	}
}

// Whoever wants to know when nobody is served hears of tunnels and of requests inside CONNECT.
func TestConnStateIsTold(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	states := make(chan http.ConnState, 16)
	w := newWorld(t, Config{ConnState: func(_ net.Conn, s http.ConnState) { states <- s }}, func(w http.ResponseWriter, r *http.Request) {}, nil, dialTo(l.Addr(), nil))
	expect := func(want ...http.ConnState) {
		t.Helper()
		for _, s := range want {
			select {
			case got := <-states:
				if got != s {
					t.Errorf("told %v, want %v", got, s)
				}
			case <-time.After(time.Minute):
				t.Fatalf("not told of %v", s)
			}
		}
	}
	conn, _, _ := w.connect(t, "example.com:443", "")
	expect(http.StateActive)
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	conn.Close()
	expect(http.StateClosed)
	c := w.client(t, nil)
	get(t, c, "https://harbor.example/v2/a/manifests/latest")
	expect(http.StateNew, http.StateActive, http.StateIdle)
	c.CloseIdleConnections()
	expect(http.StateClosed)
}
