package trust

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

var log = logging.Logger("meshd/trust")

// Errors of Gate.Take.
var (
	ErrNoOperator = errors.New("this node knows no operator: give it --operator-public")
	ErrOld        = errors.New("the list is not newer than the one in force")
)

// Gate says who may be a member. The zero value is not useful; see NewGate.
type Gate struct {
	self     peer.ID
	operator ed25519.PublicKey // nil: nobody revokes
	save     func([]byte) error

	mu      sync.Mutex
	allow   map[peer.ID]bool // nil: everybody
	list    List
	raw     []byte // of list, as signed
	revoked map[peer.ID]bool
	cut     func() // has those closed who are not admitted any more; set by Run
	changed chan struct{}
}

var _ connmgr.ConnectionGater = (*Gate)(nil)

// NewGate returns a gate that admits everybody. operator may be nil. kept is the list that an earlier run saved, or
// nothing; one that the operator did not sign is left aside. save keeps a new list.
func NewGate(self peer.ID, operator ed25519.PublicKey, kept []byte, save func([]byte) error) *Gate {
	g := &Gate{self: self, operator: operator, save: save, changed: make(chan struct{}, 1)}
	if operator == nil || len(kept) == 0 {
		return g
	}
	list, err := Parse(kept, operator)
	if err != nil {
		log.Warnw("the revocations kept on disk do not count", "err", err)
		return g
	}
	g.put(list, kept)
	return g
}

func (g *Gate) put(list List, raw []byte) {
	g.list, g.raw, g.revoked = list, raw, make(map[peer.ID]bool, len(list.Peers))
	for _, p := range list.Peers {
		g.revoked[p] = true
	}
}

// Admits reports whether a peer may be a member. This node always may.
func (g *Gate) Admits(p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return p == g.self || !g.revoked[p] && (g.allow == nil || g.allow[p])
}

// Allow admits these peers and no others; with nil everybody. Those who are out are cut.
func (g *Gate) Allow(peers []peer.ID) {
	g.mu.Lock()
	g.allow = nil
	if peers != nil {
		g.allow = make(map[peer.ID]bool, len(peers))
		for _, p := range peers {
			g.allow[p] = true
		}
	}
	cut := g.cut
	g.mu.Unlock()
	if cut != nil {
		cut()
	}
}

// ParseAllow reads an allow list: a peer id a line, with empty lines and comments after #.
func ParseAllow(text string) ([]peer.ID, error) {
	peers := []peer.ID{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		p, err := peer.Decode(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: not a peer id", n)
		}
		peers = append(peers, p)
	}
	return peers, nil
}

// Revoked returns the list in force and its document.
func (g *Gate) Revoked() (List, []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return List{g.list.Serial, slices.Clone(g.list.Peers)}, g.raw
}

// Take puts a list in force that is signed by the operator and newer than the one before, saves it, cuts who is on it and
// has it spread. It fails with ErrNoOperator, ErrOld or an error that wraps ErrList; if it could only not be saved it is in
// force all the same.
func (g *Gate) Take(raw []byte) error {
	if g.operator == nil {
		return ErrNoOperator
	}
	list, err := Parse(raw, g.operator)
	if err != nil {
		return err
	}
	g.mu.Lock()
	if list.Serial <= g.list.Serial {
		g.mu.Unlock()
		return ErrOld
	}
	g.put(list, slices.Clone(raw))
	err = g.save(g.raw)
	cut, self := g.cut, g.revoked[g.self]
	g.mu.Unlock()
	log.Warnw("revoked peers", "serial", list.Serial, "count", len(list.Peers))
	if self {
		log.Errorw("this node has been revoked: the others do not deal with it any more", "peer", g.self)
	}
	if cut != nil {
		cut()
	}
	select {
	case g.changed <- struct{}{}:
	default:
	}
	if err != nil {
		return fmt.Errorf("keep the list: %w", err)
	}
	return nil
}

// InterceptPeerDial implements connmgr.ConnectionGater.
func (g *Gate) InterceptPeerDial(p peer.ID) bool { return g.Admits(p) }

// InterceptAddrDial implements connmgr.ConnectionGater.
func (g *Gate) InterceptAddrDial(p peer.ID, _ multiaddr.Multiaddr) bool { return g.Admits(p) }

// InterceptAccept implements connmgr.ConnectionGater: who it is comes later.
func (g *Gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured implements connmgr.ConnectionGater.
func (g *Gate) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.Admits(p)
}

// InterceptUpgraded implements connmgr.ConnectionGater. It looks again: the list may have come during the handshake.
func (g *Gate) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	return g.Admits(c.RemotePeer()), 0
}
