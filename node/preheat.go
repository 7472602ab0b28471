package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/meshd-project/meshd/exchange"
	"github.com/meshd-project/meshd/exchange/store"
	"github.com/meshd-project/meshd/exchange/swarm"
	"github.com/meshd-project/meshd/mirror"
	"github.com/meshd-project/meshd/node/topology"
	"github.com/meshd-project/meshd/seed/origin"
	"github.com/meshd-project/meshd/seed/preheat"
)

// openPreheat makes the part that runs preheat jobs.
func (n *node) openPreheat() (err error) {
	n.preheat, err = preheat.New(preheat.Config{
		Dir:     n.path(PreheatDir),
		Self:    preheat.Member{ID: n.host.ID(), Name: ipOf(n.host.Addrs()), Zone: n.zone.name, Seed: n.cfg.Seed},
		Members: n.preheatMembers,
		Settled: n.settled,
	}, n.host, preheatOrigin{n.origin, n.cfg.Mirror.DefaultRegistry, n.direct}, preheatBlobs{n.exchange, documents{n.store}, n.mirror})
	if err != nil {
		return err
	}
	return n.openHarbor()
}

// preheatMembers are the other nodes, those of the own zone first, then by distance; those of unknown distance last.
func (n *node) preheatMembers() []preheat.Member {
	members := n.topology.Members()
	rank := func(m topology.Member) (int, time.Duration) {
		switch d := m.Distance(); {
		case m.Zone == n.zone.name:
			return 0, d
		case d > 0:
			return 1, d
		}
		return 2, 0
	}
	slices.SortStableFunc(members, func(a, b topology.Member) int {
		ra, da := rank(a)
		rb, db := rank(b)
		return cmp.Or(cmp.Compare(ra, rb), cmp.Compare(da, db), cmp.Compare(a.ID, b.ID))
	})
	var out []preheat.Member
	for _, m := range members {
		name, _, err := net.SplitHostPort(m.DataAddr)
		if err != nil {
			name = ipOf(m.Addrs)
		}
		out = append(out, preheat.Member{ID: m.ID, Name: name, Zone: m.Zone, Seed: m.Seed, Addrs: m.Addrs})
	}
	return out
}

// ipOf returns the first address that is not loopback, or the first; "" if there is none.
func ipOf(addrs []multiaddr.Multiaddr) string {
	first := ""
	for _, a := range addrs {
		ip, err := manet.ToIP(a)
		if err == nil && !ip.IsLoopback() {
			return ip.String()
		}
		if err == nil && first == "" {
			first = ip.String()
		}
	}
	return first
}

// preheatOrigin is the registry client as preheat sees it: preheat.Origin.
type preheatOrigin struct {
	c               *origin.Client
	defaultRegistry string
	direct          *directBlobs
}

func (o preheatOrigin) Listed(registry string) bool {
	return o.c.Listed(registry) || strings.EqualFold(registry, o.defaultRegistry)
}

func (o preheatOrigin) Authorization(ctx context.Context, registry string) (string, error) {
	return o.c.Authorization(ctx, registry)
}

func (o preheatOrigin) Public(ctx context.Context, r preheat.Repository, d digest.Digest) bool {
	return o.direct.public(ctx, mirror.BlobWant{Ref: mirror.Ref{Registry: r.Registry, Repository: r.Name}, Digest: d})
}

// acceptManifests names every kind of manifest that preheat reads.
var acceptManifests = strings.Join([]string{
	v1.MediaTypeImageIndex, v1.MediaTypeImageManifest,
	"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
}, ", ")

func (o preheatOrigin) Manifest(ctx context.Context, r preheat.Repository, reference, authorization string) (preheat.Document, error) {
	resp, err := o.c.Do(ctx, origin.Request{
		Ref: origin.Ref{Registry: r.Registry, Repository: r.Name}, Path: "manifests/" + reference,
		Header: http.Header{"Accept": {acceptManifests}}, Authorization: authorization,
	})
	if err != nil {
		return preheat.Document{}, preheatError(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return preheat.Document{}, fmt.Errorf("read manifest %s of %s: %w", reference, r, err)
	}
	d := preheat.Document{Digest: digest.FromBytes(data), MediaType: resp.Header.Get("Content-Type"), Data: data}
	if named, err := digest.Parse(reference); err == nil {
		d.Digest = named
	}
	if len(data) > maxDocument || d.Digest.Algorithm().FromBytes(data) != d.Digest {
		return preheat.Document{}, fmt.Errorf("manifest %s of %s: %w", reference, r, preheat.ErrCorrupt)
	}
	return d, nil
}

// preheatError puts preheat's own error in front of one that it is to tell apart.
func preheatError(err error) error {
	var refused *exchange.RefusedError
	if errors.As(err, &refused) {
		switch refused.Kind {
		case swarm.OriginNotFound:
			return fmt.Errorf("%w: %w", preheat.ErrUnknown, err)
		case swarm.OriginUnauthorized:
			return fmt.Errorf("%w: %w", preheat.ErrDenied, err)
		}
	}
	for _, row := range []struct{ from, to error }{
		{origin.ErrUnauthorized, preheat.ErrDenied},
		{origin.ErrDenied, preheat.ErrDenied},
		{origin.ErrNotFound, preheat.ErrUnknown},
		{origin.ErrReference, preheat.ErrInvalid},
		{exchange.ErrCorruptOrigin, preheat.ErrCorrupt},
		{store.ErrNoSpace, preheat.ErrNoRoom},
		{store.ErrUnsupported, preheat.ErrInvalid},
		{exchange.ErrTooLarge, preheat.ErrInvalid},
		{exchange.ErrInvalidDigest, preheat.ErrInvalid},
	} {
		if errors.Is(err, row.from) {
			return fmt.Errorf("%w: %w", row.to, err)
		}
	}
	return err
}

// preheatBlobs is the exchange as preheat sees it: preheat.Blobs.
type preheatBlobs struct {
	x      *exchange.Exchange
	docs   documents
	mirror *mirror.Mirror // told whose the documents are
}

func (b preheatBlobs) Fetch(ctx context.Context, w preheat.Want, progress func(int64)) error {
	err := b.x.Fetch(ctx, exchange.Want{
		Digest: w.Digest, Size: w.Size, Class: swarm.Background,
		Origin:        swarm.OriginRef{Registry: w.Repository.Registry, Repository: w.Repository.Name},
		Authorization: w.Authorization, FromPeers: w.Private && w.Authorization == "",
	}, progress)
	if err != nil {
		return preheatError(err)
	}
	return nil
}

func (b preheatBlobs) Keep(r preheat.Repository, d preheat.Document) error {
	if _, scoped := store.Content(d.Digest); scoped || store.IsFile(d.Digest) {
		return preheat.ErrInvalid
	}
	if err := b.docs.Put(d.Digest, d.MediaType, d.Data); err != nil {
		return err
	}
	b.mirror.Name(mirror.Ref{Registry: r.Registry, Repository: r.Name}, d.Digest)
	return nil
}

// The seams hold.
var (
	_ preheat.Origin = preheatOrigin{}
	_ preheat.Blobs  = preheatBlobs{}
)
