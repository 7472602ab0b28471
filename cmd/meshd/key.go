package main

import (
	"fmt"
	"io"
	"os"

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
	return writeSecret(std.out, key)
}

// writeSecret prints a secret. If the shell has made a file for it, that is closed to others first: a node does not start
// with a secret that others can read.
func writeSecret(w io.Writer, secret string) error {
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			if err := f.Chmod(0o600); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprint(w, secret)
	return err
}
