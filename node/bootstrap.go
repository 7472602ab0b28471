package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/sync/semaphore"
)

const (
	bootstrapDials = 8    // addresses tried at once
	bootstrapMax   = 256  // addresses looked at for one attempt
	bootstrapTries = 16   // of these, tried in one attempt while nobody is connected
	healTries      = 3    // and while somebody is
	bootstrapLine  = 1024 // bytes of a line in a file
	resolveTimeout = 5 * time.Second
	healFactor     = 8 // attempts are this much rarer while members are connected
)

// resolver is the part of net.Resolver that bootstrap needs.
type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// bootstrapper finds the way into the mesh: from what the operator configured and from the members that an earlier
// run wrote down. While nobody is connected it tries often, then now and then, to heal a mesh that fell apart.
type bootstrapper struct {
	host      host.Host
	probe     *prober
	specs     []bootstrapSpec
	peersFile string
	interval  time.Duration
	dns       resolver
	connected func() int // members connected

	// mu guards ids.
	mu  sync.Mutex
	ids map[string]peer.ID // address -> who answered there last
}

func newBootstrapper(h host.Host, p *prober, specs []string, peersFile string, interval time.Duration, connected func() int) (*bootstrapper, error) {
	b := &bootstrapper{
		host: h, probe: p, peersFile: peersFile, interval: interval, dns: net.DefaultResolver, connected: connected,
		ids: make(map[string]peer.ID),
	}
	for _, s := range specs {
		spec, err := parseBootstrap(s)
		if err != nil {
			return nil, err
		}
		b.specs = append(b.specs, spec)
	}
	return b, nil
}

// Run tries until ctx is done and returns nil.
func (b *bootstrapper) Run(ctx context.Context) error {
	if b.mdns() {
		stop, err := startMDNS(b.host, func(info peer.AddrInfo) {
			if err := b.connect(ctx, info); err != nil {
				log.Debugw("node on the LAN not reached", "peer", info.ID, "err", err)
			}
		})
		if err != nil {
			log.Warnw("no mDNS on this host", "err", err)
		} else {
			defer stop()
		}
	}
	wait := b.interval / 30
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		b.attempt(ctx)
		next := wait
		if b.connected() > 0 {
			wait, next = b.interval/30, b.interval*healFactor
		} else {
			wait = min(2*wait, b.interval)
		}
		timer.Reset(time.Duration((0.75 + 0.5*rand.Float64()) * float64(next)))
	}
}

func (b *bootstrapper) mdns() bool {
	for _, s := range b.specs {
		if s.kind == bootstrapMDNS {
			return true
		}
	}
	return false
}

// target is an address to try; id is "" while unknown.
type target struct {
	addr multiaddr.Multiaddr
	id   peer.ID
}

