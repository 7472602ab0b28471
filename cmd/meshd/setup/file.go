package setup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxFile bounds what is read of a configuration file.
const maxFile = 1 << 20

// read returns a file's bytes, nil if it is not there. Links are followed; what is no file (a pipe would never end), and
// a link that leads nowhere, are somebody's doing and left to them.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if to, err := os.Readlink(path); err == nil {
			return nil, fmt.Errorf("%s: it is a link to %s, which is not there: %w", path, to, errByHand)
		}
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: it is no file: %w", path, errByHand)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxFile)
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// replace writes a file in one step, synced: after a crash it holds the old content or the new. Mode and owner of what
// was there stay, else the mode is 0644; missing folders are made (0755). A symbolic link stays one.
func replace(path string, data []byte) error {
	path = target(path)
	return writeLike(path, data, path)
}

// target is what a path leads to if it is a symbolic link.
func target(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// writeLike is replace with mode and owner of another file.
func writeLike(path string, data []byte, model string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is gone when all went well
	_, err = f.Write(data)
	err = errors.Join(err, inherit(f, model), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// inherit gives f mode and owner of the file at path.
func inherit(f *os.File, path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f.Chmod(0o644)
	}
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && (int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid()) {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(info.Mode().Perm())
}

// discard removes a file.
func discard(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// keep copies a file to its backup, with its mode and owner: it may hold secrets.
func keep(path string) error {
	data, err := read(path)
	if err != nil {
		return err
	}
	return writeLike(path+backupSuffix, data, target(path))
}
