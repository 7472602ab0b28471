package testbed

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Namespace is a network namespace without a name: it lasts as long as somebody is in it or has it open. Do and
// DialContext may be called concurrently.
type Namespace struct {
	Links *netlink.Handle // what makes and changes its devices and routes, from outside

	at netns.NsHandle
}

// NewNamespace makes a namespace with its loopback up. It needs CAP_SYS_ADMIN.
func NewNamespace() (*Namespace, error) {
	var n Namespace
	err := aside(func() (err error) {
		n.at, err = netns.New()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a network namespace (it needs CAP_SYS_ADMIN): %w", err)
	}
	if n.Links, err = netlink.NewHandleAt(n.at); err != nil {
		n.Close()
		return nil, fmt.Errorf("open netlink in a namespace: %w", err)
	}
	lo, err := n.Links.LinkByName("lo")
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("find the loopback of a namespace: %w", err)
	}
	if err := n.Links.LinkSetUp(lo); err != nil {
		n.Close()
		return nil, fmt.Errorf("set up the loopback of a namespace: %w", err)
	}
	return &n, nil
}

// FD returns the namespace as netlink takes it for the other end of a pair of devices.
func (n *Namespace) FD() netlink.NsFd { return netlink.NsFd(n.at) }

// Do runs f on a thread in the namespace. Sockets, devices and processes that f makes stay in it.
func (n *Namespace) Do(f func() error) error {
	return aside(func() error {
		if err := netns.Set(n.at); err != nil {
			return fmt.Errorf("enter a namespace: %w", err)
		}
		return f()
	})
}

// DialContext dials from inside the namespace, for 10 s at most.
func (n *Namespace) DialContext(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	err = n.Do(func() error {
		conn, err = dialer.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Close lets go of the namespace.
func (n *Namespace) Close() {
	if n.Links != nil {
		n.Links.Close()
	}
	n.at.Close()
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
