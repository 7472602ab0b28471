package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	privnet "github.com/libp2p/go-libp2p/p2p/net/pnet"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	mss "github.com/multiformats/go-multistream"
)

// libp2p's private network has one key for a host. Here it has up to two: each connection is under one of them, in
// libp2p's own format (a nonce of 24 bytes, then salsa20). Who dials takes the first key, and dials again with the second if the
// handshake fails. Who is dialed finds the key out: what a dialer sends first is known, and only the right key
// uncovers it.

const nonceSize = 24 // bytes, of libp2p's private network

// greeting is what a dialer sends first.
var greeting = append([]byte{byte(len(mss.ProtocolID) + 1)}, mss.ProtocolID+"\n"...)

var (
	errHandshake  = errors.New("handshake failed (another mesh key?)")
	errNotOurMesh = errors.New("another mesh key, or no member")
)

// privateTransport is TCP under the mesh's keys.
type privateTransport struct {
	*tcp.TcpTransport
	keys *meshKeys
}

type dialKey struct{}

// Dial implements transport.Transport.
func (t *privateTransport) Dial(ctx context.Context, addr multiaddr.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	return t.DialWithUpdates(ctx, addr, p, nil)
}

// DialWithUpdates implements transport.DialUpdater.
func (t *privateTransport) DialWithUpdates(ctx context.Context, addr multiaddr.Multiaddr, p peer.ID, updates chan<- transport.DialUpdate) (c transport.CapableConn, err error) {
	keys := t.keys.all()
	if _, why := network.GetForceDirectDial(ctx); why == renewal {
		keys = keys[:1]
	}
	for _, key := range keys {
		c, err = t.TcpTransport.DialWithUpdates(context.WithValue(ctx, dialKey{}, key), addr, p, updates)
		if !errors.Is(err, errHandshake) {
			break
		}
	}
	return c, err
}

// renewal is the reason for a second connection to a peer: the first is under the key before.
const renewal = "mesh key"

// redial makes a connection under the first key to a peer that has one under another.
func redial(h host.Host) func(context.Context, peer.ID) error {
	return func(ctx context.Context, p peer.ID) error {
		_, err := h.Network().DialPeer(network.WithForceDirectDial(ctx, renewal), p)
		return err
	}
}

// keyedTransport is the transport of one connection. Under a key that goes it is no direct one to libp2p, which
// then allows another beside it and prefers that.
type keyedTransport struct {
	transport.Transport
	keys *meshKeys
	conn *memberConn // nil: gone already
}

// Proxy implements transport.Transport.
func (t keyedTransport) Proxy() bool { return !t.keys.first(t.conn) }

// privateUpgrader puts connections under the keys before anything else is said on them.
type privateUpgrader struct {
	transport.Upgrader
	keys *meshKeys
}

// Upgrade implements transport.Upgrader for connections that this host has dialed.
func (u *privateUpgrader) Upgrade(ctx context.Context, t transport.Transport, raw manet.Conn, dir network.Direction, p peer.ID, scope network.ConnManagementScope) (transport.CapableConn, error) {
	key, ok := ctx.Value(dialKey{}).(meshKey)
	c := &memberConn{Conn: raw, keys: u.keys, peer: p}
	var err error
	if !ok || dir != network.DirOutbound {
		err = errors.New("not dialed under a mesh key")
	} else {
		err = c.protect(key, raw)
	}
	if err != nil {
		scope.Done()
		return nil, errors.Join(err, raw.Close())
	}
	up, err := u.Upgrader.Upgrade(ctx, keyedTransport{t, u.keys, c}, c, dir, p, scope)
	if err != nil {
		c.Close() //nolint:errcheck // the handshake's error counts
		return nil, fmt.Errorf("%w: %w", errHandshake, err)
	}
	return up, nil
}

// UpgradeGatedMaListener implements transport.Upgrader for connections that others have dialed.
func (u *privateUpgrader) UpgradeGatedMaListener(t transport.Transport, l transport.GatedMaListener) transport.Listener {
	return upgradedListener{u.Upgrader.UpgradeGatedMaListener(t, privateListener{l, u.keys}), u.keys}
}

