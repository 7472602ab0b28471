package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"golang.org/x/sync/errgroup"
)

// run serves until ctx is done or a part fails.
func (n *node) run(ctx context.Context) error {
	// The parts end when they are told to, not with ctx: clients are served to the end first.
	stage := context.WithoutCancel(ctx)
	failed, fail := context.WithCancelCause(stage)
	defer fail(nil)
	meshCtx, stopMesh := context.WithCancel(stage)
	defer stopMesh()
	exchangeCtx, stopExchange := context.WithCancel(stage)
	defer stopExchange()
	watch := func(name string, f func() error) func() error {
		return func() error {
			err := f()
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
				fail(err)
			}
			return err
		}
	}

	life, endLife := context.WithCancel(ctx)
	defer endLife()
	n.endLife = endLife

	var fronts, mesh, core errgroup.Group
	for _, p := range n.coreParts() {
		core.Go(watch(p.name, func() error { return p.run(exchangeCtx) }))
	}
	for _, p := range n.meshParts() {
		mesh.Go(watch(p.name, func() error { return p.run(meshCtx) }))
	}
	mesh.Go(func() error { return n.comeBack(meshCtx) })
	mesh.Go(func() error { n.findPlace(meshCtx); return nil })
	fronts.Go(watch("proxy", n.proxy.Serve))
	fronts.Go(watch("admin", n.serveAdmin))
	if n.preheatServer != nil {
		fronts.Go(watch("preheat address", n.servePreheat))
	}
	if n.zone.source == "none" { // clients wait until it is known
		await(n.settled, life, failed)
	}
	var errs []error
	if life.Err() == nil {
		mesh.Go(watch("tags file", func() error {
			return keepFile(meshCtx, n.path(TagsFile), tagsInterval, func() []byte { return tagsText(n.mirror.Tags()) })
		}))
		fronts.Go(watch("mirror", func() error { return serve(n.mirrorServer, n.mirrorListener) }))
		errs = append(errs, n.up())
		if errs[0] == nil {
			await(nil, life, failed)
		}
	}
	if n.again.Load() {
		n.notReady("changing to zone " + *n.nextZone.Load())
	} else {
		n.notReady("stopping")
	}
	errs = append(errs, n.forgetAddr(), n.drain(failed))
	stopMesh()
	errs = append(errs, mesh.Wait())
	stopExchange()
	errs = append(errs, core.Wait(), n.adminServer.Close(), n.closePreheat(), fronts.Wait(), n.close())
	log.Infow("stopped", "peer", n.host.ID())
	return errors.Join(errs...)
}

// part is what runs until its context ends; an error of it stops the node.
type part struct {
	name string // in errors
	run  func(context.Context) error
}

// coreParts end last.
func (n *node) coreParts() []part {
	parts := []part{{"store", n.store.Run}, {"exchange", n.exchange.Run}}
	if n.storage != nil {
		parts = append(parts, part{"seed storage", n.storage.Run})
	}
	return parts
}

// meshParts end once clients have been served.
func (n *node) meshParts() []part {
	return []part{
		{"mesh key", func(ctx context.Context) error { return n.meshKeys.Run(ctx, redial(n.host)) }},
		{"revocations", func(ctx context.Context) error { return n.gate.Run(ctx, n.host, n.topology.Lost) }},
		{"allow list", n.keepAllow},
		{"topology", n.topology.Run},
		{"gossip", n.gossip.Run},
		{"dht", n.dht.Run},
		{"bootstrap", n.bootstrap.Run},
		{"peers file", func(ctx context.Context) error {
			return keepFile(ctx, n.path(PeersFile), peersInterval, func() []byte { return peersText(n.topology.Members()) })
		}},
		{"preheat", n.preheat.Run},
	}
}

// await returns when done is closed or one of the contexts ends.
func await(done <-chan struct{}, a, b context.Context) {
	select {
	case <-done:
	case <-a.Done():
	case <-b.Done():
	}
}

// drain has the mirror finish what it does, within DrainTimeout, or at once if a part has failed. If another life
// follows, nobody is turned away: who has got in is served, the others queue.
func (n *node) drain(failed context.Context) error {
	if !n.again.Load() {
		n.mirror.Drain()
	}
	ctx, cancel := context.WithTimeout(failed, n.cfg.DrainTimeout)
	defer cancel()
	var tunnels errgroup.Group
	tunnels.Go(func() error { return n.proxy.Shutdown(ctx) })
	err := n.mirrorServer.Shutdown(ctx)
	if err != nil {
		err = n.mirrorServer.Close()
	}
	return errors.Join(err, tunnels.Wait())
}

func serve(s *http.Server, l net.Listener) error {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
