package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"meshd": main})
}

// TestScripts runs the program as a user would. Scripts have free ports in $MIRROR, $ADMIN, $P2P and $DATA.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"MIRROR", "ADMIN", "P2P", "DATA", "OTHER"} {
				port, err := freePort()
				if err != nil {
					return err
				}
				env.Setenv(name, fmt.Sprint(port))
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"ready": ready,
			"mode":  mode,
			"term":  term,
		},
	})
}

// Ports of scripts are below those that Linux gives to whoever does not name one: such a port may be taken again between
// freePort and the node that the script starts.
const firstPort, ports = 10000, 20000

var lastPort = func() *atomic.Uint32 {
	var p atomic.Uint32
	p.Store(rand.Uint32N(ports))
	return &p
}()

// freePort returns a port that nobody listens on, another for each call.
func freePort() (int, error) {
	var last error
	for range 100 {
		port := firstPort + int(lastPort.Add(1)%ports)
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, last
}

// ready PORT waits until the node with this admin port is up.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ready ADMIN-PORT")
	}
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		resp, err := http.Get("http://127.0.0.1:" + args[0] + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("the node is not ready after a minute")
}

// mode PERM FILE checks a file's permissions.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	info, err := os.Stat(filepath.Join(ts.Getenv("WORK"), args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// term sends SIGTERM to all programs in the background: kill knows INT and KILL only.
func term(ts *testscript.TestScript, neg bool, args []string) {
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	}
}
