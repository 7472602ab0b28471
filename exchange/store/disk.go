package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// disk is the part of the operating system that can lose data or run full. Tests put faults behind it: each call
// may fail without effect, or fail although it had its effect. Calls may come from any goroutine.
type disk interface {
	// Open opens a file with the flags of os.OpenFile, mode 0600.
	Open(name string, flag int) (file, error)
	Rename(from, to string) error
	// Remove deletes a file. One that is absent is no error.
	Remove(name string) error
	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error
	// Free returns the bytes of the file system that are free for us, and those that it has in all.
	Free(name string) (free, total int64, err error)
}

// file is an open file of a disk.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	// Sync makes the content durable. After an error nobody knows what is on disk: the file is given up.
	Sync() error
	Stat() (fs.FileInfo, error)
	// Allocate makes the file size bytes long. It reports whether blocks were set aside for them.
	Allocate(size int64) (bool, error)
	// Flush starts to write a range out. It promises nothing.
	Flush(off, n int64)
}

type osDisk struct{}

func (osDisk) Open(name string, flag int) (file, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }

func (osDisk) Remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (osDisk) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

type osFile struct{ *os.File }

// noSpace gives an error of a full disk or quota its name.
func noSpace(err error) error {
	if isNoSpace(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}
