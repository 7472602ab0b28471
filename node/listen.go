package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// socket is a listening socket that outlives the servers on it (kept.go).
type socket interface {
	net.Listener
	SetDeadline(time.Time) error
}

// listen opens a listener for the address that a flag gave, HOST:PORT or unix:PATH; the error names both.
func listen(flag, addr string) (socket, error) {
	if path, ok := unixPath(addr); ok {
		return listenUnix(flag, path)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, listenError(flag, addr, err)
	}
	return l.(*net.TCPListener), nil
}

// listenUnix opens a socket that only this user reaches, in the place of one that nobody answers at any more.
func listenUnix(flag, path string) (socket, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, listenError(flag, path, syscall.EADDRINUSE)
		}
		if err := os.Remove(path); err != nil {
			return nil, listenError(flag, path, err)
		}
	}
	// The mode of the open socket becomes that of the file, so nobody gets in between.
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }), err)
	}}
	l, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, listenError(flag, path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(listenError(flag, path, err), l.Close())
	}
	return l.(*net.UnixListener), nil
}

func listenError(flag, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("--%s: %s is taken by another program: %w", flag, addr, err)
	}
	return fmt.Errorf("--%s: listen on %s: %w", flag, addr, err)
}
