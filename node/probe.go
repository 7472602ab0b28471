package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	privnet "github.com/libp2p/go-libp2p/p2p/net/pnet"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	mss "github.com/multiformats/go-multistream"
)

const probeTimeout = 5 * time.Second // of one question

// prober asks an address for the peer id that answers there: libp2p dials only ids that it knows, but a DNS name or
// a bare address tells none. It starts the same handshake as a connection (mesh key, TLS) and hangs up once the
// server's certificate has proven the id, so that the other side sees a failed handshake and no connection.
type prober struct {
	id      *libp2ptls.Identity
	keys    *meshKeys
	timeout time.Duration
}

func newProber(key crypto.PrivKey, keys *meshKeys) (*prober, error) {
	id, err := libp2ptls.NewIdentity(key)
	if err != nil {
		return nil, err
	}
	return &prober{id: id, keys: keys, timeout: probeTimeout}, nil
}

var errProbed = errors.New("probed")

// peerID returns the id of the node at a TCP address ip:port.
func (p *prober) peerID(ctx context.Context, addr string) (id peer.ID, err error) {
	for _, key := range p.keys.all() {
		if id, err = p.ask(ctx, addr, key); !errors.Is(err, errHandshake) {
			break
		}
	}
	return id, err
}

// ask is peerID under one of the mesh's keys.
func (p *prober) ask(ctx context.Context, addr string, key meshKey) (peer.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { raw.Close() }) //nolint:errcheck // it only unblocks
	defer stop()
	conn, err := privnet.NewProtectedConn(key.psk, raw)
	if err != nil {
		return "", err
	}
	if err := mss.SelectProtoOrFail(protocol.ID(libp2ptls.ID), conn); err != nil {
		return "", fmt.Errorf("no member of this mesh answers at %s: %w: %w", addr, errHandshake, err)
	}
	conf, keys := p.id.ConfigForPeer("")
	verify := conf.VerifyPeerCertificate
	conf.VerifyPeerCertificate = func(certs [][]byte, chains [][]*x509.Certificate) error {
		if err := verify(certs, chains); err != nil {
			return err
		}
		return errProbed
	}
	if err := tls.Client(conn, conf).HandshakeContext(ctx); !errors.Is(err, errProbed) {
		return "", fmt.Errorf("handshake with %s: %w", addr, err)
	}
	public := <-keys
	if public == nil {
		return "", fmt.Errorf("handshake with %s: no key", addr)
	}
	return peer.IDFromPublicKey(public)
}
