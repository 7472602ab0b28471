package dht

import (
	"context"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// lookup asks for up to limit providers of one key, 0 for all, tells them in batches as they come, and returns how many
// there were.
func (d *DHT) lookup(ctx context.Context, key cid.Cid, limit int, tell func([]peer.AddrInfo)) int {
	k, done := d.table.use()
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ch := k.FindProvidersAsync(ctx, key, limit)
	seen := make(map[peer.ID]bool)
	for first := range ch {
		var batch []peer.AddrInfo
		for _, p := range append(drain(ch), first) {
			if p.ID == d.self {
				continue
			}
			seen[p.ID] = true
			batch = append(batch, peer.AddrInfo{ID: p.ID, Addrs: d.addrs(p.Addrs)})
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

// need returns how many of the zone are enough under a record's key.
func (d *DHT) need(r *record) int {
	if r.global {
		return d.cfg.GlobalAnnouncers
	}
	return d.cfg.ZoneAnnouncers
}

// enough reports whether so many others announce themselves under a record's key that this node need not.
func (d *DHT) enough(ctx context.Context, r *record) bool {
	before, _ := d.cfg.Members.Place(r.blob)
	if before < d.need(r) {
		return false // it is this node's to announce
	}
	if r.global && d.cfg.Members.Held(r.blob) >= d.cfg.GlobalAnnouncers {
		return true // the same who announce it globally at once
	}
	d.looks.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n, need, limit := 0, d.need(r), d.need(r)+1 // one may be this node
	if r.global {
		limit = 0 // those of all zones come
	}
	d.lookup(ctx, r.key, limit, func(found []peer.AddrInfo) {
		for _, p := range found {
			if !r.global || d.cfg.Members.Near(p.ID) {
				n++
			}
		}
		if n >= need {
			cancel()
		}
	})
	return n >= need
}
