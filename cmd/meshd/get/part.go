package get

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// syncEvery is how many bytes may be lost to a power cut, or a kill.
const syncEvery = 64 << 20

// part is a file on its way, beside its target. What is synced is told by a state file, so that a part is gone on with
// only as far as it is known to be on disk, and only with the version that it is of.
type part struct {
	target string
	f      *os.File
	tag    string // of the bytes; "" if they cannot be gone on with
	off    int64  // where the next byte goes
	synced int64
}

// partState is the state file.
type partState struct {
	Tag    string `json:"version"`
	Synced int64  `json:"synced"` // bytes
}

// openPart takes up what an earlier run left for a target, if anything.
func openPart(target string) (*part, error) {
	p := &part{target: target}
	var err error
	if p.f, err = os.OpenFile(p.name(), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o666); err != nil {
		return nil, err
	}
	if err := p.lock(); err != nil {
		_ = p.f.Close()
		return nil, err
	}
	if err := p.resume(); err != nil {
		_ = p.f.Close()
		return nil, err
	}
	return p, nil
}

// lock makes the part this process's own. One that was put in its place, or removed, between being opened and being locked is
// another's file by now.
func (p *part) lock() error {
	busy := &Error{Code: ExitDisk, Err: fmt.Errorf("%s is being written by another process", p.name())}
	if err := unix.Flock(int(p.f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return busy
	}
	opened, err := p.f.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Lstat(p.name()); err != nil || !os.SameFile(opened, now) {
		return busy
	}
	return nil
}

func (p *part) name() string      { return p.target + ".meshd-part" }
func (p *part) stateName() string { return p.name() + ".json" }

// resume reads the state; one that is missing or does not fit counts as none.
func (p *part) resume() error {
	info, err := p.f.Stat()
	if err != nil {
		return err
	}
	var s partState
	raw, err := os.ReadFile(p.stateName())
	if err != nil || json.Unmarshal(raw, &s) != nil || s.Synced < 0 || s.Synced > info.Size() || s.Tag == "" {
		return p.restart("")
	}
	p.tag, p.off, p.synced = s.Tag, s.Synced, s.Synced
	return p.f.Truncate(p.off)
}

// restart drops what came; what comes now is of another version.
func (p *part) restart(tag string) error {
	p.tag, p.off, p.synced = tag, 0, 0
	if err := os.Remove(p.stateName()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return p.f.Truncate(0)
}

// Write implements io.Writer: it appends.
func (p *part) Write(b []byte) (int, error) {
	n, err := p.f.WriteAt(b, p.off)
	p.off += int64(n)
	if err == nil && p.off-p.synced >= syncEvery {
		err = p.sync()
	}
	return n, err
}

// sync makes what came durable, and says so.
func (p *part) sync() error {
	if p.tag == "" || p.off == p.synced {
		return nil
	}
	if err := p.f.Sync(); err != nil {
		return err
	}
	raw, err := json.Marshal(partState{Tag: p.tag, Synced: p.off})
	if err != nil {
		return err
	}
	temp := p.stateName() + ".tmp"
	err = os.WriteFile(temp, raw, 0o666)
	if err == nil {
		err = os.Rename(temp, p.stateName())
	}
	if err != nil {
		_ = os.Remove(temp)
		return err
	}
	p.synced = p.off
	return nil
}

// replay reads what came so far.
func (p *part) replay(w io.Writer) error {
	_, err := io.Copy(w, io.NewSectionReader(p.f, 0, p.off))
	return err
}

// finish puts the file in its place, or keeps what came.
func (p *part) finish() error {
	if err := p.f.Sync(); err != nil {
		return errors.Join(err, p.f.Close())
	}
	if err := os.Rename(p.name(), p.target); err != nil {
		return errors.Join(err, p.keep())
	}
	_ = os.Remove(p.stateName())
	return p.f.Close()
}

// keep leaves what came for the next time, drop does not.
func (p *part) keep() error {
	if p.off == 0 || p.tag == "" {
		return p.drop()
	}
	return errors.Join(p.sync(), p.f.Close())
}

func (p *part) drop() error {
	_ = os.Remove(p.stateName())
	return errors.Join(os.Remove(p.name()), p.f.Close())
}
