// Package mirror is what container clients talk to: the OCI distribution API as an
// [http.Handler]. Pulls are its own business, pushes it passes on.
//
// # What it owns
//
// The mirror owns the HTTP surface and nothing below it. It decides which
// registry a request means, asks that registry whether the client may have what
// it names, and writes the answer. Blobs come from the mesh through [Blobs],
// manifests from disk through [Documents], and everything that only the registry
// can know from [Origin]. All three are interfaces declared here and plugged in
// by the composition root; no package below the mirror is imported.
//
// # Routes
//
//	GET, HEAD /v2/                                  200 with a token, else 401
//	GET, HEAD /v2/token                             a token, for whoever asks
//	GET, HEAD /v2/<name>/manifests/<tag or digest>
//	GET, HEAD /v2/<name>/blobs/<digest>             ranges: first-last, open, suffix
//	GET, HEAD /v2/<name>/tags/list
//	GET, HEAD /v2/<name>/referrers/<digest>
//	PUT, DELETE /v2/<name>/manifests/<tag or digest>
//	DELETE /v2/<name>/blobs/<digest>
//	POST /v2/<name>/blobs/uploads/
//	GET, HEAD, PATCH, PUT, DELETE /v2/<name>/blobs/uploads/<upload>
//
// The registry is, in this order: the query parameter ns; the first element of
// the name, if it is a configured registry, has a dot or a colon, or is
// localhost; the default registry. A name that repeats ns as its first element
// loses it (containerd with override_path sends both).
//
// # The gate
//
// Nothing is served on the strength of a cache alone. Each answer needs a grant:
// the origin said yes to these credentials for this digest in this repository
// within Config.GrantTTL. A yes for a manifest covers the config, the layers and
// the manifests that it names, because a registry refuses a manifest whose parts
// it does not hold. It does not cover what a registry accepts unseen (the
// subject, and layers that carry URLs or a non-distributable type): those are
// asked for one by one. Without a grant the origin is asked (HEAD, coalesced)
// with the client's own Authorization. When it cannot answer at all (not reached,
// time-out, 429, 5xx) a grant up to Config.StaleTTL old serves, one to credentials
// up to Config.StalePrivateTTL; a 401, 403 or 404 withdraws the grant. A 401 answers for its credentials and repository, a 403 for
// its question, for Config.RefusalTTL. Grants and refusals live in memory,
// bounded, keyed by a salted hash: no credential is kept.
//
// A no is the origin's too: a blob that is known by its digest alone, in no
// repository that the client may read, is answered as the origin would. Blobs
// that needed credentials are kept apart by registry below [Blobs], because a
// registry's yes is a yes for what that registry has, whatever the digest.
//
// # Tags
//
// Each pull by tag asks the origin what the tag names, together with whoever asks
// the same: by HEAD and If-None-Match if the manifest that it named last is here.
// Within Config.TagTTL of an answer it is not asked by those who have a fresh grant
// for that manifest. While the origin cannot answer, its last answer serves under
// the gate's rule for old grants, with Age and Warning headers and a line in the
// log. An origin that could not answer is left alone for some seconds by all whom
// an old answer serves. [Mirror.Tags] and [Mirror.Restore] carry what anybody was
// told over a restart; what credentials were told is not written down.
//
// # Logging in
//
// Clients that ping send credentials only after a 401 on /v2/. They get a Bearer
// challenge that names the mirror's own token endpoint, which gives a token to
// everybody: to who brings a name and password, one that holds them, encrypted
// under a key that only this process has, good for minutes and for the registry
// that its scope names. A request with such a token is put to the origin
// anonymously; only if that is refused, with the credentials in it. The token
// itself goes nowhere. A login for the mirror's name says nothing of registries,
// so one that a registry has accepted goes to no other but those in the
// configuration. A token that has expired, was changed or is another node's gets
// a 401 with a fresh challenge.
//
// Every other Authorization, Basic or a registry's own token, is between the
// client and its registry. A registry's challenge is never passed on: a client that
// logged in at the registry's token server by itself would bring another token with
// each pull, and each would be a question there (a burst of a thousand pulls, a
// thousand questions); and careful clients (oras-go) go to no token server on a
// private address other than the one that they were sent to.
//
// # Pushes
//
// A push goes to the registry as it is, with the client's own credentials, once and
// as it comes; nothing of it is kept. A login out of a token of the mirror goes
// along at once, under the same rule as for pulls which registry may have it. A
// Location at the registry is rewritten to lead back here, whatever path the
// registry keeps uploads at (other paths travel sealed in the upload's name, for an
// hour and until a restart); one at another host is passed on as it is, and no
// redirect is followed. A mount from another registry is left out, so that the blob
// is sent. The first pull of a tag after its push asks the registry, whatever is
// remembered.
//
// # Ranges
//
// A range of a blob whose size is known is wanted as that part only ([BlobWant]):
// the mesh brings in what covers it, first. What one request is given of a blob is
// proven piece by piece; only the whole is proven by its digest.
//
// # Streaming
//
// A blob's status line is written together with its first byte, so that until
// then every failure is an OCI error with a fitting status: 504 after
// Config.FirstByteTimeout. After that a failure cuts the connection
// ([http.ErrAbortHandler]); a body is never ended cleanly short of its
// Content-Length. Writes go through ReadFrom of the response writer, so that a
// file leaves by sendfile, one bounded chunk a write deadline: a client has to
// make progress, not to be fast.
//
// # Lifecycle and concurrency
//
// [New] starts nothing. [Mirror.ServeHTTP] is safe for concurrent use.
// Questions to the origin run in goroutines of their own, because several clients
// share them: one client leaving does not end them, the last one leaving does.
// Stopping, in this order: [Mirror.Drain] (new requests get 503), the server's
// Shutdown, [Mirror.Close] (cancels what is still asked and waits for it).
//
// # What it refuses
//
// Absolute request URIs (it is no proxy), names, digests and queries outside the
// grammar, bodies on a pull that do not end, manifests above Config.ManifestMax. It never sends a
// Basic challenge, of its own or of an origin: clients would put the password
// into every request.
//
// # Specification
//
// OCI distribution-spec 1.1, RFC 9110 sections 13
// (conditional requests), 14 (ranges) and 11 (challenges), and the Docker registry
// token authentication protocol (GET only). Several ranges in one request are
// answered with the whole blob, which RFC 9110 allows. A 404 to referrers is
// passed on and not turned into an empty index: the specification makes 404 the
// signal to fall back to the referrers tag, and an empty index would hide the
// signatures that a client would find there.
package mirror
