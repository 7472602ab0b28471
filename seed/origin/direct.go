package origin

import (
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
)

// Direct returns the address of a registry's API, what stands before /v2/, and a transport for requests that are to
// reach it as they are: no redirect is followed, no challenge answered, nothing repeated, and no wait bounded but those
// for the connection. It leads to the registry's own address only, under the rules of the package comment.
func (c *Client) Direct(registry string) (*url.URL, http.RoundTripper, error) {
	ep, err := c.endpoint(registry)
	if err != nil {
		return nil, nil, err
	}
	base := *ep.base
	return &base, own{ep}, nil
}

// own carries requests to the registry's own address.
type own struct{ ep *endpoint }

// RoundTrip implements http.RoundTripper.
func (o own) RoundTrip(r *http.Request) (*http.Response, error) {
	if !sameOrigin(r.URL, o.ep.base) {
		return nil, ErrRefused
	}
	return o.ep.network(r.URL).transport(o.ep.direct()).RoundTrip(r)
}

// GuardClient is a [net.Dialer] Control for connections that a client asks for: it lets only those to public and
// private addresses through, neither to loopback nor to link-local ones or metadata services.
func GuardClient(network, address string, c syscall.RawConn) error {
	return (public | private).guard(network, address, c)
}

// OwnAddress reports whether address, IP:PORT, is this machine's: loopback, unspecified, or one of local.
func OwnAddress(address netip.Addr, local []netip.Addr) bool {
	if kindOf(address) == loopback {
		return true
	}
	for _, a := range local {
		if a.Unmap().WithZone("") == address.Unmap().WithZone("") {
			return true
		}
	}
	return false
}