// upgradedListener gives each connection a transport that knows under which key it is, as dialed ones have.
type upgradedListener struct {
	transport.Listener
	keys *meshKeys
}

// Accept implements transport.Listener.
func (l upgradedListener) Accept() (transport.CapableConn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return listenedConn{c, keyedTransport{c.Transport(), l.keys, l.keys.find(c.RemoteMultiaddr())}}, nil
}

// listenedConn is a connection that the other side has dialed.
type listenedConn struct {
	transport.CapableConn
	keyed keyedTransport
}

// Transport implements transport.CapableConn.
func (c listenedConn) Transport() transport.Transport { return c.keyed }

// Stat implements network.ConnStat.
func (c listenedConn) Stat() network.ConnStats {
	if s, ok := c.CapableConn.(network.ConnStat); ok {
		return s.Stat()
	}
	return network.ConnStats{}
}

type privateListener struct {
	transport.GatedMaListener
	keys *meshKeys
}

// Accept implements transport.GatedMaListener. The key is found out later, in the connection's own goroutine.
func (l privateListener) Accept() (manet.Conn, network.ConnManagementScope, error) {
	c, scope, err := l.GatedMaListener.Accept()
	if err != nil {
		return nil, nil, err
	}
	return &memberConn{Conn: c, keys: l.keys, find: true}, scope, nil
}

// memberConn is a connection under one of the mesh's keys.
type memberConn struct {
	manet.Conn
	keys    *meshKeys
	peer    peer.ID // that was dialed; "" if it dialed this node
	gone    bool    // closed; guarded by keys.mu
	renewed bool    // there is another one under the first key; of meshKeys.renew alone
	find    bool    // the other side chose the key
	once    sync.Once
	err     error
	priv    net.Conn // Conn under its key
}

// protect puts the connection under a key; raw is where its bytes come from.
func (c *memberConn) protect(key meshKey, raw net.Conn) error {
	priv, err := privnet.NewProtectedConn(key.psk, raw)
	if err != nil {
		return err
	}
	if !c.keys.opened(c, key) {
		return errNotOurMesh
	}
	c.priv = priv
	return nil
}

// open finds out under which key the other side speaks. It waits for the first bytes; the upgrader closes the
// connection when that takes too long.
func (c *memberConn) open() error {
	c.once.Do(func() {
		if !c.find {
			return
		}
		head := make([]byte, nonceSize+len(greeting))
		if _, c.err = io.ReadFull(c.Conn, head); c.err != nil {
			return
		}
		key, ok := keyOf(head, c.keys.all())
		if !ok {
			c.err = errNotOurMesh
			return
		}
		c.err = c.protect(key, &replayConn{Conn: c.Conn, rest: head})
	})
	return c.err
}

// keyOf returns the key that uncovers a greeting.
func keyOf(head []byte, keys []meshKey) (meshKey, bool) {
	for _, key := range keys {
		trial, err := privnet.NewProtectedConn(key.psk, &replayConn{rest: head})
		if err != nil {
			continue
		}
		got := make([]byte, len(greeting))
		if _, err := io.ReadFull(trial, got); err == nil && bytes.Equal(got, greeting) {
			return key, true
		}
	}
	return meshKey{}, false
}

// Read implements net.Conn.
func (c *memberConn) Read(p []byte) (int, error) {
	if err := c.open(); err != nil {
		return 0, err
	}
	return c.priv.Read(p)
}

// Write implements net.Conn.
func (c *memberConn) Write(p []byte) (int, error) {
	if err := c.open(); err != nil {
		return 0, err
	}
	return c.priv.Write(p)
}

// Close implements net.Conn.
func (c *memberConn) Close() error {
	c.keys.closed(c)
	return c.Conn.Close()
}

// replayConn gives what was read already before what comes. Without Conn that is all.
type replayConn struct {
	net.Conn
	rest []byte
}

// Read implements net.Conn.
func (c *replayConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 && c.Conn == nil {
		return 0, io.EOF
	}
	if len(c.rest) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}
