package demo

import (
	"errors"
	"fmt"
	"net"
	"strconv"
)

// ports are where a node listens. On an address of its own a node uses the same ports as on a host of its own.
type ports struct {
	host                    string
	mirror, admin, p2p, tcp int
}

func (p ports) addr(port int) string { return net.JoinHostPort(p.host, strconv.Itoa(port)) }

// First and last of the addresses 127.0.0.N that nodes are put on.
const (
	firstHost = 11
	lastHost  = 250
)

// choosePorts finds n places to listen: addresses 127.0.0.N with the usual ports free, or, where the machine has
// only 127.0.0.1, free ports there.
func choosePorts(n int) ([]ports, error) {
	places := make([]ports, 0, n)
	for host := firstHost; host <= lastHost && len(places) < n; host++ {
		p := ports{host: fmt.Sprintf("127.0.0.%d", host), mirror: 65001, admin: 65002, p2p: 65003, tcp: 65004}
		if err := p.free(); err == nil {
			places = append(places, p)
		}
	}
	for len(places) < n {
		p, err := freePorts("127.0.0.1")
		if err != nil {
			return nil, err
		}
		places = append(places, p)
	}
	return places, nil
}

// free reports whether all ports can be bound now.
func (p ports) free() error {
	for _, port := range []int{p.mirror, p.admin, p.p2p, p.tcp} {
		l, err := net.Listen("tcp", p.addr(port))
		if err != nil {
			return err
		}
		l.Close()
	}
	return nil
}

// freePorts lets the system choose. Another process may take a port before the node does; the node says so then.
func freePorts(host string) (ports, error) {
	p := ports{host: host}
	var errs []error
	var open []net.Listener
	for _, port := range []*int{&p.mirror, &p.admin, &p.p2p, &p.tcp} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		open = append(open, l)
		*port = l.Addr().(*net.TCPAddr).Port
	}
	for _, l := range open { // only now, or one port could be chosen twice
		errs = append(errs, l.Close())
	}
	return p, errors.Join(errs...)
}
