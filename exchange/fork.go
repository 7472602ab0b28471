package exchange

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// tlsRecord is the first byte of a TLS handshake; no HTTP method begins with it.
const tlsRecord = 22

// fork sorts the connections to a data port by their first byte: some begin TLS, others speak in plaintext.
type fork struct {
	x          *Exchange
	l          net.Listener
	door       *door
	tls, plain forkSide
	sorting    sync.WaitGroup
	once       sync.Once
	closed     chan struct{}
}

// forkSide is the listener of one kind of connections. Closing one closes both.
type forkSide struct {
	f     *fork
	conns chan net.Conn
}

func (x *Exchange) newFork(l net.Listener) *fork {
	f := &fork{x: x, l: l, door: newDoor(x.cfg.MaxConns), closed: make(chan struct{})}
	f.tls = forkSide{f, make(chan net.Conn)}
	f.plain = forkSide{f, make(chan net.Conn)}
	return f
}

// run accepts connections until ctx ends or the listener is closed.
func (f *fork) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer f.sorting.Wait()
	defer cancel()
	defer f.Close() //nolint:errcheck // it may be closed already
	for {
		conn, err := f.accept()
		if err != nil {
			return
		}
		c := f.x.welcome(f.door, conn)
		if c == nil {
			return
		}
		c.first = bufio.NewReaderSize(c.Conn, 16)
		f.sorting.Go(func() { f.sort(ctx, c) })
	}
}

// accept waits out what passes, as net/http does: no descriptor is free, say.
func (f *fork) accept() (net.Conn, error) {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		c, err := f.l.Accept()
		var errno syscall.Errno
		if !errors.As(err, &errno) || !errno.Temporary() {
			return c, err
		}
		log.Warnw("data port accepts nobody for a moment", "err", err, "dur", wait)
		select {
		case <-time.After(wait):
		case <-f.closed:
			return nil, net.ErrClosed
		}
	}
}

// sort hands a connection to its side. A stranger that says nothing is cut off.
func (f *fork) sort(ctx context.Context, c *dataConn) {
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	_ = c.SetReadDeadline(time.Now().Add(headerTimeout))
	b, err := c.first.Peek(1)
	if err != nil {
		_ = c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	var conn net.Conn = c
	to := f.plain.conns
	if b[0] == tlsRecord {
		to, conn = f.tls.conns, f.x.secureServer(c)
	}
	select {
	case to <- conn:
	case <-f.closed:
		_ = c.Close()
	}
}

func (f *fork) Close() error {
	f.once.Do(func() {
		close(f.closed)
		f.door.close()
	})
	return f.l.Close()
}

func (s forkSide) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.f.closed:
		return nil, net.ErrClosed
	}
}

func (s forkSide) Close() error   { return s.f.Close() }
func (s forkSide) Addr() net.Addr { return s.f.l.Addr() }
