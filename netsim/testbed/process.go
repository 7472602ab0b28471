package testbed

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

// Process is a child running this same binary.
type Process struct {
	Name  string
	Log   string        // file of its stderr
	Ended chan struct{} // closed when it was waited for

	cmd   *exec.Cmd
	stdin io.Closer
	err   error // of Wait; read after Ended
}

// Start starts a child whose stderr goes to the file log, in the network namespace of the calling thread. Its stdout is
// returned for the caller to read, who then calls Reap.
func Start(name, log string, args ...string) (*Process, io.Reader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	file, err := os.Create(log)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close() // the child has its own
	p := &Process{Name: name, Log: log, Ended: make(chan struct{}), cmd: exec.Command(self, args...)}
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

// PID returns the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Reap waits for the child; it must be called once, after the last read of its stdout.
func (p *Process) Reap() {
	p.err = p.cmd.Wait()
	close(p.Ended)
}

// Discard reads the child's stdout to its end and reaps it.
func (p *Process) Discard(stdout io.Reader) {
	_, _ = io.Copy(io.Discard, stdout)
	p.Reap()
}

// Failed tells why the child ended, with the last lines of its log.
func (p *Process) Failed() error {
	return fmt.Errorf("%s ended (%v):\n%s", p.Name, p.err, Tail(p.Log, 2000))
}

// Stop ends the child, politely, then by force, and returns when it has ended.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.stdin.Close()
	select {
	case <-p.Ended:
	case <-time.After(stopTimeout):
		p.Kill()
	}
}

// Kill ends the child at once and returns when it has ended.
func (p *Process) Kill() {
	if err := p.cmd.Process.Kill(); err == nil || errors.Is(err, os.ErrProcessDone) {
		<-p.Ended
	}
}

// Halt stops the child with its connections open, or lets it go on.
func (p *Process) Halt(on bool) error {
	sig := syscall.SIGCONT
	if on {
		sig = syscall.SIGSTOP
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s %v: %w", p.Name, sig, err)
	}
	return nil
}

// Tail returns at most the last n bytes of a file.
func Tail(path string, n int) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return data[max(0, len(data)-n):]
}
