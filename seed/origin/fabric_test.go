package origin

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	stdlog "log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// fabric is a network in memory: names with addresses, servers behind them, and the client's own rule about
// addresses in front. It works in synctest bubbles.
type fabric struct {
	t *testing.T

	mu        sync.Mutex
	names     map[string]netip.Addr
	listeners map[netip.AddrPort]*memListener
	dialled   []string
	refuse    map[string]int // connections still to refuse, by host:port
}

func newFabric(t *testing.T) *fabric {
	return &fabric{
		t:         t,
		names:     make(map[string]netip.Addr),
		listeners: make(map[netip.AddrPort]*memListener),
		refuse:    make(map[string]int),
	}
}

// serve runs a handler at a URL whose host has the address ip.
func (f *fabric) serve(rawURL, ip string, h http.HandlerFunc) {
	f.t.Helper()
	scheme, rest, _ := strings.Cut(rawURL, "://")
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		host, port = rest, map[string]string{"http": "80", "https": "443"}[scheme]
	}
	addr := netip.MustParseAddr(ip)
	at := netip.MustParseAddrPort(net.JoinHostPort(ip, port))
	l := &memListener{addr: at, conns: make(chan net.Conn), done: make(chan struct{})}
	f.mu.Lock()
	f.names[host] = addr
	f.listeners[at] = l
	f.mu.Unlock()

	var wg sync.WaitGroup
	srv := &http.Server{ErrorLog: stdlog.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wg.Add(1)
		defer wg.Done()
		h(w, r)
	})}
	wg.Go(func() {
		if scheme == "https" {
			_ = srv.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{testCA().leaf}}))
		} else {
			_ = srv.Serve(l)
		}
	})
	f.t.Cleanup(func() {
		_ = srv.Close()
		wg.Wait()
	})
}

// dial is the client's dialer.
func (f *fabric) dial(ctx context.Context, _, address string, r reach) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	addr, known := f.names[host]
	if !known {
		addr, err = netip.ParseAddr(host)
	}
	f.dialled = append(f.dialled, address)
	refused := f.refuse[address] > 0
	if refused {
		f.refuse[address]--
	}
	f.mu.Unlock()
	if !known && err != nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	at := net.JoinHostPort(addr.String(), port)
	if err := r.guard("tcp", at, nil); err != nil {
		return nil, err
	}
	l := f.listeners[netip.MustParseAddrPort(at)]
	if l == nil || refused {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	select {
	case l.conns <- memConn{theirs, l.addr}:
		return memConn{ours, l.addr}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.done:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
}

// client makes a client in this network. Names in the .test domain have valid certificates.
func (f *fabric) client(cfg Config) *Client {
	f.t.Helper()
	c, err := newClient(cfg, f.dial)
	if err != nil {
		f.t.Fatal(err)
	}
	c.unnamed = newNetwork(cfg.withDefaults(), f.dial, &tls.Config{RootCAs: testCA().pool})
	for _, ep := range c.listed {
		r := cfg.Registries[ep.name]
		ep.net = newNetwork(cfg.withDefaults(), f.dial, &tls.Config{RootCAs: testCA().pool, InsecureSkipVerify: r.Insecure})
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c
}

// count is how often an address was dialled.
func (f *fabric) count(address string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.dialled {
		if a == address {
			n++
		}
	}
	return n
}

type memListener struct {
	addr  netip.AddrPort
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

type memConn struct {
	net.Conn
	at netip.AddrPort
}

func (c memConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.at) }

type authority struct {
	pool *x509.CertPool
	pem  []byte
	leaf tls.Certificate
}

// testCA is a certificate for hosts of the .test domain and loopback, its own authority.
var testCA = sync.OnceValue(func() authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "meshd test"},
		NotBefore:             time.Unix(0, 0),
		NotAfter:              time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		DNSNames:              []string{"*.test", "registry-1.docker.io"},
		IPAddresses:           []net.IP{net.ParseIP("127.0.0.1")},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	a := authority{pool: x509.NewCertPool(), pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	a.pool.AppendCertsFromPEM(a.pem)
	a.leaf = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return a
})

func caFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, testCA().pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// plain is a configuration with the one registry reg.test at http://reg.test.
func plain() Config {
	return Config{Registries: map[string]Registry{"reg.test": {URL: "http://reg.test"}}}
}

var (
	content  = bytes.Repeat([]byte("0123456789"), 100)
	ourBlob  = digest.FromBytes(content)
	testRef  = Ref{Registry: "reg.test", Repository: "team/app"}
	blobPath = "/v2/team/app/blobs/" + ourBlob.String()
)

// wholeBlob asks for all of ourBlob.
func wholeBlob() BlobRequest { return BlobRequest{Ref: testRef, Digest: ourBlob, Length: -1} }

// serveBlob is a decent origin with one blob.
func serveBlob(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/blobs/"+ourBlob.String()) {
		ociError(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func ociError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"no","detail":{"a":1}}]}`, code)
}
