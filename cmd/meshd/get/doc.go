// Package get is what `meshd get` does: it has files and images brought by the node on this host, or fetches them itself if
// none runs there, and puts them in place whole or not at all.
//
// # Files
//
// A [Source] gives one version of a file from an offset on: the node's admin API, its gateway, or the file's own server. A
// [Job] writes it beside its target (NAME.meshd-part, with NAME.meshd-part.json telling the version), goes on after cuts and
// interruptions while the version is the same, starts again when it is another, checks length and digest, and renames.
// Bytes of two versions are never mixed, from whatever source they come.
//
// # Images
//
// [Image] pulls an image, through the node's mirror if one answers there, into an OCI layout or an archive of one.
//
// # Errors
//
// An [Error] has the exit code that the operator's page (docs/files.md) lists.
//
// One goroutine uses a Job; jobs are independent, but no two may have one target (the part is locked).
package get