// attempt tries all that is known once. Errors are told to the operator only while nobody is connected.
func (b *bootstrapper) attempt(ctx context.Context) {
	targets, errs := b.targets(ctx, true)
	targets = sample(targets, b.connected() > 0)
	limit := semaphore.NewWeighted(bootstrapDials)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, t := range targets {
		if limit.Acquire(ctx, 1) != nil {
			break
		}
		wg.Go(func() {
			defer limit.Release(1)
			if err := b.try(ctx, t); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil && b.connected() == 0 {
		log.Infow("no way into the mesh yet", "err", err)
	}
}

// sample picks the targets of one attempt by chance, so that a name with a thousand addresses is not dialed whole.
func sample(targets []target, healing bool) []target {
	rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	if healing {
		return targets[:min(len(targets), healTries)]
	}
	return targets[:min(len(targets), bootstrapTries)]
}

// targets resolves the specs and reads the files, that of an earlier run's members only if remembered is set.
func (b *bootstrapper) targets(ctx context.Context, remembered bool) (out []target, errs []error) {
	seen := make(map[string]bool)
	add := func(ts []target, err error) {
		if err != nil {
			errs = append(errs, err)
		}
		for _, t := range ts {
			if key := t.addr.String() + t.id.String(); !seen[key] && len(out) < bootstrapMax {
				seen[key] = true
				out = append(out, t)
			}
		}
	}
	for _, s := range b.specs {
		switch s.kind {
		case bootstrapAddr:
			add(b.resolveAddr(ctx, target{addr: s.addr, id: s.id}))
		case bootstrapDNS:
			add(b.resolveName(ctx, s.name, s.port))
		case bootstrapFile:
			add(b.readFile(ctx, s.path))
		}
	}
	if !remembered {
		return out, errs
	}
	if ts, err := b.readFile(ctx, b.peersFile); !errors.Is(err, os.ErrNotExist) {
		add(ts, err)
	}
	return out, errs
}

// check asks up to limit of the places that the operator named who answers there, as attempt would. others is how many did,
// tried how many there are besides this node.
func (b *bootstrapper) check(ctx context.Context, limit int) (others, tried int, err error) {
	targets, errs := b.targets(ctx, false)
	targets = targets[:min(len(targets), limit)]
	found := make([]error, len(targets))
	self := make([]bool, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() {
			id, err := b.idAt(ctx, t.addr)
			self[i] = id == b.host.ID()
			if err == nil && t.id != "" && id != t.id {
				err = fmt.Errorf("%s is %s, not %s", t.addr, id, t.id)
			}
			found[i] = err
		})
	}
	wg.Wait()
	for i, err := range found {
		switch {
		case self[i]:
			continue
		case err == nil:
			others++
		}
		tried++
	}
	return others, tried, errors.Join(append(errs, found...)...)
}

// resolveAddr turns a multiaddr with a name into ones with IP addresses.
func (b *bootstrapper) resolveAddr(ctx context.Context, t target) ([]target, error) {
	if !madns.Matches(t.addr) {
		return []target{t}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	if name, port, ok := nameAndPort(t.addr); ok {
		ts, err := b.resolveName(ctx, name, port)
		for i := range ts {
			ts[i].id = t.id
		}
		return ts, err
	}
	addrs, err := madns.Resolve(ctx, t.addr) // dnsaddr
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", t.addr, err)
	}
	var out []target
	for _, a := range addrs {
		transport, id := peer.SplitAddr(a)
		if len(transport) == 2 && !madns.Matches(transport) && (t.id == "" || t.id == id) {
			out = append(out, target{addr: transport, id: id})
		}
	}
	return out, nil
}

// nameAndPort takes /dns*/NAME/tcp/PORT apart.
func nameAndPort(a multiaddr.Multiaddr) (name string, port int, ok bool) {
	if len(a) != 2 || a[0].Protocol().Code == multiaddr.P_DNSADDR {
		return "", 0, false
	}
	port, err := strconv.Atoi(a[1].Value())
	return a[0].Value(), port, err == nil
}

// resolveName turns the A and AAAA records of a name into addresses.
func (b *bootstrapper) resolveName(ctx context.Context, name string, port int) ([]target, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := b.dns.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", name, err)
	}
	var out []target
	for _, ip := range ips {
		a, err := manet.FromNetAddr(net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip.Unmap(), uint16(port))))
		if err == nil {
			out = append(out, target{addr: a})
		}
	}
	return out, nil
}

// readFile reads one multiaddr a line; empty lines and those that start with # are skipped, bad ones reported.
func (b *bootstrapper) readFile(ctx context.Context, path string) ([]target, error) {
	f, _, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []target
	var errs []error
	lines := bufio.NewScanner(io.LimitReader(f, bootstrapMax*bootstrapLine))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		spec, err := parseBootstrapAddr(line)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s line %d: %w", path, n, err))
			continue
		}
		ts, err := b.resolveAddr(ctx, target{addr: spec.addr, id: spec.id})
		if err != nil {
			errs = append(errs, err)
		}
		out = append(out, ts...)
	}
	if err := lines.Err(); err != nil {
		errs = append(errs, fmt.Errorf("read %s: %w", path, err))
	}
	return out, errors.Join(errs...)
}

// try connects to one target, asking it for its id first if need be.
func (b *bootstrapper) try(ctx context.Context, t target) error {
	if t.id == "" {
		id, err := b.idAt(ctx, t.addr)
		if err != nil {
			return err
		}
		t.id = id
	}
	return b.connect(ctx, peer.AddrInfo{ID: t.id, Addrs: []multiaddr.Multiaddr{t.addr}})
}

// idAt returns who answers at an address. Who did before and is connected is not asked again.
func (b *bootstrapper) idAt(ctx context.Context, addr multiaddr.Multiaddr) (peer.ID, error) {
	b.mu.Lock()
	id := b.ids[addr.String()]
	b.mu.Unlock()
	if id != "" && (id == b.host.ID() || b.host.Network().Connectedness(id) == network.Connected) {
		return id, nil
	}
	_, hostport, err := manet.DialArgs(addr)
	if err != nil {
		return "", err
	}
	id, err = b.probe.peerID(ctx, hostport)
	if err != nil {
		return "", err
	}
	b.mu.Lock()
	b.ids[addr.String()] = id
	b.mu.Unlock()
	return id, nil
}

func (b *bootstrapper) connect(ctx context.Context, info peer.AddrInfo) error {
	if info.ID == b.host.ID() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := b.host.Connect(ctx, info); err != nil {
		return fmt.Errorf("connect to %s: %w", info.ID, err)
	}
	return nil
}
