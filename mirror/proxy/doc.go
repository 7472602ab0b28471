// Package proxy is a forward proxy that stands on the mirror's port: clients that are told HTTP_PROXY and HTTPS_PROXY
// pull from registries through the mesh, and reach everything else as without it.
//
// # What it owns
//
// The choice between the mesh, a tunnel and a refusal for each host that a client names ([Rule]); tunnels; the end of
// TLS for the hosts that go through the mesh, with certificates of the node's own authority ([CA]); the passing on of
// what a pull mirror does not answer. It owns neither the mirror nor the way to a registry: both are given to [New].
//
// # Who gets what
//
//	CONNECT host:port           mesh: TLS ends here, the requests inside go the way of the next line
//	                            direct: a tunnel, bytes as they are
//	GET http://host/… and such  mesh: pulls to the mirror, the rest to the registry
//	                            direct: passed on
//	GET /…                      the mirror
//
// The first rule whose pattern fits decides. If none does, a host that is a configured registry goes through the mesh,
// every other host is direct for clients on this machine and refused for clients elsewhere. Ports are 443 (80 without
// TLS), and those named by a registry's name, its addresses, or a rule.
//
// Inside the mesh the pull routes go to the mirror as requests for that registry. Pushes, /v2/ itself, token and login
// endpoints and all other paths go to the registry as they are, its answers come back as they are; but a Location at
// the registry's configured address becomes one at the name that the client used. A 401 of the mirror is not shown:
// the registry is asked itself, so that the client sees the registry's own challenge and never gives its credentials
// to another.
//
// # Lifecycle and concurrency
//
// [New] starts nothing. [Proxy.ServeHTTP] is safe for concurrent use. [Proxy.Serve] serves the intercepted connections
// until [Proxy.Shutdown], which refuses new tunnels, waits for the requests and tunnels that run, and cuts those that
// are left when its context ends. Call it beside the Shutdown of the server in front, which knows nothing of tunnels.
//
// # What it refuses
//
// Targets that are no host name or address; other ports; addresses that [Dialer] refuses (loopback, link-local, the
// node's own ports); more tunnels than [Config].MaxTunnels. A refusal says why in the status line as well as in the
// body: of a refused CONNECT, Go's clients (docker, containerd, podman) show the status line only. HTTP/2, WebSocket
// upgrades of passed on requests, and certificates by a client's SNI: the name in CONNECT counts.
//
// # Specification
//
// RFC 9110 section 9.3.6 (CONNECT) and 7.6 (message forwarding), RFC 9112 section 3.2 (request targets).
package proxy
