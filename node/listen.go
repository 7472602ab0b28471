package node

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listenTCP opens a listener for the address that a flag gave; the error names both.
func listenTCP(flag, addr string) (*net.TCPListener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, listenError(flag, addr, err)
	}
	return l.(*net.TCPListener), nil
}

func listenError(flag, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("--%s: %s is taken by another program: %w", flag, addr, err)
	}
	return fmt.Errorf("--%s: listen on %s: %w", flag, addr, err)
}
