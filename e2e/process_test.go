package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// process is a child with its output in a file.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when it was waited for
	err   error         // of Wait, once ended
}

// logsEnv names a directory that gets the whole logs of the processes of tests that failed.
const logsEnv = "MESHD_E2E_LOGS"

// startProcess starts a child that is killed at the end of the test. The end of its log is shown if the test failed.
func startProcess(t testing.TB, name string, cmd *exec.Cmd) *process {
	t.Helper()
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := &process{name: name, cmd: cmd, log: file.Name(), ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("--- end of the log of %s\n%s", name, p.tail(1500))
			p.keepLog(t)
		}
	})
	return p
}

// keepLog copies the log to where logsEnv says.
func (p *process) keepLog(t testing.TB) {
	dir := os.Getenv(logsEnv)
	if dir == "" {
		return
	}
	dir = filepath.Join(dir, t.Name())
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d.log", p.name, p.cmd.Process.Pid)), []byte(p.output()), 0o644)); err != nil {
		t.Logf("the log of %s is lost: %v", p.name, err)
	}
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends the process at once and waits for it.
func (p *process) kill() {
	if p.running() {
		_ = p.cmd.Process.Kill()
	}
	<-p.ended
}

// terminate sends SIGTERM and returns Wait's error; the process has to end in time.
func (p *process) terminate(t testing.TB, limit time.Duration) error {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return p.err
	case <-time.After(limit):
		t.Fatalf("%s does not end within %v of SIGTERM", p.name, limit)
		return nil
	}
}

func (p *process) output() string {
	data, _ := os.ReadFile(p.log)
	return string(data)
}

func (p *process) tail(n int) string {
	out := p.output()
	return out[max(0, len(out)-n):]
}

// waitFor polls until done says nil, p ends, or the limit passes.
func (p *process) waitFor(t testing.TB, what string, limit time.Duration, done func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := done()
		switch {
		case err == nil:
			return
		case !p.running():
			t.Fatalf("%s ended (%v) before %s:\n%s", p.name, p.err, what, p.tail(4000))
		case time.Now().After(deadline):
			t.Fatalf("%s: no %s within %v: %v", p.name, what, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// network is a 127.A.B.0/24 that nobody else uses.
type network struct{ prefix string }

func newNetwork(t testing.TB) network {
	t.Helper()
	for range 50 {
		n := network{prefix: fmt.Sprintf("127.%d.%d", 1+rand.IntN(253), rand.IntN(255))}
		l, err := net.Listen("tcp", n.host(254)+":65001")
		if err != nil {
			continue
		}
		l.Close()
		return n
	}
	missing(t, "127.0.0.0/8 cannot be bound")
	return network{}
}

// host is one address of the network.
func (n network) host(i int) string { return fmt.Sprintf("%s.%d", n.prefix, i) }
