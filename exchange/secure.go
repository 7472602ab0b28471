package exchange

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// alpn keeps the data port apart from libp2p's own TLS: a certificate good for one is good for the other. net/http
// refuses to speak under any other name.
const alpn = "http/1.1"

// maxDataConns is how many connections a node makes to the data port of a peer.
const maxDataConns = 8

// tlsConfig returns a single-use config for a connection with a peer; any peer if remote is "".
func (x *Exchange) tlsConfig(remote peer.ID) *tls.Config {
	conf, _ := x.identity.ConfigForPeer(remote)
	conf.NextProtos = []string{alpn}
	conf.DynamicRecordSizingDisabled = true
	return conf
}

// secured returns a listener of at most Config.MaxConns TLS connections, of members only. The handshake runs in the
// connection's own goroutine.
func (x *Exchange) secured(l net.Listener) net.Listener {
	return &dataListener{Listener: l, x: x, door: newDoor(x.cfg.MaxConns)}
}

type dataListener struct {
	net.Listener
	x    *Exchange
	door *door
}

func (l *dataListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := l.x.welcome(l.door, conn)
	if c == nil {
		return nil, net.ErrClosed
	}
	return l.x.secureServer(c), nil
}

func (l *dataListener) Close() error {
	l.door.close()
	return l.Listener.Close()
}

// welcome lets a connection in, as door.enter does.
func (x *Exchange) welcome(d *door, conn net.Conn) *dataConn {
	yieldTo(conn)
	return d.enter(conn, &x.callers)
}

// corkConn gathers TLS records into writes of chunkSize while it is corked: a record is 16 KiB, and a system call
// for each costs as much as the encryption.
type corkConn struct {
	net.Conn
	mu   sync.Mutex
	buf  []byte // nil while not corked
	most int    // bytes gathered at a time
}

var corkBuffers = sync.Pool{New: func() any { b := make([]byte, 0, chunkSize+1<<10); return &b }}

// cork begins to gather up to most bytes.
func (c *corkConn) cork(most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = most
	if c.buf == nil {
		c.buf = *corkBuffers.Get().(*[]byte)
	}
}

// uncork sends what was gathered.
func (c *corkConn) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buf == nil {
		return nil
	}
	_, err := c.Conn.Write(c.buf)
	b := c.buf[:0]
	corkBuffers.Put(&b)
	c.buf = nil
	return err
}

func (c *corkConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buf == nil {
		return c.Conn.Write(p)
	}
	if len(c.buf) > 0 && len(c.buf)+len(p) > min(c.most, cap(c.buf)) {
		if _, err := c.Conn.Write(c.buf); err != nil {
			return 0, err
		}
		c.buf = c.buf[:0]
	}
	if len(p) > cap(c.buf) {
		return c.Conn.Write(p)
	}
	c.buf = append(c.buf, p...)
	return len(p), nil
}

// client is the peer at the other end of a connection to the data port.
type client struct {
	conn *tls.Conn
	once sync.Once
	id   peer.ID
	err  error
}

type clientKey struct{}

// withClient keeps the connection where its requests find it: a *client under TLS, a *dataConn in plaintext.
func withClient(ctx context.Context, c net.Conn) context.Context {
	if conn, ok := c.(*tls.Conn); ok {
		return context.WithValue(ctx, clientKey{}, &client{conn: conn})
	}
	return context.WithValue(ctx, clientKey{}, c)
}

// clientOf returns the authenticated peer of a request and its connection.
func clientOf(r *http.Request) (peer.ID, *corkConn, error) {
	c, ok := r.Context().Value(clientKey{}).(*client)
	if !ok {
		return "", nil, errors.New("no TLS")
	}
	c.once.Do(func() {
		c.id, c.err = peerOf(c.conn.ConnectionState())
	})
	cork, ok := c.conn.NetConn().(*corkConn)
	if !ok {
		return "", nil, errors.New("no data connection")
	}
	return c.id, cork, c.err
}

// newClient returns the HTTP client of the data port. Hosts in its URLs are peer ids (see peerHost), so that the
// connections it keeps are by peer, and each is pinned to the identity that it was dialled for.
func (x *Exchange) newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				id, err := hostPeer(addr)
				if err != nil {
					return nil, err
				}
				return x.dialPort(ctx, id)
			},
			DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				id, err := hostPeer(addr)
				if err != nil {
					return nil, err
				}
				return x.dialData(ctx, id)
			},
			DisableCompression:  true,
			MaxIdleConnsPerHost: 4,
			MaxConnsPerHost:     maxDataConns,
			IdleConnTimeout:     time.Minute,
			ReadBufferSize:      16 << 10,
			TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dialPort connects to the data port of a peer.
func (x *Exchange) dialPort(ctx context.Context, id peer.ID) (net.Conn, error) {
	if x.isBanned(id) {
		return nil, fmt.Errorf("%s is no member", id)
	}
	addr, err := x.dataAddr(id)
	if err != nil {
		return nil, err
	}
	return x.cfg.Transport.DialContext(ctx, addr)
}

// dialData is dialPort, and the handshake with that very peer.
func (x *Exchange) dialData(ctx context.Context, id peer.ID) (net.Conn, error) {
	c, err := x.dialPort(ctx, id)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(c, x.tlsConfig(id))
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("handshake with %s at %s: %w", id, c.RemoteAddr(), err)
	}
	return conn, nil
}

// peerHost writes a peer id as the host of a URL.
func peerHost(id peer.ID) string { return hex.EncodeToString([]byte(id)) }

// hostPeer is the inverse of peerHost, with a port.
func hostPeer(addr string) (peer.ID, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	raw, err := hex.DecodeString(host)
	if err != nil {
		return "", err
	}
	return peer.IDFromBytes(raw)
}
