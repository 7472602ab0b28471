package setup

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"

	"github.com/rogpeppe/go-internal/diff"
)

// backupSuffix names the file beside a changed one that holds what was there before.
const backupSuffix = ".before-meshd"

// part is setup's part in one file of a client. Its functions get the file's bytes, nil if there is no file, and return
// what it should hold; nil from take means that nothing is left. Errors name the file.
type part struct {
	path  string
	put   func(old []byte) ([]byte, error)
	take  func(old []byte) ([]byte, error)
	after string // the command that has the client read the file again, "" if it does by itself
}

// edit is one file as it is and as it is to be; nil is no file.
type edit struct {
	path     string
	old, new []byte
	backup   bool   // keep old beside it
	forget   bool   // remove the backup
	after    string // as of the part
}

// install computes the edit that puts the part in.
func (p part) install() (edit, error) {
	e := edit{path: p.path, after: p.after}
	var err error
	if e.old, err = read(p.path); err != nil {
		return e, err
	}
	e.new, err = p.put(e.old)
	e.backup = e.changes() && e.old != nil
	return e, err
}

// undo computes the edit that takes the part out: back to the backup if nobody has edited the file since, else only
// what setup put in goes.
func (p part) undo() (edit, error) {
	e := edit{path: p.path, after: p.after, forget: true}
	var err error
	if e.old, err = read(p.path); err != nil || e.old == nil {
		return e, err
	}
	before, err := read(p.path + backupSuffix)
	if err != nil {
		return e, err
	}
	if after, err := p.put(before); err == nil && bytes.Equal(after, e.old) && !bytes.Equal(before, e.old) {
		e.new = before
		return e, nil
	}
	e.new, err = p.take(e.old)
	return e, err
}

func (e edit) changes() bool {
	return !bytes.Equal(e.old, e.new) || (e.old == nil) != (e.new == nil)
}

// diff shows the edit to people, and to the logs of what runs setup: what looks like a secret is left out.
func (e edit) diff() []byte {
	before, after := e.path, e.path
	if e.old == nil {
		before = "/dev/null"
	}
	if e.new == nil {
		after = "/dev/null"
	}
	return diff.Diff(before, hideSecrets(e.old), after, hideSecrets(e.new))
}

var (
	userInfo = regexp.MustCompile(`(://)[^/@\s"']+@`) // of a URL
	// secretValue is what stands behind a name like authorization or password.
	secretValue = regexp.MustCompile(`(?i)((?:auth|password|passwd|secret|token)[\w-]*["']?\s*[:=]\s*\[?\s*["'])[^"']+`)
)

// hideSecrets puts dots in the place of what clients' files may hold and nobody should read over a shoulder.
func hideSecrets(data []byte) []byte {
	data = userInfo.ReplaceAll(data, []byte("${1}...@"))
	return secretValue.ReplaceAll(data, []byte("${1}..."))
}

// write makes the edit, the backup first.
func (e edit) write() error {
	if e.backup {
		if err := keep(e.path); err != nil {
			return fmt.Errorf("keep a backup of %s: %w", e.path, err)
		}
	}
	var err error
	switch {
	case !e.changes():
	case e.new == nil:
		err = discard(e.path)
	default:
		err = replace(e.path, e.new)
	}
	if err == nil && e.forget {
		err = discard(e.path + backupSuffix)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", e.path, err)
	}
	return nil
}

// errByHand marks a file in which setup cannot place its part.
var errByHand = errors.New("it is left as it is")
