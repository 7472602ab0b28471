// Package admin is the node's HTTP interface for operators and probes.
//
// Every route is denied unless it is in the table of New: other paths are 404, other methods than GET and HEAD 405.
// It has no authentication yet, so it is served on loopback only, and requests whose Host is a name other than
// localhost are refused: a page in a browser on this host cannot point a name of its own at the port.
//
//	/healthz    200 while the process serves
//	/readyz     200 when the node is up, 503 before that and while it drains
//	/v1/status  what the node is and does, JSON; the fields are node.Status
//	/v1/peers   the members known, JSON
//	/v1/doctor  what is wrong with the node, JSON: a list of node.Check; one request at a time, others get 429
//	/metrics    Prometheus
//
// Handlers may run concurrently; the only state is that turn.
package admin
