package dht

import (
	"context"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// lookup asks for the providers of one key, tells them in batches as they come, and returns how many there were.
func (d *DHT) lookup(ctx context.Context, key cid.Cid, tell func([]peer.AddrInfo)) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ch := d.kad.FindProvidersAsync(ctx, key, d.cfg.ZoneAnnouncers)
	seen := make(map[peer.ID]bool)
	for first := range ch {
		var batch []peer.AddrInfo
		for _, p := range append(drain(ch), first) {
			if p.ID == d.self {
				continue
			}
			seen[p.ID] = true
			batch = append(batch, peer.AddrInfo{ID: p.ID, Addrs: d.cfg.AddrFilter(p.Addrs)})
		}
		if len(batch) > 0 {
			tell(batch)
		}
	}
	return len(seen)
}

// drain takes what is ready without waiting.
func drain(ch <-chan peer.AddrInfo) []peer.AddrInfo {
	var out []peer.AddrInfo
	for {
		select {
		case p, ok := <-ch:
			if !ok {
				return out
			}
			out = append(out, p)
		default:
			return out
		}
	}
}
