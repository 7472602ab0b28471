package node

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxSecret bounds a secret file in bytes.
const maxSecret = 64 << 10

// Who else may have access to a secret file: nobody for what the node wrote itself; for what the operator gives, the group
// may read, because that is how systemd's credentials and Kubernetes' secrets with an fsGroup look.
const (
	ownSecret   fs.FileMode = 0o077
	givenSecret fs.FileMode = 0o027
)

// ReadSecret reads a file that the operator gives; it fails if others have access to it.
func ReadSecret(path string) ([]byte, error) { return readSecret(path, givenSecret) }

// readSecret reads a small file that others must not have access to: no bit of forbid may be set.
func readSecret(path string, forbid fs.FileMode) ([]byte, error) {
	f, info, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkSecret(path, info, forbid); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxSecret))
}

// openFile opens a file that the operator gives. A pipe is refused: nobody may ever write to it, and the node would wait.
func openFile(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// closeDir takes from others the right to write into a directory that was there already. That fails if it belongs to
// somebody else; then the log says so, and whoever gave it has to know.
func closeDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	mode := info.Mode().Perm()
	if mode&0o022 == 0 {
		return nil
	}
	if err := os.Chmod(dir, mode&^0o022); err != nil {
		log.Warnw("others can write into the data dir", "dir", dir, "mode", mode.String(), "err", err)
	}
	return nil
}

// hidden reports whether a directory above a file keeps everybody but its owner out: then the file's own mode matters
// to nobody. It is so below /root and in most temporary directories.
func hidden(path string) bool {
	path, err := filepath.EvalSymlinks(path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	for err == nil && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o011 == 0 {
			return true
		}
	}
	return false
}

// checkSecret tells whether others have access to a secret file, and what to do about it.
func checkSecret(path string, info fs.FileInfo, forbid fs.FileMode) error {
	switch {
	case info.Mode().Perm()&forbid != 0 && !hidden(path):
		return fmt.Errorf("%s is open to others (mode %#o): want 0600 (chmod 600 %s)", path, info.Mode().Perm(), path)
	case info.Size() > maxSecret:
		return fmt.Errorf("%s has %d bytes: want at most %d", path, info.Size(), maxSecret)
	}
	return nil
}
