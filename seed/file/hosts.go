package file

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Host is a pattern of hosts: NAME, *.DOMAIN (names below it), ADDRESS or * (all), with an optional :PORT. Without one it
// is the port of the URL's scheme, 80 or 443.
type Host struct {
	name string // lower case; "*" for all; "*." begins a domain
	port string // "" for the scheme's own
}

// Hosts are patterns of which one has to match; none match nothing.
type Hosts []Host

// ParseHost reads a pattern.
func ParseHost(s string) (Host, error) {
	bad := func(why string) (Host, error) {
		return Host{}, fmt.Errorf("%q: %s: want NAME, *.DOMAIN, ADDRESS or *, with an optional :PORT", s, why)
	}
	name, port := strings.ToLower(s), ""
	if h, p, err := net.SplitHostPort(name); err == nil {
		name, port = h, p
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return bad("the port is not 1 to 65535")
		}
	}
	if inner, ok := strings.CutPrefix(name, "["); ok && strings.HasSuffix(inner, "]") {
		name = strings.TrimSuffix(inner, "]")
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return Host{name: addr.Unmap().String(), port: port}, nil
	}
	domain := strings.TrimPrefix(name, "*.")
	if name != "*" && (domain == "" || strings.Trim(domain, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.Contains(domain, "..") || domain[0] == '.') {
		return bad("not a host")
	}
	return Host{name: name, port: port}, nil
}

// UnmarshalText implements encoding.TextUnmarshaler by ParseHost.
func (h *Host) UnmarshalText(text []byte) (err error) {
	*h, err = ParseHost(string(text))
	return err
}

// MarshalText is the inverse of UnmarshalText.
func (h Host) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// String is the pattern's text.
func (h Host) String() string {
	name := h.name
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	if h.port != "" {
		name += ":" + h.port
	}
	return name
}

// match reports whether a pattern fits a host and port; usual says that the port is the scheme's own.
func (h Host) match(name, port string, usual bool) bool {
	if h.port == "" && !usual || h.port != "" && h.port != port {
		return false
	}
	if domain, ok := strings.CutPrefix(h.name, "*."); ok {
		return strings.HasSuffix(name, "."+domain)
	}
	return h.name == "*" || h.name == name
}

// Allow reports whether a URL's host matches.
func (hs Hosts) Allow(u *url.URL) bool {
	name, port := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), u.Port()
	if addr, err := netip.ParseAddr(name); err == nil {
		name = addr.Unmap().String()
	}
	usual := port == "" || port == defaultPort(u.Scheme)
	if port == "" {
		port = defaultPort(u.Scheme)
	}
	for _, h := range hs {
		if h.match(name, port, usual) {
			return true
		}
	}
	return false
}

// Address reports whether an address is one of the patterns by itself, not by a name or as one of all: only then is one
// that leads back to this machine or its link to be reached.
func (hs Hosts) Address(to netip.AddrPort) bool {
	name, port := to.Addr().Unmap().WithZone("").String(), strconv.Itoa(int(to.Port()))
	for _, h := range hs {
		if h.name == name && h.match(name, port, port == "80" || port == "443") {
			return true
		}
	}
	return false
}
