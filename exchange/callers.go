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

// callers counts the connections of each peer to the data port under TLS. Its methods may be called concurrently.
type callers struct {
	mu    sync.Mutex
	conns map[peer.ID]int
}

// secureServer begins TLS on an accepted connection: only members get through the handshake, so that a stranger holds a
// connection for no longer than that takes.
func (x *Exchange) secureServer(c *corkConn) *tls.Conn {
	conf := x.tlsConfig("")
	conf.VerifyConnection = func(s tls.ConnectionState) error { return x.admit(c, s) }
	c.left = x.callers.leave
	return tls.Server(c, conf)
}

// admit takes the connection of a member that has not too many.
func (x *Exchange) admit(c *corkConn, s tls.ConnectionState) error {
	id, err := peerOf(s)
	if err != nil {
		return err
	}
	if !x.connected(id) || x.isBanned(id) {
		return fmt.Errorf("%s is no member", id)
	}
	return x.callers.enter(c, id)
}

func (l *callers) enter(c *corkConn, id peer.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.gone:
		return errCancelled
	case l.conns[id] >= maxCallerConns:
		return fmt.Errorf("%s has %d connections", id, maxCallerConns)
	}
	c.caller = id
	l.conns[id]++
	return nil
}

// leave is told of each connection once, when it is closed.
func (l *callers) leave(c *corkConn) {
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
