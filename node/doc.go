// Package node is the composition root: it makes the parts of a meshd node out of one Config, plugs them together,
// and stops them in order.
package node
