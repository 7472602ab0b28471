// Package origin is the client for registries, the source of truth of every blob.
//
// # What it owns
//
// From a registry's name to its address (Config.Registries, else https://NAME), connections and their
// trust, the authentication dance, redirects, byte ranges, retries, time bounds, and one error type that
// keeps what the registry said. It reads, and passes pushes on (Push); it neither stores nor verifies: a blob's bytes are proven by
// whoever asked for them.
//
// # Lifecycle and concurrency
//
// New validates the configuration and reads the CA files; nothing is dialled before the first request. A
// Client is safe for concurrent use. Each Body and each response belongs to one reader; it has to be
// closed, and it may be closed by another goroutine than the one that reads. Requests end with their
// context. A token that several requests wait for is fetched once, and goes on being fetched while one of
// them is left. Close ends shared fetches, waits for their goroutines and closes idle connections.
//
// # Authentication
//
// A request carries the client's own Authorization header, or none, and nothing else: the package uses no
// credentials of its own (Client.Authorization only reads those that the operator has configured). An
// anonymous request that is challenged for a bearer token gets an anonymous one and is repeated once. Basic
// credentials are sent to the registry, and exchanged for a token if the registry asks for one. A client's own
// bearer token is passed on unchanged. Tokens are kept in memory, under a keyed hash of the credentials, until
// shortly before they expire; a no is kept for seconds. A refusal keeps the registry's own challenge
// (Error.Challenge), so that it can be passed on.
//
// # Several addresses
//
// A registry may have mirrors and several addresses. A request that can be repeated goes to the mirrors first, without
// credentials, then to the registry's addresses; the next one is asked when one gives no answer, 429 or 5xx, and after
// anything but a yes of a mirror. Whoever gave no answer is asked last, a mirror not at all, for half a minute.
//
// # What it refuses
//
//   - Malformed registry names, repositories, digests and paths, before anything is sent.
//   - Leaving https for http by a redirect or a token realm, unless that registry is configured with an
//     http:// address or as insecure.
//   - Credentials for anybody but the registry and the token server that it names: a hop to another host
//     loses them.
//   - Addresses. A registry that is not configured is never reached on a loopback address, and one that is
//     not configured by its number never on a link-local one. A hop to another host leads to public
//     addresses, to private ones only if the registry is private or configured, and to loopback or
//     link-local ones only if the registry is configured and itself on such an address. Cloud metadata services count as link-local. The check is made on the address that is dialled, after
//     name resolution, so a name that resolves differently the second time gains nothing, and connections
//     made under different rules are never shared.
//   - Answers that contradict themselves: another range than the one asked for, lengths that do not fit.
//   - Asking a registry that has just said 429: that stays the answer, to the same kind of question with the same
//     credentials, for as long as the registry asked for (1 s to 5 min), with what is left of it as Retry-After.
//   - Waiting without bound: for a connection, a header, the next byte, or a Retry-After.
//
// Errors and log lines never hold a query, user information, a token or a credential.
//
// # HTTP/1.1
//
// Only HTTP/1.1 is spoken. Blobs are few, long streams: over HTTP/2 those to one host share a connection,
// thus one congestion window in which one lost segment stalls them all, and one flow-control loop. Four
// at once over TLS on loopback (BenchmarkBlobProtocol, two cores, shared): 300 to 490 MB/s over HTTP/1.1, 60 to 120 over HTTP/2.
//
// # Specifications
//
// OCI distribution-spec 1.1 (pull), RFC 9110 (ranges, authentication challenges, redirects), and the Docker registry
// token authentication protocol. Known deviations that are handled: docker-registry 2.8 answers 416 with the blob's Content-Length and a
// short body; origins without HEAD, Range or Content-Length; access_token instead of token.
package origin
