package node

import (
	"errors"
	"fmt"
	"os"

	"github.com/libp2p/go-libp2p/core/peer"
)

// up tells the world that the node is ready.
func (n *node) up() error {
	addr, err := n.dialable()
	if err != nil {
		return err
	}
	if err := writeFile(n.path(PeerAddrFile), []byte(addr+"\n"), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", PeerAddrFile, err)
	}
	n.state.Store(nil)
	log.Infow("ready", "peer", n.host.ID(), "zone", n.zone.name, "seed", n.cfg.Seed, "addr", addr,
		"mirror", n.mirrorListener.Addr().String(), "admin", n.adminListener.Addr().String(),
		"data", n.dataListener.Addr().String())
	return nil
}

// dialable returns an address that others reach this node at, with /p2p/ID.
func (n *node) dialable() (string, error) {
	addrs, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: n.host.ID(), Addrs: n.host.Addrs()})
	if err != nil {
		return "", err
	}
	if len(addrs) == 0 {
		return "", errors.New("--p2p-addr: the host has no address that others could reach")
	}
	return addrs[0].String(), nil
}

func (n *node) forgetAddr() error {
	if err := os.Remove(n.path(PeerAddrFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (n *node) notReady(why string) { n.state.Store(&why) }

// ready returns nil when the node is up, else why it is not.
func (n *node) ready() error {
	if why := n.state.Load(); why != nil {
		return errors.New(*why)
	}
	return nil
}
