// Package files brings plain files through the mesh: it stands between those who ask for a URL (mirror/gateway), the HTTP
// servers (seed/file) and the exchange, which knows names and pieces only.
//
// # Names
//
// A version of a file that can be told from others is named by its URL, validators and length (file.Identity, store.File),
// or by its sha256 digest if the caller gives that. One that cannot be told from others (no strong validator, no digest), an
// empty one, and one for which the store has no room are passed on from the origin and not shared.
//
// Each request asks the origin for the version first, with the caller's own headers: its yes counts for that request, and
// the version that it names is what the caller gets, whole, or an error. A file asked for with headers is named by them as
// well (a hash keyed with the mesh's key), is read from the origin only by nodes whose callers brought them, and is
// given to nobody who did not.
//
// # Who reads the origin
//
// Nodes that want one file share the reading as they do with layers. Where a node lists the file's host
// (Config.Allow) and the file is not private, seeds are asked to do it. What goes through the swarm is the name and, as
// the origin, which node knows more (Place); a seed asks that node for the URL and the version over a stream of its own:
//
//	/meshd/file/1     one JSON object each way, of at most maxMessage bytes
//	{"where": NAME}                → {"url": URL, "etag": …, "modified": …, "size": …}   or {}
//	{"seal": NAME, "root": HEX}    → {"root": HEX}
//
// # Who may make whom read what
//
// A peer that could make a node ask any URL could reach what only that node reaches (SSRF). So a node tells a URL only if
// it lists the host itself, and reads one that it was told only if it lists the host, of every redirect too, and the
// URL and version give the very name that was asked for: a peer can have a listed file read, and nothing else. Addresses of
// this machine, of its link and of metadata services are never connected to, for whomever, unless they are
// listed by themselves; a name that leads to them is not enough. Headers are never told.
//
// # One version for all
//
// Without a digest, the bytes of a file are the word of those members that read it, each piece signed. Honest readers ask
// for one version only and fail otherwise. What an origin does that has two contents under one validator, or a member that
// lies, shows when a node has all pieces: it tells their root to up to three nodes that rendezvous hashing names, who
// keep the first that they were told for an hour. Who has another starts again from the origin, and fails if that
// does not help: a file is whole and the same everywhere, or an error. Who must not believe members gives a digest.
//
// # Lifecycle and concurrency
//
// New starts to answer streams; Close stops that and waits for it. All methods may be called from any goroutine.
package files
