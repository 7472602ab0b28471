package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/meshd-project/meshd/netsim/testbed"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The environment of a test that runs once more in namespaces of its own.
const (
	isolatedEnv = "MESHD_E2E_ISOLATED"
	builtEnv    = "MESHD_E2E_BUILT" // where the programs of this module are built already
)

// isolated reports whether the caller is to run its test. Root's tests run in a process of their own in new network
// and mount namespaces: whatever becomes of it, nothing of its network and its mounts stays behind.
func isolated(t *testing.T, limit time.Duration) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	if os.Getenv(isolatedEnv) != "" {
		must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		return true
	}
	self, err := os.Executable()
	must(t, err)
	meshdBinary(t)
	craneBinary(t)
	cmd := exec.Command(self, "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", limit.String())
	cmd.Env = append(os.Environ(), isolatedEnv+"=1", builtEnv+"="+built.dir, "TMPDIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in its own namespaces: %v\n%s", err, out)
	} else {
		t.Logf("in its own namespaces:\n%s", out)
	}
	return false
}

// field is the ground that the nodes stand on: for root a namespace each, on one bridge, and a disk each; for others
// addresses of the loopback.
type field struct {
	net   network
	root  bool
	hub   *netlink.Handle
	spots []*spot
	cuts  map[[2]int]int // how many faults keep packets of the first from the second
}

// spot is where one node stands.
type spot struct {
	addr, admin string
	dir         string             // the data dir
	ns          *testbed.Namespace // nil on the loopback
	http        *http.Client       // from inside
}

// registrySpot is the registry in cuts.
const registrySpot = -1

func newField(t *testing.T, nodes int) *field {
	t.Helper()
	f := &field{root: os.Geteuid() == 0, cuts: map[[2]int]int{}}
	if !f.root {
		f.net = newNetwork(t)
		for i := range nodes {
			f.spots = append(f.spots, &spot{addr: f.net.host(i + 1), admin: f.net.host(i + 1), dir: filepath.Join(t.TempDir(), "data"), http: httpClient})
		}
		return f
	}
	f.net = network{prefix: "10.77.0"}
	var err error
	f.hub, err = netlink.NewHandle()
	must(t, err)
	lo, err := f.hub.LinkByName("lo")
	must(t, err)
	must(t, f.hub.LinkSetUp(lo))
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "hub"}}
	must(t, f.hub.LinkAdd(bridge))
	for _, i := range []int{200, 201} {
		must(t, f.hub.AddrAdd(bridge, f.cidr(i)))
	}
	must(t, f.hub.LinkSetUp(bridge))
	for i := range nodes {
		f.spots = append(f.spots, f.newSpot(t, i, bridge))
	}
	return f
}

func (f *field) cidr(i int) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(f.net.host(i)), Mask: net.CIDRMask(24, 32)}}
}

// newSpot makes a namespace with a card on the bridge, and a disk.
func (f *field) newSpot(t *testing.T, i int, bridge netlink.Link) *spot {
	t.Helper()
	s := &spot{addr: f.net.host(i + 1), admin: "127.0.0.1", dir: filepath.Join(t.TempDir(), "disk")}
	var err error
	s.ns, err = testbed.NewNamespace()
	must(t, err)
	name := fmt.Sprint("node-", i+1)
	must(t, f.hub.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, MasterIndex: bridge.Attrs().Index}, PeerName: "eth0", PeerNamespace: s.ns.FD(),
	}))
	outside, err := f.hub.LinkByName(name)
	must(t, err)
	must(t, f.hub.LinkSetUp(outside))
	inside, err := s.ns.Links.LinkByName("eth0")
	must(t, err)
	must(t, s.ns.Links.AddrAdd(inside, f.cidr(i+1)))
	must(t, s.ns.Links.LinkSetUp(inside))
	must(t, os.Mkdir(s.dir, 0o700))
	must(t, unix.Mount("tmpfs", s.dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=700", chaosDiskMiB)))
	t.Cleanup(func() { _ = unix.Unmount(s.dir, unix.MNT_DETACH) })
	s.http = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: s.ns.DialContext}}
	return s
}

// do runs f at the spot: processes and connections that it makes are in the spot's namespace.
func (s *spot) do(f func() error) error {
	if s.ns == nil {
		return f()
	}
	return s.ns.Do(f)
}

// cut keeps packets of a spot from another or the registry. Nothing tells the other that they do not come.
func (f *field) cut(from, to int) error {
	f.cuts[[2]int{from, to}]++
	if f.cuts[[2]int{from, to}] > 1 {
		return nil
	}
	return f.spots[from].ns.Links.RouteAdd(f.hole(to))
}

// mend ends a cut.
func (f *field) mend(from, to int) error {
	f.cuts[[2]int{from, to}]--
	if f.cuts[[2]int{from, to}] > 0 {
		return nil
	}
	return f.spots[from].ns.Links.RouteDel(f.hole(to))
}

func (f *field) hole(to int) *netlink.Route {
	addr := f.net.host(201)
	if to != registrySpot {
		addr = f.spots[to].addr
	}
	return &netlink.Route{Dst: &net.IPNet{IP: net.ParseIP(addr), Mask: net.CIDRMask(32, 32)}, Type: unix.RTN_BLACKHOLE}
}

// ballast is the file that fills a disk.
func (s *spot) ballast() string { return filepath.Join(s.dir, "ballast") }

// fill leaves no block free.
func (s *spot) fill() error {
	file, err := os.OpenFile(s.ballast(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	size := int64(0)
	for step := int64(64 * mib); step >= 4<<10; {
		switch err := unix.Fallocate(int(file.Fd()), 0, size, step); {
		case err == nil:
			size += step
		case errors.Is(err, unix.ENOSPC):
			step /= 4
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("fill %s: %w", s.dir, err)
		}
	}
	return nil
}

// drain takes the ballast away.
func (s *spot) drain() error { return os.Remove(s.ballast()) }
