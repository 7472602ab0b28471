// Package gateway serves plain files over HTTP to programs on this host: any URL that the node is allowed to read, through
// the mesh.
//
// # What it owns
//
// The HTTP surface: which request means which file, conditions, ranges, what an error looks like. The files come from
// [Files], which the composition root plugs in.
//
//	GET, HEAD /mesh/<url>    <url> as it is, with its query: /mesh/https://files.example/a.tar?x=1
//
// Request headers go to the file's origin and make the file the caller's own (package seed/file), except those of the
// connection, those that ask for a part or put a condition, which are answered here, and those that every client sends
// and no origin needs (User-Agent, Accept and such). Three are for the node:
//
//	Meshd-Digest: sha256:HEX     what the bytes have to be; lets nodes share the file whatever URL it is asked by
//	Meshd-Filter: NAME,NAME      query parameters that do not tell one file from another
//	Meshd-Waiting: 1             tell once a second, by 102 with this header, what is known while no byte comes ([Waiting])
//
// [Handler.Serve] answers for a file that is named in another way (the admin API's).
//
// # Answers
//
// A version that can be shared has a strong ETag of the node's own, the same on every node of the mesh: If-None-Match, If-Match
// and If-Range work with it, and so does Range (one range; several are answered with the whole). The status line goes out
// with the first byte, so that until then every failure has a fitting status; Meshd-Error says in a word what it was
// ([Error]). After that a failure cuts the connection: an answer never ends cleanly short of its file.
//
// # Who may ask
//
// Whoever reaches the port: it is the mirror's, on loopback. A page in a browser on this host cannot: Host has to be an IP
// address or localhost, and requests that a browser marks as another site's are refused.
//
// # Concurrency
//
// A [Handler] may be used from any goroutine. It answers Config.MaxRequests at once and tells others to come back.
package gateway
