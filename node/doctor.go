package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/sys/unix"

	"github.com/meshd-project/meshd/node/topology"
	"github.com/meshd-project/meshd/seed/origin"
)

// Level says how much a Check matters.
type Level string

// Levels, from good to bad. Skipped is what cannot be known.
const (
	OK      Level = "ok"
	Skipped Level = "skip"
	Warn    Level = "warn"
	Fail    Level = "fail"
)

// Check is one line of `meshd doctor` and of /v1/doctor.
type Check struct {
	Level Level  `json:"level"`
	What  string `json:"what"`         // what was looked at, a word or two
	Found string `json:"found"`        // what was found
	Do    string `json:"do,omitempty"` // what to do about it; with Warn and Fail
}

const (
	doctorTimeout = 8 * time.Second // of all checks together; they run at once
	portTimeout   = 2 * time.Second
	maxProbes     = 8 // bootstrap addresses and registries that are asked
)

// doctor looks the node over. The checks are independent and run at once, within doctorTimeout; their order is fixed.
func (n *node) doctor(ctx context.Context) []Check {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	parts := []func(context.Context) []Check{
		n.checkReady, n.checkKey, n.checkPeers, n.checkBootstrap, n.checkPorts, n.checkReach,
		n.checkDisk, n.checkFiles, n.checkZone, n.checkSeeds, n.checkRegistries,
	}
	found := make([][]Check, len(parts))
	var wg sync.WaitGroup
	for i, part := range parts {
		wg.Go(func() { found[i] = part(ctx) })
	}
	wg.Wait()
	return slices.Concat(found...)
}

func one(level Level, what, found, do string) []Check { return []Check{{level, what, found, do}} }

func (n *node) checkReady(context.Context) []Check {
	if err := n.ready(); err != nil {
		return one(Warn, "node", err.Error(), "wait until it is ready; the log says what it waits for")
	}
	return one(OK, "node", fmt.Sprintf("up for %v, %s", time.Since(n.started).Round(time.Second), n.host.ID()), "")
}

func (n *node) checkKey(context.Context) []Check {
	path := n.cfg.P2P.MeshKey
	if path == "" {
		if len(n.cfg.P2P.Bootstrap) > 0 {
			return one(Fail, "mesh key", "none, but a bootstrap is given: a node without the key joins nobody",
				"give --mesh-key, the same file on every host")
		}
		return one(OK, "mesh key", "none: this node keeps to its host", "")
	}
	if _, _, err := readMeshKeys(path, givenSecret); err != nil {
		return one(Fail, "mesh key", err.Error(), "put the file right (chmod 600 "+path+"): the node does not start again like this")
	}
	return one(OK, "mesh key", path, "")
}

func (n *node) checkPeers(context.Context) []Check {
	connected, known := n.topology.Connected(), len(n.topology.Members())
	list, _ := n.gate.Revoked()
	switch {
	case slices.Contains(list.Peers, n.host.ID()):
		return one(Fail, "peers", "this node has been revoked", "on the operator's word only: meshd revoke --undo "+n.host.ID().String()+" at another node")
	case connected > 0:
		return one(OK, "peers", fmt.Sprintf("%d connected of %d known", connected, known), "")
	case n.cfg.P2P.MeshKey == "":
		return one(OK, "peers", "none, as without a mesh key", "")
	case known > 0:
		return one(Fail, "peers", fmt.Sprintf("none connected of %d known", known), "open the port of --p2p-addr between the hosts; if it is, the others may not admit this node: see their /v1/revoked and --allow-peers")
	case len(n.cfg.P2P.Bootstrap) == 0:
		return one(Warn, "peers", "none, and no bootstrap is given", "give --bootstrap, unless the others have this node as theirs")
	}
	return one(Fail, "peers", "none", "see bootstrap; pulls work from the registry meanwhile")
}

func (n *node) checkBootstrap(ctx context.Context) []Check {
	if len(n.cfg.P2P.Bootstrap) == 0 || n.cfg.P2P.MeshKey == "" {
		return nil
	}
	others, tried, err := n.bootstrap.check(ctx, maxProbes)
	switch {
	case tried == 0 && err == nil:
		return one(Skipped, "bootstrap", "names nobody but this node, or the LAN", "")
	case err == nil:
		return one(OK, "bootstrap", fmt.Sprintf("%d of %d answer", others, tried), "")
	case others > 0 || n.topology.Connected() > 0:
		return one(Warn, "bootstrap", fmt.Sprintf("%d of %d answer: %s", others, tried, firstLine(err)), "correct --bootstrap, or start those nodes")
	}
	return one(Fail, "bootstrap", "nobody answers: "+firstLine(err), "check the address, the port (65003) in the firewalls, and that the mesh key is the same")
}

