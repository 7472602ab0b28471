package exchange

import (
	"errors"
	"syscall"
	"time"

	"github.com/meshd-project/meshd/exchange/store"
)

// Shortage says that blobs are not kept.
type Shortage struct {
	Why   string    `json:"why"`
	Do    string    `json:"do"` // what an operator does about it
	Since time.Time `json:"since"`
}

// shortage is why blobs are not kept; guarded by Exchange.mu.
type shortage struct {
	err   error
	need  int64 // bytes that did not fit
	since time.Time
}

// ofDisk reports whether an error of the store is the disk's: it is full, or broken.
func ofDisk(err error) bool {
	for _, other := range []error{store.ErrClosed, store.ErrUnsupported, store.ErrInvalid, store.ErrInUse, store.ErrConflict, store.ErrComplete} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}

// remedies say what to do about a disk that takes no blobs, by error.
var remedies = []struct {
	errs []error
	do   string
}{
	{[]error{store.ErrNoSpace}, "make room under --data-dir or raise --cache-size"},
	{[]error{syscall.EACCES, syscall.EPERM}, "give meshd's user all that is under --data-dir (chown -R), and its unit leave to write there (ReadWritePaths=, SELinux, AppArmor)"},
	{[]error{syscall.EROFS}, "--data-dir is on a file system that is read-only: if dmesg tells of errors, check it; then mount it for writing"},
	{[]error{syscall.EIO, syscall.ENXIO, syscall.ENODEV, syscall.ESTALE}, "the device under --data-dir fails: look at dmesg, and move --data-dir to another one"},
	{[]error{syscall.EMFILE, syscall.ENFILE}, "raise the limit of open files (LimitNOFILE=)"},
}

// remedy returns what an operator does about an error of the disk.
func remedy(err error) string {
	for _, r := range remedies {
		for _, e := range r.errs {
			if errors.Is(err, e) {
				return r.do
			}
		}
	}
	return "look at the error and at dmesg, and see that --data-dir can be written"
}

// notKept notes why the store does not take a blob, and says so once for each remedy.
func (x *Exchange) notKept(need int64, err error) {
	if !ofDisk(err) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	do := remedy(err)
	if x.short == nil {
		x.short = &shortage{since: time.Now()}
	}
	if x.short.err == nil || remedy(x.short.err) != do {
		log.Errorw("the disk takes no more: pulls go on and are not kept", "do", do, "err", err)
	}
	x.short.err, x.short.need = err, need
}

// keptAgain notes that the store has kept a blob.
func (x *Exchange) keptAgain() { x.takesAgain(func(error) bool { return true }) }

// roomAgain notes that the store has found room for a blob. Whether a disk that failed otherwise keeps it shows in the end.
func (x *Exchange) roomAgain() {
	x.takesAgain(func(err error) bool { return errors.Is(err, store.ErrNoSpace) })
}

// takesAgain ends a shortage of the kind that ended says.
func (x *Exchange) takesAgain(ended func(error) bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.short != nil && ended(x.short.err) {
		log.Infow("the disk takes blobs again", "dur", time.Since(x.short.since))
		x.short = nil
	}
}

// shortage returns why blobs are not kept, nil if they are. A disk that was full is asked whether it still is.
func (x *Exchange) shortage() *Shortage {
	x.mu.Lock()
	if x.short == nil {
		x.mu.Unlock()
		return nil
	}
	short := *x.short
	x.mu.Unlock()
	if errors.Is(short.err, store.ErrNoSpace) && x.store.Fits(short.need) == nil {
		x.roomAgain()
		return nil
	}
	return &Shortage{Why: short.err.Error(), Do: remedy(short.err), Since: short.since}
}
