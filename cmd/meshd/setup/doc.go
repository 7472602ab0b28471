// Package setup is `meshd setup` and `meshd ca`: it changes the configuration of container clients on this host so that
// they pull through meshd, and takes the change back.
//
// # What it owns
//
// The knowledge of where docker, containerd, podman and CRI-O keep their configuration; edits of it that leave every
// other byte as it is; the backup beside each file that was changed.
//
// # How a change is made
//
// Each client is a function from the files that are there to the files that should be there ([edit]). All edits are
// computed, and checked by reading the result as the client would, before the first file is written. A file is replaced
// in one step, with its mode and owner. A second run finds nothing to do. --undo puts the backup back if the file is
// what setup made of it; if somebody has edited it since, only setup's own part is taken out.
//
// # What it refuses
//
// To touch a file that does not parse, or one in which its part cannot be placed safely: it says what to write where.
// It starts and stops no service; it says which one has to be, and how.
package setup