// checkPorts connects to the node's own ports, where others would.
func (n *node) checkPorts(ctx context.Context) []Check {
	type port struct{ flag, addr string }
	ports := []port{
		{"mirror-addr", n.mirrorListener.Addr().String()}, {"data-addr", n.dataListener.Addr().String()},
	}
	for _, a := range n.host.Network().ListenAddresses() {
		if _, addr, err := manet.DialArgs(a); err == nil {
			ports = append(ports, port{"p2p-addr", addr})
		}
	}
	var open []string
	var out []Check
	for _, p := range ports {
		d := net.Dialer{Timeout: portTimeout}
		c, err := d.DialContext(ctx, "tcp", dialHere(p.addr))
		if err != nil {
			out = append(out, Check{Fail, "port", fmt.Sprintf("--%s %s: %v", p.flag, p.addr, err), "look for a local firewall rule; restart the node"})
			continue
		}
		c.Close()
		open = append(open, p.addr)
	}
	if len(out) == 0 {
		return one(OK, "ports", "listening on "+strings.Join(open, ", "), "")
	}
	return out
}

// dialHere is the address at which this host reaches its own listener.
func dialHere(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		if ip.To4() != nil {
			return net.JoinHostPort("127.0.0.1", port)
		}
		return net.JoinHostPort("::1", port)
	}
	return addr
}

// checkReach tells what others have proven: a node cannot see its own ports from outside.
func (n *node) checkReach(context.Context) []Check {
	if n.topology.Connected() == 0 {
		return nil
	}
	p2p := Check{Skipped, "p2p port from outside", "not known: no member has connected to this node, it connected to them", ""}
	for _, c := range n.host.Network().Conns() {
		if c.Stat().Direction == network.DirInbound {
			p2p.Level, p2p.Found = OK, "a member has connected to it"
			break
		}
	}
	data := Check{Skipped, "data port from outside", "not known: no member has fetched from this node yet", ""}
	if out := n.exchange.Status().BytesOut; out.Zone+out.OtherZone > 0 {
		data.Level, data.Found = OK, "members have fetched from it"
	}
	return []Check{p2p, data}
}

func (n *node) checkDisk(context.Context) []Check {
	var st unix.Statfs_t
	if err := unix.Statfs(n.cfg.DataDir, &st); err != nil {
		return one(Fail, "disk", fmt.Sprintf("%s: %v", n.cfg.DataDir, err), "mount it, and restart the node")
	}
	return checkFree(int64(st.Bavail)*int64(st.Bsize), int64(n.cfg.Store.MinFree), n.cfg.DataDir)
}

// checkFree judges the free bytes of the disk of dir.
func checkFree(free, minFree int64, dir string) []Check {
	found := fmt.Sprintf("%.1f GiB free at %s", float64(free)/(1<<30), dir)
	switch {
	case free <= minFree:
		return one(Fail, "disk", found+", which is left free in any case: blobs are streamed and not kept", "make room, or give a --data-dir with more")
	case free < 4*minFree:
		return one(Warn, "disk", found, "make room, or lower --cache-size to what the disk holds")
	}
	return one(OK, "disk", found, "")
}

// checkFiles looks at what nobody else may read or write, and whether the node itself can write.
func (n *node) checkFiles(context.Context) []Check {
	var out []Check
	add := func(level Level, found, do string) { out = append(out, Check{level, "data dir", found, do}) }
	for _, f := range []struct {
		path     string
		forbid   fs.FileMode
		level    Level // if others may
		chmod    string
		optional bool
	}{
		{n.cfg.DataDir, 0o022, Warn, "700", false},
		{n.path(IdentityFile), 0o077, Fail, "600", false}, // the node does not start again with it
		{n.path(MeshKeyFile), 0o077, Fail, "600", true},
		{n.path(CAKeyFile), 0o077, Fail, "600", true},
		{n.path(AdminTokenFile), 0o077, Fail, "600", true},
	} {
		info, err := os.Stat(f.path)
		switch {
		case f.optional && errors.Is(err, fs.ErrNotExist):
		case err != nil:
			add(Fail, err.Error(), "restore it: without it the node comes back as another peer")
		case info.Mode().Perm()&f.forbid != 0 && !hidden(f.path):
			add(f.level, fmt.Sprintf("%s is open to others (mode %#o)", f.path, info.Mode().Perm()), "chmod "+f.chmod+" "+f.path)
		}
	}
	probe, err := os.CreateTemp(n.cfg.DataDir, ".doctor-*")
	if err == nil {
		err = errors.Join(probe.Close(), os.Remove(probe.Name()))
	}
	if err != nil {
		add(Fail, "not writable: "+err.Error(), "give it to the user that runs meshd, or mount it read-write")
	}
	if len(out) == 0 {
		add(OK, n.cfg.DataDir, "")
	}
	return out
}

