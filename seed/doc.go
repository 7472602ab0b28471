// Package seed is the origin side of a node: what it does to bring bytes from a registry into the mesh.
//
// Any node may read from an origin; a node that carries the seed flag is asked first. The registry client
// lives in package origin below this one.
package seed
