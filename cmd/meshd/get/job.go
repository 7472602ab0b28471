package get

import (
	"context"
	"crypto/md5"  //nolint:gosec // the user asks for it
	"crypto/sha1" //nolint:gosec // the user asks for it
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

const (
	maxFailures = 6 // in a row without a byte
	maxVersions = 4 // of a file that changes while it is read
	copyBuffer  = 256 << 10
)

// Job is one file to get.
type Job struct {
	File    File
	Sources []Source       // the first that is there is asked
	Target  string         // path; "" to write to Out. A device or a pipe is written to as it is
	Out     io.Writer      // if there is no Target
	Digest  string         // ALGORITHM:HEX to check; "" for none
	Limit   *rate.Limiter  // nil: none
	See     Progress       // told what happens
	Say     func(s string) // told what people should know

	began time.Time
}

// Progress sees a file come. Its methods are called by one goroutine at a time.
type Progress interface {
	Wait(w *Wait)                        // no byte comes, once a second; nil: that is over
	Start(from string, have, size int64) // once for each version; size is -1 if unknown
	Add(n int)
	Done(err error)
}

var algorithms = map[string]func() hash.Hash{"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}

// CheckDigest reports what is wrong with a digest that a user gives, and returns it in its one spelling.
func CheckDigest(s string) (string, error) {
	s = strings.ToLower(s)
	name, value, ok := strings.Cut(s, ":")
	h, known := algorithms[name]
	if raw, err := hex.DecodeString(value); !ok || !known || err != nil || len(raw) != h().Size() {
		return "", errors.New("want md5:HEX, sha1:HEX, sha256:HEX or sha512:HEX, of the right length")
	}
	return s, nil
}

// sink is where the bytes go.
type sink interface {
	io.Writer
	at() (off int64, tag string)
	restart(tag string) error
}

func (p *part) at() (int64, string) { return p.off, p.tag }

// pipe is a sink that cannot take back what it was given.
type pipe struct {
	w   io.Writer
	off int64
	tag string
}

func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.off += int64(n)
	if err != nil {
		err = &Error{Code: ExitDisk, Err: err}
	}
	return n, err
}

func (p *pipe) at() (int64, string) { return p.off, p.tag }

func (p *pipe) restart(tag string) error {
	if p.off > 0 {
		return &Error{Code: ExitChanged, Err: errors.New("the file has changed after some of it was written out")}
	}
	p.tag = tag
	return nil
}

// Run gets the file. It fails with an *Error.
func (j *Job) Run(ctx context.Context) (err error) {
	j.began = time.Now()
	defer func() { j.See.Done(err) }()
	if j.Target == "" {
		return final(ctx, j.fill(ctx, &pipe{w: j.Out}))
	}
	switch info, err := os.Stat(j.Target); {
	case err == nil && info.IsDir():
		return &Error{Code: ExitDisk, Err: fmt.Errorf("%s is a directory", j.Target)}
	case err == nil && !info.Mode().IsRegular():
		return final(ctx, j.into(ctx, j.Target))
	}
	p, err := openPart(j.Target)
	if err != nil {
		return final(ctx, err)
	}
	err = final(ctx, j.fill(ctx, p))
	var e *Error
	switch {
	case err == nil:
		return final(ctx, p.finish())
	case errors.As(err, &e) && e.Code == ExitDigest:
		_ = p.drop()
	default:
		_ = p.keep()
	}
	return err
}

// into writes to something that is there and no file, such as /dev/null.
func (j *Job) into(ctx context.Context, path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return j.fill(ctx, &pipe{w: f})
}

// fill brings the whole file into a sink, over as many answers as it takes.
func (j *Job) fill(ctx context.Context, s sink) error {
	var h hash.Hash
	failures, versions := 0, 0
	if name, _, ok := strings.Cut(j.Digest, ":"); ok {
		h = algorithms[name]()
		if p, ok := s.(*part); ok {
			if err := p.replay(h); err != nil {
				return err
			}
		}
	}
	for {
		before, _ := s.at()
		restarted, err := j.once(ctx, s, h)
		if restarted {
			versions++
		}
		if err == nil {
			return j.check(h)
		}
		if now, _ := s.at(); now != before {
			failures = 0
		}
		var e *Error
		if !errors.As(err, &e) || e.again == 0 || ctx.Err() != nil {
			return err
		}
		if failures++; failures > maxFailures || versions >= maxVersions || e.Code == ExitChanged && failures >= maxVersions {
			return err
		}
		if err := sleep(ctx, min(e.again<<min(failures-1, 5), 30*time.Second)); err != nil {
			return err
		}
	}
}

// once takes one answer as far as it goes. restarted says that it was of a version that the sink had nothing of.
func (j *Job) once(ctx context.Context, s sink, h hash.Hash) (restarted bool, err error) {
	off, tag := s.at()
	src, a, note, err := j.open(ctx, off, tag)
	if note != "" && j.Say != nil {
		j.Say(note)
	}
	if err != nil {
		return false, err
	}
	defer a.Body.Close()
	defer context.AfterFunc(ctx, func() { _ = a.Body.Close() })()
	if a.Off != off || a.Tag != tag || tag == "" {
		if a.Off != 0 {
			return false, &Error{Code: 1, Err: errors.New("the answer begins in the middle")}
		}
		if err := s.restart(a.Tag); err != nil {
			return false, err
		}
		if h != nil {
			h.Reset()
		}
		restarted = true
	}
	j.See.Start(src.String(), a.Off, a.Size)
	n, err := j.move(ctx, s, h, a.Body)
	if err == nil && a.Size >= 0 && a.Off+n != a.Size {
		err = &Error{Code: 1, Err: fmt.Errorf("%d of %d bytes came", a.Off+n, a.Size), again: pause}
	}
	return restarted, err
}

// open asks the first source that is there, and from then on no other: a version of one is none of another's. note is what people
// should know of that.
func (j *Job) open(ctx context.Context, off int64, tag string) (src Source, a *Answer, note string, err error) {
	w := &watch{began: j.began, from: j.Sources[0]}
	defer w.start(j.See)()
	f := j.File
	f.Waiting = w.told
	var why []string
	for i, src := range j.Sources {
		w.asking(src)
		a, err := src.Open(ctx, f, off, tag)
		if errors.Is(err, ErrAbsent) && ctx.Err() == nil {
			why = append(why, fmt.Sprintf("%s: %v", src, err))
			continue
		}
		if len(why) > 0 {
			note = fmt.Sprintf("from %s (%s)", src, strings.Join(why, "; "))
		}
		j.Sources = j.Sources[i:]
		return src, a, note, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, "", err
	}
	return nil, nil, "", &Error{Code: ExitDenied, Err: errors.New(strings.Join(why, "; "))}
}

// move copies an answer at the pace of the limit.
func (j *Job) move(ctx context.Context, s sink, h hash.Hash, body io.Reader) (total int64, err error) {
	buf := make([]byte, copyBuffer)
	if j.Limit != nil {
		buf = buf[:min(len(buf), j.Limit.Burst())]
	}
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if j.Limit != nil {
				if err := j.Limit.WaitN(ctx, n); err != nil {
					<-ctx.Done() // it ends before that could be
					return total, ctx.Err()
				}
			}
			if _, err := s.Write(buf[:n]); err != nil {
				return total, err
			}
			if h != nil {
				h.Write(buf[:n])
			}
			total += int64(n)
			j.See.Add(n)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// check compares the digest of all that came.
func (j *Job) check(h hash.Hash) error {
	if h == nil {
		return nil
	}
	name, _, _ := strings.Cut(j.Digest, ":")
	if got := name + ":" + hex.EncodeToString(h.Sum(nil)); got != j.Digest {
		return errBytes(j.Digest, got)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