func (n *node) checkZone(context.Context) []Check {
	next := ""
	if p := n.nextZone.Load(); p != nil {
		next = *p
	}
	return zoneChecks(n.zone, next, n.topology.Zones())
}

// zoneChecks judges a node's zone by where it comes from and what RTT says.
func zoneChecks(z zone, next string, zones []topology.Zone) []Check {
	var out []Check
	if z.problem != "" {
		out = append(out, Check{Warn, "zone source", z.problem, "correct --zone-from, or give --zone; it is read at the start"})
	}
	switch doubt := z.doubt(zones); {
	case doubt != "":
		return append(out, Check{Warn, "zone", doubt, "correct --zone (or the label that --zone-from reads) on this node or on the others, and restart it"})
	case next != "" && next != z.name:
		return append(out, Check{OK, "zone", fmt.Sprintf("%s; %s once nothing is being pulled", z.name, next), ""})
	case z.source == "none" && len(zones) > 0:
		return append(out, Check{OK, "zone", z.name + ": not found out yet, it takes a few minutes", ""})
	}
	return append(out, Check{OK, "zone", fmt.Sprintf("%s (from: %s)", z.name, z.source), ""})
}

func (n *node) checkSeeds(context.Context) []Check {
	return seedChecks(n.zone.name, n.cfg.Seed, n.topology.Zones())
}

// seedChecks wants a seed in every zone, or in none.
func seedChecks(own string, isSeed bool, zones []topology.Zone) []Check {
	here, elsewhere := 0, 0
	if isSeed {
		here++
	}
	for _, z := range zones {
		if z.Name == own {
			here += z.Seeds
		} else {
			elsewhere += z.Seeds
		}
	}
	switch {
	case here > 0:
		return one(OK, "seeds", fmt.Sprintf("%d in %s, %d elsewhere", here, own, elsewhere), "")
	case elsewhere > 0:
		return one(Warn, "seeds", fmt.Sprintf("none in %s, %d elsewhere: they bring in what this zone pulls", own, elsewhere), "run one or two nodes of this zone with --seed")
	}
	return one(OK, "seeds", "none: the nodes choose who reads from the registry", "")
}

// checkRegistries asks the registries that are configured, and the default one, for a manifest that does not exist:
// any answer will do.
func (n *node) checkRegistries(ctx context.Context) []Check {
	names := []string{n.cfg.Mirror.DefaultRegistry}
	for _, r := range n.cfg.Origin.Registries {
		if !slices.Contains(names, r.Host) && len(names) < maxProbes {
			names = append(names, r.Host)
		}
	}
	out := make([]Check, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			resp, err := n.origin.Do(ctx, origin.Request{
				Ref: origin.Ref{Registry: name, Repository: "meshd/doctor"}, Method: http.MethodHead, Path: "manifests/doctor",
			})
			if err == nil {
				resp.Body.Close()
			}
			out[i] = registryCheck(name, err)
		})
	}
	wg.Wait()
	return out
}

// registryCheck judges the end of a question to a registry.
func registryCheck(name string, err error) Check {
	switch {
	case err == nil, errors.Is(err, origin.ErrUnauthorized), errors.Is(err, origin.ErrDenied), errors.Is(err, origin.ErrNotFound):
		return Check{OK, "registry " + name, "answers", ""}
	case errors.Is(err, origin.ErrThrottled):
		return Check{Warn, "registry " + name, firstLine(err), "wait, or pull with credentials: this host has used up its quota"}
	case errors.Is(err, origin.ErrUnreachable):
		return Check{Fail, "registry " + name, firstLine(err), "check DNS, route and firewall of this host, and --registry; a proxy is not used"}
	}
	return Check{Fail, "registry " + name, firstLine(err), "check the URL, ca= and insecure of --registry"}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
