package demo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// stopTimeout is how long a child may drain before it is killed.
const stopTimeout = 10 * time.Second

// process is a child running this same binary.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	log   string        // file of its stderr
	ended chan struct{} // closed when it was waited for
	err   error         // of Wait; read after ended
}

// startProcess starts a child whose stderr goes to the file log. Its stdout is returned for the caller to read.
func startProcess(name, log string, args ...string) (*process, io.Reader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	file, err := os.Create(log)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close() // the child has its own
	p := &process{name: name, cmd: exec.Command(self, args...), log: log, ended: make(chan struct{})}
	p.cmd.Stderr = file
	p.cmd.SysProcAttr = childAttr()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, out, nil
}

// reap waits for the child; it must be called once, after the last read of its stdout.
func (p *process) reap() {
	p.err = p.cmd.Wait()
	close(p.ended)
}

// failed tells why the child ended, with the last lines of its log.
func (p *process) failed() error {
	return fmt.Errorf("%s ended (%v):\n%s", p.name, p.err, tail(p.log, 2000))
}

// stop ends the child: politely, then by force.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.stdin.Close()
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		if err := p.cmd.Process.Kill(); err == nil || errors.Is(err, os.ErrProcessDone) {
			<-p.ended
		}
	}
}

// tail returns at most the last n bytes of a file.
func tail(path string, n int) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return data[max(0, len(data)-n):]
}
