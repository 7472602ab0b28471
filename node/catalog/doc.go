// Package catalog finds the names that people have for what is in the store.
//
// A blob has no name of its own. Something that somebody named (a [Root]: a pin, a preheat, a tag that a client pulled) leads
// to a manifest, an index to the manifests in it, and a manifest to its configuration and layers. What no root leads to is
// listed by the manifest that names it, and that one by its digest. What is in no manifest here has no name. The platform of
// an image is what its index says or, without one, its configuration.
//
// # What it refuses
//
// It keeps nothing and asks nobody: a [List] reads the store's list and the manifests and configurations in the store, which
// does not count as their use. One call reads at most maxRead bytes, for at most maxTime, and remembers at most maxParts digests;
// what is beyond has no name, and [Catalog].Partial says so.
//
// # Private images
//
// Their manifests are never on disk. A root may bring those that are in memory (Root.Documents), and their layers go by
// the names that the store has for them. Who may see such names is the caller's to decide.
//
// A List is one goroutine's. Lists are independent; it is for the caller to have one at a time.
package catalog
