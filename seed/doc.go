// Package seed is the origin side of a node: what it does to bring bytes from a registry into the mesh.
//
// Any node may read from an origin; a node that carries the seed flag is asked first. Below this package live the registry
// client (origin), files (file), jobs that have nodes fetch images before they are pulled (preheat), and who asks for such jobs:
// Harbor (harbor) and registries that tell of pushes (notify).
package seed
