package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// sysctls are set in every namespace. Routes do not remember what earlier connections met, so that one run is like another.
var sysctls = map[string]string{
	"ipv4/tcp_congestion_control":   "reno", // of the loopback; a namespace may always have it
	"ipv4/tcp_no_metrics_save":      "1",
	"ipv4/ip_forward":               "1",
	"ipv6/conf/all/disable_ipv6":    "1",
	"ipv6/conf/default/accept_dad":  "0",
	"ipv4/neigh/default/gc_thresh3": "4096",
}

// congestion is the TCP congestion control of all connections between hosts. It is given with their routes, which works
// for every algorithm that the kernel has, while the default of a namespace has to be one that the machine lets everybody use.
const congestion = "cubic"

// namespace is a network namespace without a name: it lasts as long as somebody is in it or has it open.
type namespace struct {
	at    netns.NsHandle
	links *netlink.Handle
}

// newNamespace makes a namespace with its loopback up.
func newNamespace() (*namespace, error) {
	var n namespace
	err := aside(func() (err error) {
		n.at, err = netns.New()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a network namespace (it needs CAP_SYS_ADMIN): %w", err)
	}
	if n.links, err = netlink.NewHandleAt(n.at); err != nil {
		n.close()
		return nil, fmt.Errorf("open netlink in a namespace: %w", err)
	}
	if err := n.prepare(); err != nil {
		n.close()
		return nil, err
	}
	return &n, nil
}

func (n *namespace) prepare() error {
	lo, err := n.links.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback of a namespace: %w", err)
	}
	if err := n.links.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set up the loopback of a namespace: %w", err)
	}
	for name, value := range sysctls {
		if err := n.set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// set gives a parameter of the namespace below /proc/sys/net a value, if the kernel has the parameter.
func (n *namespace) set(name, value string) error {
	return n.do(func() error {
		path := filepath.Join("/proc/sys/net", name)
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("set %s to %s: %w", path, value, err)
		}
		return nil
	})
}

// do runs f on a thread in the namespace. Sockets, devices and processes that f makes stay in it.
func (n *namespace) do(f func() error) error {
	return aside(func() error {
		if err := netns.Set(n.at); err != nil {
			return fmt.Errorf("enter a namespace: %w", err)
		}
		return f()
	})
}

// aside runs f on a thread of its own, which is put back into its namespace afterwards. If that fails the thread ends.
func aside(f func() error) error {
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			errs <- fmt.Errorf("find out the own namespace: %w", err)
			return
		}
		defer home.Close()
		err = f()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		errs <- err
	}()
	return <-errs
}

// client returns an HTTP client that dials from inside the namespace.
func (n *namespace) client() *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = n.do(func() error {
				conn, err = dialer.DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		},
		MaxIdleConnsPerHost: 4,
		DisableCompression:  true,
		ReadBufferSize:      64 << 10,
	}}
}

// close lets go of the namespace.
func (n *namespace) close() {
	if n.links != nil {
		n.links.Close()
	}
	n.at.Close()
}
