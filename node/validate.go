package node

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/meshd-project/meshd/dht/gossip"
	"github.com/meshd-project/meshd/node/topology"
	"github.com/meshd-project/meshd/seed/storage"
)

// Validate reports every mistake at once, each naming the flag it came by.
func (c *Config) Validate() error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
	}
	if c.DataDir == "" {
		bad("data-dir", "is empty")
	}
	if c.Zone != "" && !gossip.ValidZone(c.Zone) {
		bad("zone", "%q: want 1 to 63 of a-z, 0-9, '.', '-', '_'", c.Zone)
	}
	if c.Zone == topology.Undecided {
		bad("zone", "%q is where nodes of all places are until they have found theirs: choose another name, or leave it out", c.Zone)
	}
	if c.ZoneFrom != "" {
		if err := checkZoneFrom(c.ZoneFrom); err != nil {
			bad("zone-from", "%v", err)
		}
	}
	for _, a := range []struct{ flag, addr string }{
		{"mirror-addr", c.Mirror.Addr}, {"data-addr", c.Exchange.DataAddr},
	} {
		if err := checkHostPort(a.addr); err != nil {
			bad(a.flag, "%v", err)
		}
	}
	c.Preheat.validate(bad)
	c.Admin.validate(bad)
	if c.Mirror.DefaultRegistry == "" || strings.ContainsAny(c.Mirror.DefaultRegistry, "/ ?#@") {
		bad("default-registry", "%q is not a registry host", c.Mirror.DefaultRegistry)
	}
	c.validateMesh(bad)
	seen := map[string]bool{}
	for _, r := range c.Origin.Registries {
		if err := r.validate(); err != nil {
			bad("registry", "%v", err)
		}
		if seen[r.Host] {
			bad("registry", "%s is given twice", r.Host)
		}
		seen[r.Host] = true
	}
	c.validateAmounts(bad)
	c.Store.validate(bad)
	if c.Store.SeedStorage != "" && !c.Seed {
		bad("seed-storage", "only a seed has one: give --seed as well")
	}
	return errors.Join(errs...)
}

// validateMesh reports each mistake about who joins this node, and where.
func (c *Config) validateMesh(bad func(flag, format string, args ...any)) {
	if len(c.P2P.Addrs) == 0 {
		bad("p2p-addr", "none given")
	}
	for _, a := range c.P2P.Addrs {
		if err := checkListenAddr(a, c.P2P.MeshKey != ""); err != nil {
			bad("p2p-addr", "%v", err)
		}
	}
	if host, _, err := net.SplitHostPort(c.Exchange.DataAddr); err == nil && c.P2P.MeshKey == "" {
		if ip := net.ParseIP(host); ip != nil && !ip.IsLoopback() && !ip.IsUnspecified() {
			bad("data-addr", "%s is not loopback: other hosts join only with --mesh-key", c.Exchange.DataAddr)
		}
	}
	for _, b := range c.P2P.Bootstrap {
		if _, err := parseBootstrap(b); err != nil {
			bad("bootstrap", "%v", err)
		}
	}
}

// validateAmounts reports what must not be below zero.
func (c *Config) validateAmounts(bad func(flag, format string, args ...any)) {
	for _, v := range []struct {
		flag string
		n    int64
	}{
		{"cache-size", int64(c.Store.CacheSize)},
		{"cache-low", int64(c.Store.CacheLow)},
		{"free-target", int64(c.Store.FreeTarget)},
		{"scrub-rate", int64(c.Store.ScrubRate)},
		{"download-limit", int64(c.Exchange.DownloadLimit)},
		{"upload-limit", int64(c.Exchange.UploadLimit)},
		{"origin-limit", int64(c.Origin.Limit)},
		{"tag-ttl", int64(c.Mirror.TagTTL)},
		{"stale", int64(c.Mirror.Stale)},
		{"stale-private", int64(c.Mirror.StalePrivate)},
	} {
		if v.n < 0 {
			bad(v.flag, "%d is negative", v.n)
		}
	}
}

// validate reports each mistake to bad.
func (c StoreConfig) validate(bad func(flag, format string, args ...any)) {
	if c.CacheLow > c.CacheSize {
		bad("cache-low", "%s is more than the --cache-size of %s", c.CacheLow, c.CacheSize)
	}
	if c.SeedStorage != "" {
		if err := storage.Check(c.SeedStorage); err != nil {
			bad("seed-storage", "%v", err)
		}
	}
	if c.ContainerdContent != "" && !filepath.IsAbs(c.ContainerdContent) {
		bad("containerd-content", "%q is not an absolute path", c.ContainerdContent)
	}
	if c.FreeTarget != 0 && c.FreeTarget < c.MinFree {
		bad("free-target", "%s is less than the --min-free of %s", c.FreeTarget, c.MinFree)
	}
}

func checkHostPort(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q: the port is not 0 to 65535", addr)
	}
	return nil
}

func loopbackHostPort(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkListenAddr takes /ip4|ip6/ADDR/tcp/PORT. Without a mesh key an address that other hosts reach is refused,
// but the unspecified address is not: it is narrowed to loopback.
func checkListenAddr(s string, keyed bool) error {
	a, err := multiaddr.NewMultiaddr(s)
	if err != nil {
		return fmt.Errorf("%q is not a multiaddr: %w", s, err)
	}
	na, err := manet.ToNetAddr(a)
	tcp, ok := na.(*net.TCPAddr)
	if err != nil || !ok || len(a) != 2 {
		return fmt.Errorf("%q: want /ip4/ADDR/tcp/PORT or /ip6/ADDR/tcp/PORT", s)
	}
	if !keyed && !tcp.IP.IsLoopback() && !tcp.IP.IsUnspecified() {
		return fmt.Errorf("%s is not loopback: other hosts join only with --mesh-key", s)
	}
	return nil
}
