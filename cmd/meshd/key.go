package main

import (
	"fmt"

	"github.com/meshd-project/meshd/node"
)

// keyNewCommand prints a mesh key. It goes to stdout only, so that `meshd key new > mesh.key` is all there is to it.
type keyNewCommand struct{}

// Run prints 256 random bits in the format of libp2p's private networks.
func (keyNewCommand) Run(std streams) error {
	key, err := node.NewMeshKey()
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(std.out, key)
	return err
}
