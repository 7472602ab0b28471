package node

import (
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
)

// mdnsService is the service name on the LAN. Peer ids and addresses are visible there; without the mesh key they
// are of no use.
const mdnsService = "_meshd._udp"

// startMDNS tells the LAN of h and calls found for each node seen there, in goroutines of its own. The caller stops it.
func startMDNS(h host.Host, found func(peer.AddrInfo)) (stop func(), err error) {
	s := mdns.NewMdnsService(h, mdnsService, notifee(found))
	if err := s.Start(); err != nil {
		return nil, err
	}
	return func() { s.Close() }, nil //nolint:errcheck // it always returns nil
}

type notifee func(peer.AddrInfo)

func (n notifee) HandlePeerFound(info peer.AddrInfo) { n(info) }
