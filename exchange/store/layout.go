package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// Layout is a directory of blobs as an OCI layout has them, blobs/ALG/HEX, that somebody else writes and deletes in: such
// as containerd's content store. It is read only. A file that is there is whole, by the rules of such directories; it may
// be gone at the next look, and what is open then stays readable.
type Layout struct{ dir string }

// OpenLayout checks that a directory looks like a layout and can be read, or like the content store of a containerd that
// has pulled nothing yet: that has no blobs/ALG before its first, and an ingest from its start.
func OpenLayout(dir string) (*Layout, error) {
	f, err := os.Open(filepath.Join(dir, "blobs", string(digest.SHA256)))
	if errors.Is(err, fs.ErrNotExist) {
		if ingest, statErr := os.Stat(filepath.Join(dir, "ingest")); statErr == nil && ingest.IsDir() {
			return &Layout{dir}, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("no layout of blobs in %s: %w", dir, err)
	}
	defer f.Close()
	if _, err := f.Readdirnames(1); err != nil && err != io.EOF {
		return nil, fmt.Errorf("no layout of blobs in %s: %w", dir, err)
	}
	return &Layout{dir}, nil
}

// path names the file of a blob's bytes, whatever its name is.
func (l *Layout) path(d digest.Digest) string {
	content, _ := Content(d)
	return filepath.Join(l.dir, "blobs", string(content.Algorithm()), content.Encoded())
}

// stat describes the regular file of a blob, ErrNotFound if there is none.
func (l *Layout) stat(d digest.Digest) (fs.FileInfo, error) {
	info, err := os.Lstat(l.path(d))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, ErrNotFound
	}
	return info, err
}

// Open implements Backend.
func (l *Layout) Open(_ context.Context, d digest.Digest) (Object, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	info, err := l.stat(d)
	if err != nil {
		return nil, fmt.Errorf("layout: open %s: %w", d, err)
	}
	f, err := os.Open(l.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("layout: open %s: %w", d, err)
	}
	if opened, err := f.Stat(); err != nil || !os.SameFile(info, opened) {
		_ = f.Close()
		return nil, fmt.Errorf("layout: open %s: %w", d, ErrNotFound)
	}
	return layoutFile{f, info.Size()}, nil
}

type layoutFile struct {
	*os.File
	size int64
}

func (f layoutFile) Size() int64               { return f.size }
func (f layoutFile) Outline() (Outline, error) { return Outline{}, ErrNotFound }
