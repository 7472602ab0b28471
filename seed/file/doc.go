// Package file reads plain files from HTTP servers, each version of a file as a thing of its own.
//
// # What it owns
//
//   - what makes two requests mean the same file: [Parse], which drops what does not count of a URL;
//   - what makes two answers the same version of it: [Version], the validators and the length, and [Identity], which a
//     name in the mesh is made of;
//   - which hosts may be asked: [Hosts], of each redirect too;
//   - the reading: [Client.Probe] learns the version, [Client.Read] reads a range of it and of no other.
//
// # One version or an error
//
// A version can be shared, resumed and read in parts if it is strong: it has an ETag that is not weak, or a Last-Modified
// date at least a second before the answer's Date and a length (RFC 9110, 8.8.2.2: two versions within one second have one
// date). Each part is asked for on condition (If-Match, If-Unmodified-Since) and its answer compared, because servers
// ignore conditions: anything else than the version that was asked for is [ErrChanged]. A version that is not strong can be
// read in one answer only, from its start.
//
// # Secrets
//
// Headers of a request go to the scheme, host and port that it names and to no redirect's other host; from https no redirect
// leads to http. Errors name host and path of a URL, never its query, userinfo or fragment. [Identity] of a
// request with headers is made with a keyed hash of them: who cannot send them cannot name the file.
//
// # Lifecycle and concurrency
//
// A [Client] starts nothing and may be used from any goroutine. One goroutine reads a [Body]; any may close it.
//
// # What it refuses
//
// Schemes other than http and https, hosts that are not allowed, more than 10 redirects, answers with several ranges,
// encodings that nobody asked for being taken off: a file is the bytes that the server sends.
package file
