package main

import (
	"crypto/rand"
	"fmt"
)

// keyNewCommand prints a mesh key. It goes to stdout only, so that `meshd key new > mesh.key` is all there is to it.
type keyNewCommand struct{}

// Run prints 256 random bits in the format of libp2p's private networks.
func (keyNewCommand) Run(std streams) error {
	var key [32]byte
	rand.Read(key[:]) // never fails
	_, err := fmt.Fprintf(std.out, "/key/swarm/psk/1.0.0/\n/base16/\n%x\n", key)
	return err
}
