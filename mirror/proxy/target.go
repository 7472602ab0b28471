package proxy

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxTarget bounds HOST:PORT in bytes.
const maxTarget = 255 + 1 + 5

var errTarget = errors.New("want a host name or an IP address, with or without a port")

// target is where a client wants to go.
type target struct {
	host string // name in lower case without a dot at the end, or an address without brackets
	port string // decimal, without leading zeros
}

// parseTarget reads HOST or HOST:PORT; an IPv6 address stands in brackets. port is that of a target that names none.
func parseTarget(s, port string) (target, error) {
	if s == "" || len(s) > maxTarget {
		return target{}, errTarget
	}
	t := target{host: s, port: port}
	if host, port, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' || port[0] == '+' {
			return target{}, errTarget
		}
		t = target{host: host, port: port}
		if strings.Contains(s, "[") != strings.Contains(host, ":") {
			return target{}, errTarget
		}
	} else if inner, ok := strings.CutPrefix(s, "["); ok {
		if t.host, ok = strings.CutSuffix(inner, "]"); !ok || !strings.Contains(t.host, ":") {
			return target{}, errTarget
		}
	} else if strings.Contains(s, ":") {
		return target{}, errTarget
	}
	if a, err := netip.ParseAddr(t.host); err == nil {
		if a.Zone() != "" {
			return target{}, errTarget
		}
		t.host = a.Unmap().String()
		return t, nil
	}
	t.host = strings.ToLower(strings.TrimSuffix(t.host, "."))
	if !validName(t.host) {
		return target{}, errTarget
	}
	return t, nil
}

func validName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// String is host:port, or the host alone if there is no port.
func (t target) String() string {
	if t.port == "" {
		if strings.Contains(t.host, ":") {
			return "[" + t.host + "]"
		}
		return t.host
	}
	return net.JoinHostPort(t.host, t.port)
}

// registry is the target as the name of a registry: the default ports go without saying.
func (t target) registry() string {
	if t.port == "443" || t.port == "80" {
		return target{host: t.host}.String()
	}
	return t.String()
}
