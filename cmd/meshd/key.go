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

// keyFile is the argument of the commands that work on a mesh key's file.
type keyFile struct {
	File string `arg:"" help:"File of the mesh key, as --mesh-key has it."`
}

// keyRotateCommand is the first step of a rotation.
type keyRotateCommand struct{ keyFile }

// Run puts a new key before the one in the file.
func (k keyRotateCommand) Run(std streams) error {
	ids, err := node.RotateMeshKey(k.File)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "%s is new, %s stays good. Copy %s to every host; nodes take it over within seconds.\n"+
		"When `meshd status` shows no connection with %s on any host: meshd key retire %s, and copy it again.\n", ids[0], ids[1], k.File, ids[1], k.File)
	return err
}

// keyRetireCommand is the last step of a rotation.
type keyRetireCommand struct{ keyFile }

// Run leaves the new key alone in the file.
func (k keyRetireCommand) Run(std streams) error {
	ids, err := node.RetireMeshKey(k.File)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "%s is the only key now. Copy %s to every host.\n", ids[0], k.File)
	return err
}

// keyShowCommand tells keys apart without showing them.
type keyShowCommand struct{ keyFile }

// Run prints the ids of the keys in a file, the one in use first.
func (k keyShowCommand) Run(std streams) error {
	ids, err := node.MeshKeyIDs(k.File)
	if err != nil {
		return err
	}
	for _, id := range ids {
		fmt.Fprintln(std.out, id)
	}
	return nil
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
