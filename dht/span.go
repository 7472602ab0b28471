package dht

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/opencontainers/go-digest"
)

// Spans is the number of spans of a blob: runs of pieces of equal number, each with a key of its own.
const Spans = 4

// ProvideSpans announces this node in its zone as a holder of some spans of blob (0 to Spans-1). The records are placed
// once and run out after RecordTTL: who still holds no more by then says so again. In a large zone they are left to others
// as those of whole blobs are. It returns when they are placed; alone in the mesh it succeeds.
func (d *DHT) ProvideSpans(ctx context.Context, blob digest.Digest, spans []int) error {
	var errs []error
	for _, i := range spans {
		r := record{key: spanKey(d.cfg.Zone, blob, i), blob: blob, must: d.cfg.Seed}
		if err := d.own.once(ctx, &r); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("announce spans of %s: %w", blob, err)
	}
	return nil
}

// findSpans looks up who holds some of a blob in the zone.
func (d *DHT) findSpans(ctx context.Context, blob digest.Digest, tell func([]peer.AddrInfo)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range Spans {
		wg.Go(func() { d.lookup(ctx, spanKey(d.cfg.Zone, blob, i), d.cfg.ZoneAnnouncers, tell) })
	}
}
