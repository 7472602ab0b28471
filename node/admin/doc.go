// Package admin is the framework of the node's HTTP interface for operators and probes: who may ask, what a body may
// be, and how an error looks. What there is to ask is a table of Route that the caller gives; package node fills it, so
// that the parts of a node need not import this one.
//
// # Who may ask
//
// Everything is denied unless it is listed: other paths are 404, other methods on a path 405. A Guard says who may:
//
//	listens on               reading (GET, HEAD)    writing (POST, PUT, DELETE)
//	loopback                 everybody              token
//	loopback, token given    token                  token
//	unix socket              everybody              everybody: the socket has mode 0600
//	unix socket, token given token                  token
//	elsewhere (TLS only)     token                  token
//
// A token goes in "Authorization: Bearer TOKEN" and is compared in constant time; a missing or wrong one is 401, before
// it is told whether the path exists. On loopback writing needs a token because every user and every container with the
// host's network reaches that port; the node makes one that only its own user can read. A handler that reads may show more to
// those who may write (Trusted).
//
// A page in a browser on this host reaches loopback too. It cannot point a name of its own at the port (Host has to be an
// IP address or localhost there), it cannot write without the token, and a writing request that a browser marks as
// another site's (Sec-Fetch-Site, Origin; net/http.CrossOriginProtection) is refused with 403 whatever it brings.
//
// # Bodies and errors
//
// Answers are JSON, but for probes and metrics. A request's body is JSON of at most MaxBody bytes, with its content type
// and without unknown fields or a second value (Decode). Every refusal is {"error": TEXT} with the status of an *Error;
// any other error is logged and told as 500 without its text. At most maxRequests are answered at once, others get 503
// with Retry-After.
//
// Handlers run concurrently; the package keeps no state but the counters of these bounds.
package admin
