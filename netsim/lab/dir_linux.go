package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const dirPrefix = "meshd-lab-"

// openDir makes the directory of a run below that for temporary files, and removes those of runs that were killed: a run
// holds a lock on its own for as long as its process lives. done removes it.
func openDir() (path string, done func() error, err error) {
	sweep(os.TempDir())
	for range 3 {
		if path, err = os.MkdirTemp("", dirPrefix); err != nil {
			return "", nil, err
		}
		var lock *os.File
		if lock, err = lockDir(path); err != nil {
			continue // another run sweeps at this moment, and removes it
		}
		if _, err = os.Stat(path); err != nil {
			_ = lock.Close() // it did
			continue
		}
		return path, func() error { return errors.Join(os.RemoveAll(path), lock.Close()) }, nil
	}
	return "", nil, fmt.Errorf("make a directory for the run: %w", err)
}

// lockDir locks a directory, and fails if somebody has.
func lockDir(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// sweep removes what killed runs left in a directory, as far as it may.
func sweep(in string) {
	left, _ := filepath.Glob(filepath.Join(in, dirPrefix+"*")) // the pattern is good
	for _, path := range left {
		if lock, err := lockDir(path); err == nil {
			_ = os.RemoveAll(path) // the next run tries again
			_ = lock.Close()
		}
	}
}
