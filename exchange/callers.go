package exchange

import (
	"crypto/tls"
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// maxCallerConns is how many connections a peer may have to the data port: a node makes maxDataConns, and may not have
// closed those of a life before.
const maxCallerConns = 2 * maxDataConns

// callers counts the connections of each peer to the data port. Its methods may be called concurrently.
type callers struct {
	mu    sync.Mutex
	conns map[peer.ID]int
}

// secureServer begins TLS on an accepted connection: only members get through the handshake, so that a stranger holds a
// connection for no longer than that takes.
func (x *Exchange) secureServer(c *dataConn) *tls.Conn {
	conf := x.tlsConfig("")
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		id, err := peerOf(s)
		if err != nil {
			return err
		}
		return x.admit(c, id)
	}
	return tls.Server(&corkConn{Conn: c}, conf)
}

// admit takes the connection of a peer that has proven who it is, if it is a member and has not too many.
func (x *Exchange) admit(c *dataConn, id peer.ID) error {
	if !x.connected(id) || x.isBanned(id) {
		return fmt.Errorf("%s is no member", id)
	}
	if err := x.callers.enter(c, id); err != nil {
		return err
	}
	if !c.door.known(c) {
		return errCancelled
	}
	return nil
}

// enter counts a connection for a peer, once. It is no other's then.
func (l *callers) enter(c *dataConn, id peer.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.gone:
		return errCancelled
	case c.caller == id:
		return nil
	case c.caller != "":
		return fmt.Errorf("the connection is %s's", c.caller)
	case l.conns[id] >= maxCallerConns:
		return fmt.Errorf("%s has %d connections", id, maxCallerConns)
	}
	c.caller = id
	l.conns[id]++
	return nil
}

// leave is told of each connection once, when it is closed.
func (l *callers) leave(c *dataConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.gone = true
	if c.caller == "" {
		return
	}
	if l.conns[c.caller]--; l.conns[c.caller] == 0 {
		delete(l.conns, c.caller)
	}
}

// peerOf returns the peer that a finished handshake has proven.
func peerOf(s tls.ConnectionState) (peer.ID, error) {
	key, err := libp2ptls.PubKeyFromCertChain(s.PeerCertificates)
	if err != nil {
		return "", err
	}
	return peer.IDFromPublicKey(key)
}
