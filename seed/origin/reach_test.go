package origin

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestKindOf(t *testing.T) {
	for _, tt := range []struct {
		addr string
		want reach
	}{
		{"93.184.216.34", public},
		{"2606:2800:220:1::1", public},
		{"10.0.0.1", private},
		{"172.16.0.1", private},
		{"172.32.0.1", public},
		{"192.168.1.1", private},
		{"100.64.0.1", private},
		{"fc00::1", private},
		{"127.0.0.1", loopback},
		{"127.255.255.254", loopback},
		{"::1", loopback},
		{"0.0.0.0", loopback},
		{"0.1.2.3", loopback},
		{"::", loopback},
		{"::ffff:127.0.0.1", loopback},
		{"169.254.169.254", local},
		{"::ffff:169.254.169.254", local},
		{"64:ff9b::a9fe:a9fe", local},
		{"64:ff9b::7f00:1", loopback},
		{"64:ff9b::5db8:d822", public},
		{"fe80::1%eth0", local},
		{"fd00:ec2::254", local},
		{"100.100.100.200", local},
		{"168.63.129.16", local},
		{"192.0.0.192", local},
		{"224.0.0.1", 0},
		{"ff02::1", 0},
		{"255.255.255.255", 0},
	} {
		if got := kindOf(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("%s is %s, want %s", tt.addr, got, tt.want)
		}
	}
}

func TestReachOfEndpoint(t *testing.T) {
	c, err := New(Config{Registries: map[string]Registry{
		"named.test": {},
		"local.test": {URL: "http://169.254.1.1"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tt := range []struct {
		registry string
		direct   reach
		home     reach
		beyond   reach
		name     string
	}{
		{"other.test", public | private, public, public, "not configured, public"},
		{"other.test", public | private, private, public | private, "not configured, private"},
		{"other.test", public | private, 0, public, "not configured, unknown"},
		{"named.test", public | private | loopback, public, public | private, "configured, public"},
		{"named.test", public | private | loopback, loopback, public | private | loopback, "configured, loopback"},
		{"local.test", public | private | loopback | local, local, public | private | local, "configured by number, link-local"},
	} {
		ep, err := c.endpoint(tt.registry)
		if err != nil {
			t.Fatal(err)
		}
		if got := ep.direct(); got != tt.direct {
			t.Errorf("%s: direct %s, want %s", tt.name, got, tt.direct)
		}
		if got := ep.beyond(tt.home); got != tt.beyond {
			t.Errorf("%s: beyond %s, want %s", tt.name, got, tt.beyond)
		}
	}
}

// The real dialer refuses before a packet leaves, whatever the name says.
func TestDialGuarded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	dial := dialGuarded(5 * time.Second)
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0"} {
		conn, err := dial(context.Background(), "tcp", net.JoinHostPort(host, port), public|private)
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", host, err)
		}
		if conn != nil {
			conn.Close()
		}
	}
	conn, err := dial(context.Background(), "tcp", l.Addr().String(), loopback)
	if err != nil {
		t.Fatal(err)
	}
	if got := kindOfConn(conn.RemoteAddr()); got != loopback {
		t.Errorf("connection is %s", got)
	}
	conn.Close()
}
