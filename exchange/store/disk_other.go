//go:build unix && !linux

package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func (osDisk) Free(name string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil
}

// Allocate makes a sparse file.
func (f osFile) Allocate(size int64) (bool, error) { return false, f.Truncate(size) }

// Flush leaves the timing to the kernel.
func (f osFile) Flush(int64, int64) {}

// forgetPages leaves them to the kernel.
func forgetPages(*os.File, int64, int64) {}

func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
